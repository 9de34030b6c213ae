"""One heartbeat for all leases of this process; it also ends work that is no longer ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

import structlog

from shared.database import reason, retriable
from shared.errors import WaymarkError
from worker_service.leases import Lease, Leases

log = structlog.get_logger()


class LetGo(WaymarkError):
    """The work was stopped from outside: its lease was ``lost``, or this worker is ``stopping``."""

    def __init__(self, cause: Literal["lost", "stopping"]) -> None:
        super().__init__(f"let go: {cause}")
        self.cause = cause


@dataclass(slots=True)
class Holding:
    lease: Lease
    work: asyncio.Task[object]
    fence: asyncio.Timeout
    let_go: LetGo | None = None


class Heartbeat:
    def __init__(self, leases: Leases, interval: float) -> None:
        self.leases = leases
        self.interval = interval
        self.holdings: dict[UUID, Holding] = {}

    @asynccontextmanager
    async def held(self, lease: Lease) -> AsyncIterator[None]:
        """Keep the lease alive while the block runs; raises LetGo if it had to be left."""
        work = asyncio.current_task()
        if work is None:
            raise RuntimeError("a lease is held by a task")
        fence = asyncio.timeout_at(self._fenced_at(lease.taken_at))
        holding = self.holdings[lease.task_id] = Holding(lease, work, fence)
        try:
            async with fence:
                yield
        except TimeoutError:
            if not fence.expired():
                raise
            raise LetGo("lost") from None
        except asyncio.CancelledError:
            if holding.let_go is None:
                raise
            work.uncancel()
            raise holding.let_go from None
        finally:
            del self.holdings[lease.task_id]

    async def run(self, pulse: Callable[[], None] = lambda: None) -> None:
        """Beat at a fixed rhythm, however long a beat takes; ``pulse`` is called each time."""
        clock = asyncio.get_running_loop().time
        next_beat = clock()
        while True:
            next_beat += self.interval
            await asyncio.sleep(next_beat - clock())
            pulse()
            if self.holdings:
                await self.beat()

    async def beat(self) -> None:
        """Extend every lease in one statement; let go of those that others took."""
        holdings = list(self.holdings.values())
        begun = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(self.interval):
                ours = await self.leases.extend([holding.lease for holding in holdings])
        except Exception as error:
            if not retriable(error):
                raise
            log.warning("heartbeat_failed", leases=len(holdings), error=reason(error))
            return
        for holding in filter(self._still_works, holdings):
            if holding.lease.task_id in ours:
                holding.fence.reschedule(self._fenced_at(begun))
            else:
                self._let_go(holding, "lost")

    def let_go_of_all(self) -> None:
        for holding in list(self.holdings.values()):
            self._let_go(holding, "stopping")

    def _fenced_at(self, extended_at: float) -> float:
        """When we must stop unheard: by our own monotonic clock, before the lease can lapse."""
        return extended_at + self.leases.seconds - self.interval / 2

    def _let_go(self, holding: Holding, cause: Literal["lost", "stopping"]) -> None:
        if self._still_works(holding):
            holding.let_go = LetGo(cause)
            holding.work.cancel()

    def _still_works(self, holding: Holding) -> bool:
        """Not while it ends by itself, nor after: a beat takes its time."""
        held = self.holdings.get(holding.lease.task_id) is holding
        return held and holding.let_go is None and not holding.fence.expired()
