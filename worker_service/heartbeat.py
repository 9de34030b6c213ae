"""Keeps the leases of this process from a thread of its own, and ends work that is not ours.

A thread, because an event loop that is busy for seconds must not cost its tasks their leases. It
vouches for the loop only as long as that turns: see ``watchdog.py``.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Literal
from uuid import UUID

import structlog
from sqlalchemy import TextClause

from shared.database import Database, reason, retriable
from shared.errors import WaymarkError
from shared.settings import Settings
from worker_service import statements
from worker_service.leases import Lease

log = structlog.get_logger()

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

    # --- on the loop that works ---

    @asynccontextmanager
    async def held(self, lease: Lease) -> AsyncIterator[None]:
        """Keep the lease alive while the block runs; raises LetGo if it had to be left."""
        work = asyncio.current_task()
        if work is None:
            raise RuntimeError("a lease is held by a task")
        holding = self.holdings[_key(lease)] = Holding(lease, work, lease.taken_at)
        self._fence(holding)
        try:
            yield
        except asyncio.CancelledError:
            if holding.let_go is None:
                raise
            work.uncancel()
            raise holding.let_go from None
        finally:
            del self.holdings[_key(lease)]
            if holding.fence:
                holding.fence.cancel()

    def boundary(self, lease: Lease) -> None:
        """Between two steps: raises LetGo when no further one should begin."""
        holding = self.holdings.get(_key(lease))
        if holding and holding.let_go:
            raise holding.let_go
        if self.draining:
            raise LetGo("stopping")

    def let_go_of_all(self) -> None:
        for holding in list(self.holdings.values()):
            self._let_go(holding, "stopping")

    def heed(self, asked: Sequence[Holding], found: Found) -> None:
        """Draw the consequences of a beat that asked for ``asked``."""
        for holding in asked:
            canceling = found.get(_key(holding.lease))
            if canceling is None:
                self._let_go(holding, "lost")
            elif canceling:
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

    async def beat(self, database: Database, *, extend: bool) -> Callable[[], None]:
        """Ask PostgreSQL in one statement for all leases; what is to be done about it is
        returned, to be called on the loop that works."""
        asked = list(self.holdings.values())
        begun = time.monotonic()
        found = await (_extend if extend else _look)(database, self.settings, asked)
        if extend:
            for holding in asked:
                if _key(holding.lease) in found:
                    holding.extended_at = begun
        return lambda: self.heed(asked, found)


def _key(lease: Lease) -> tuple[UUID, int]:
    return lease.task_id, lease.token


Found = dict[tuple[UUID, int], bool]
"""Of the leases that are still ours, whether each task is to be canceled."""


async def _extend(database: Database, settings: Settings, asked: Sequence[Holding]) -> Found:
    return await _ask(database, statements.EXTEND, asked, lease=timedelta(seconds=settings.lease))


async def _look(database: Database, _settings: Settings, asked: Sequence[Holding]) -> Found:
    return await _ask(database, statements.LOOK, asked)


async def _ask(
    database: Database, statement: TextClause, asked: Sequence[Holding], **more: object
) -> Found:
    tokens = {
        "ids": [holding.lease.task_id for holding in asked],
        "tokens": [holding.lease.token for holding in asked],
    }
    async with database.autocommit() as connection:
        rows = await connection.execute(statement, tokens | more)
        return {(row.id, row.token): row.canceling for row in rows}


class HeartbeatThread:
    """Beats until stopped: looks for cancellations every ``cancel_poll`` seconds, extends all
    leases every ``heartbeat`` seconds, and calls ``pulse`` in each turn."""

    def __init__(self, heartbeat: Heartbeat, settings: Settings) -> None:
        self.heartbeat = heartbeat
        self.settings = settings
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Gets the exception that ended the thread, if one did."""
        self.tick = min(settings.cancel_poll, settings.heartbeat)
        """Seconds from one beat to the next."""
        self._main = asyncio.get_running_loop()
        self._stopped = threading.Event()

    def start(self, pulse: Callable[[], object] = lambda: None) -> None:
        self._thread = threading.Thread(
            target=self._run, args=[pulse], name="heartbeat", daemon=True
        )
        self._thread.start()

    async def stop(self) -> None:
        self._stopped.set()
        await asyncio.to_thread(self._thread.join)

    def _run(self, pulse: Callable[[], object]) -> None:
        try:
            asyncio.run(self._beat_until_stopped(pulse))
        except Exception as error:  # noqa: BLE001 - the loop that works judges it
            self._tell(partial(self.broken.set_exception, error))

    async def _beat_until_stopped(self, pulse: Callable[[], object]) -> None:
        # One connection, which nothing else can occupy.
        alone = self.settings.model_copy(update={"database_pool": 1})
        database = Database(alone, "heartbeat", statements.SESSION)
        extended_at = 0.0
        try:
            while not self._stopped.is_set():
                pulse()
                begun = time.monotonic()
                extend = begun >= extended_at + self.settings.heartbeat
                if extend:
                    extended_at = begun
                if self.heartbeat.holdings:
                    await self._beat(database, extend=extend)
                await asyncio.sleep(self.tick - (time.monotonic() - begun))
        finally:
            await database.close()

    async def _beat(self, database: Database, *, extend: bool) -> None:
        try:
            async with asyncio.timeout(self.settings.heartbeat):
                consequences = await self.heartbeat.beat(database, extend=extend)
        except Exception as error:
            if not retriable(error):
                raise
            log.warning("heartbeat_failed", error=reason(error))
        else:
            self._tell(consequences)

    def _tell(self, consequences: Callable[[], None]) -> None:
        if not self._main.is_closed():
            self._main.call_soon_threadsafe(consequences)
