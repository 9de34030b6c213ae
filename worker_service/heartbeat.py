"""One heartbeat for all leases of this process; it also ends work that is no longer ours."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

import structlog

from shared.database import retriable
from shared.errors import WaymarkError
from worker_service.leases import Lease, Leases

log = structlog.get_logger()


class LetGo(WaymarkError):
    """The work was stopped from outside: its lease was ``lost``, or this worker is ``stopping``."""

    def __init__(self, reason: Literal["lost", "stopping"]) -> None:
        super().__init__(f"let go: {reason}")
        self.reason = reason


@dataclass(slots=True)
class Holding:
    lease: Lease
    work: asyncio.Task[object]
    extended_at: float = field(default_factory=time.monotonic)
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
        holding = self.holdings[lease.task_id] = Holding(lease, work)
        try:
            yield
        except asyncio.CancelledError:
            if holding.let_go is None:
                raise
            work.uncancel()
            raise holding.let_go from None
        finally:
            del self.holdings[lease.task_id]

    async def run(self) -> None:
        """Beat at a fixed rhythm, however long a beat takes."""
        next_beat = time.monotonic()
        while True:
            next_beat += self.interval
            await asyncio.sleep(next_beat - time.monotonic())
            if self.holdings:
                await self.beat()

    async def beat(self) -> None:
        """Extend every lease; let go of those that others took, or that may lapse unheard."""
        holdings = list(self.holdings.values())
        try:
            async with asyncio.timeout(self.interval / 2):
                ours = await self.leases.extend([holding.lease for holding in holdings])
        except Exception as error:
            if not retriable(error):
                raise
            log.warning("heartbeat_failed", leases=len(holdings), error=str(error))
            self._fence_ourselves(holdings)
            return
        now = time.monotonic()
        for holding in holdings:
            if holding.lease.task_id in ours:
                holding.extended_at = now
            else:
                self._let_go(holding, "lost")

    def let_go_of_all(self) -> None:
        for holding in list(self.holdings.values()):
            self._let_go(holding, "stopping")

    def _fence_ourselves(self, holdings: list[Holding]) -> None:
        # By the monotonic clock. A beat may take half an interval to fail, so the last one that
        # can still find this ends half an interval before the database gives the task away.
        limit = time.monotonic() - self.leases.seconds + self.interval
        for holding in holdings:
            if holding.extended_at < limit:
                self._let_go(holding, "lost")

    def _let_go(self, holding: Holding, reason: Literal["lost", "stopping"]) -> None:
        still_held = self.holdings.get(holding.lease.task_id) is holding
        if still_held and holding.let_go is None:
            holding.let_go = LetGo(reason)
            holding.work.cancel()
