"""Keeps the leases of this process from a thread of its own, and ends work that is not ours.

A thread, because an event loop that is busy for seconds must not cost its tasks their leases. It
vouches for the loop only as long as that turns: see ``watchdog.py``.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Literal
from uuid import UUID

import structlog

from shared.database import Database, reason, retriable
from shared.errors import WaymarkError
from shared.settings import Settings
from worker_service import statements
from worker_service.leases import Lease

log = structlog.get_logger()

RECENT = 0.1
"""Weight of the newest generation in the mean."""

Cause = Literal["lost", "stopping", "canceled"]


class LetGo(WaymarkError):
    """The work was stopped from outside: its lease was ``lost``, this worker is ``stopping``, or
    somebody ``canceled`` the task."""

    def __init__(self, cause: Cause) -> None:
        super().__init__(f"let go: {cause}")
        self.cause = cause


@dataclass(slots=True)
class Holding:
    lease: Lease
    work: asyncio.Task[object]
    extended_at: float
    """By the monotonic clock, before PostgreSQL was asked. Written by the heartbeat's thread."""
    let_go: LetGo | None = None
    fence: asyncio.TimerHandle | None = None


class Heartbeat:
    """``held`` and ``boundary`` belong to the event loop that works, ``beat`` to the thread's."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.holdings: dict[tuple[UUID, int], Holding] = {}
        """By task and token: a task may come back while its former work is still ending."""
        self.draining = False
        self.finished = 0
        self.mean_seconds: float | None = None
        """Of the generations that came to an end of their own, the latest weighted most."""

    # --- on the loop that works ---

    @asynccontextmanager
    async def held(self, lease: Lease) -> AsyncIterator[None]:
        """Keep the lease alive while the block runs; raises LetGo if it had to be left."""
        work = asyncio.current_task()
        if work is None:
            raise RuntimeError("a lease is held by a task")
        holding = self.holdings[_key(lease)] = Holding(lease, work, lease.taken_at)
        self._fence(holding)
        begun = time.monotonic()
        try:
            yield
        except (asyncio.CancelledError, Exception):
            # Whatever the work made of being canceled: it was stopped, it did not fail.
            if holding.let_go is None:
                raise
            work.uncancel()
            raise holding.let_go from None
        finally:
            if holding.let_go is None:
                self._count(time.monotonic() - begun)
            del self.holdings[_key(lease)]
            if holding.fence:
                holding.fence.cancel()

    def _count(self, seconds: float) -> None:
        self.finished += 1
        if self.mean_seconds is None:
            self.mean_seconds = seconds
        self.mean_seconds += RECENT * (seconds - self.mean_seconds)

    def let_go_of(self, lease: Lease) -> LetGo | None:
        """Why the work under this lease is being stopped, if it is."""
        holding = self.holdings.get(_key(lease))
        return holding.let_go if holding else None

    def boundary(self, lease: Lease) -> None:
        """Between two steps: raises LetGo when no further one should begin."""
        if let_go := self.let_go_of(lease):
            raise let_go
        if self.draining:
            raise LetGo("stopping")

    def let_go_of_all(self) -> None:
        for holding in list(self.holdings.values()):
            self._let_go(holding, "stopping")

    def heed(self, asked: Sequence[Holding], found: Found) -> None:
        """Draw the consequences of a beat that asked for ``asked``."""
        for holding in asked:
            seen = found.get(_key(holding.lease))
            if seen is None:
                self._let_go(holding, "lost")
            elif seen.canceling:
                self._let_go(holding, "canceled")

    def _fence(self, holding: Holding) -> None:
        """Stop unheard, by our own clock, before the lease can lapse. A loop that was busy looks
        whether the thread has extended the lease meanwhile, before it believes its timer."""
        margin = self.settings.heartbeat / 2
        left = holding.extended_at + self.settings.lease - margin - time.monotonic()
        if left <= 0:
            self._let_go(holding, "lost")
        else:
            loop = asyncio.get_running_loop()
            holding.fence = loop.call_later(left, self._fence, holding)

    def _let_go(self, holding: Holding, cause: Cause) -> None:
        # Not what is ending by itself, or has ended: a beat takes its time.
        if self.holdings.get(_key(holding.lease)) is holding and holding.let_go is None:
            holding.let_go = LetGo(cause)
            holding.work.cancel()

    # --- anywhere ---

    async def beat(self, database: Database, *, extend: bool | None = None) -> Callable[[], None]:
        """Ask PostgreSQL in one statement for all leases, and extend them (None: when one is due
        for it); what follows from the answer is returned, to be called on the loop that works."""
        asked = list(self.holdings.values())
        begun = time.monotonic()
        if extend is None:
            extend = any(map(self._is_due, asked))
        found = await self._ask(database, asked, extend=extend)
        for holding in asked:
            if (seen := found.get(_key(holding.lease))) and seen.extended:
                holding.extended_at = begun
        return lambda: self.heed(asked, found)

    def _is_due(self, holding: Holding) -> bool:
        return time.monotonic() >= holding.extended_at + self.settings.heartbeat

    async def _ask(self, database: Database, asked: Sequence[Holding], *, extend: bool) -> Found:
        parameters: dict[str, object] = {
            "ids": [holding.lease.task_id for holding in asked],
            "tokens": [holding.lease.token for holding in asked],
        }
        if extend:
            parameters["lease"] = timedelta(seconds=self.settings.lease)
        async with database.autocommit() as connection:
            statement = statements.EXTEND if extend else statements.LOOK
            rows = await connection.execute(statement, parameters)
            return {(row.id, row.token): Seen(row.canceling, row.extended) for row in rows}


@dataclass(frozen=True, slots=True)
class Seen:
    """A task that is still ours; one whose row somebody had locked was not extended."""

    canceling: bool
    extended: bool


Found = dict[tuple[UUID, int], Seen]


def _key(lease: Lease) -> tuple[UUID, int]:
    return lease.task_id, lease.token


class HeartbeatThread:
    """Beats until stopped: looks for cancellations every ``cancel_poll`` seconds, and extends all
    leases every ``heartbeat`` seconds."""

    def __init__(self, heartbeat: Heartbeat, settings: Settings) -> None:
        self.heartbeat = heartbeat
        self.settings = settings
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Gets the exception that ended the thread, if one did."""
        self._main = asyncio.get_running_loop()
        self._stopped = threading.Event()

    def start(
        self,
        pulse: Callable[[], object] = lambda: None,
        watch: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        """``pulse`` is called in each turn; ``watch`` runs beside, whatever a beat waits for."""
        self._thread = threading.Thread(
            target=self._run, args=[pulse, watch], name="heartbeat", daemon=True
        )
        self._thread.start()

    async def stop(self) -> None:
        self._stopped.set()
        await asyncio.to_thread(self._thread.join)

    def _run(
        self, pulse: Callable[[], object], watch: Callable[[], Awaitable[object]] | None
    ) -> None:
        async def run() -> None:
            watching = asyncio.ensure_future(watch()) if watch else None
            try:
                await self._beat_until_stopped(pulse)
            finally:
                if watching:
                    watching.cancel()

        try:
            asyncio.run(run())
        except Exception as error:  # noqa: BLE001 - the loop that works judges it
            self._tell(partial(self.broken.set_exception, error))

    async def _beat_until_stopped(self, pulse: Callable[[], object]) -> None:
        # One connection, which nothing else can occupy.
        alone = self.settings.model_copy(update={"database_pool": 1})
        database = Database(alone, "heartbeat", statements.SESSION)
        tick = min(self.settings.cancel_poll, self.settings.heartbeat)
        try:
            while not self._stopped.is_set():
                pulse()
                begun = time.monotonic()
                if self.heartbeat.holdings:
                    await self._beat(database)
                await asyncio.sleep(tick - (time.monotonic() - begun))
        finally:
            await database.close()

    async def _beat(self, database: Database) -> None:
        try:
            async with asyncio.timeout(self.settings.heartbeat):
                consequences = await self.heartbeat.beat(database)
        except Exception as error:
            if not retriable(error):
                raise
            log.warning("heartbeat_failed", error=reason(error))
        else:
            self._tell(consequences)

    def _tell(self, consequences: Callable[[], None]) -> None:
        if not self._main.is_closed():
            self._main.call_soon_threadsafe(consequences)
