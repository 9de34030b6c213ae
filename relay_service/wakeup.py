"""What ends the relay's pause: a doorbell from the API, the poll interval, or the order to stop."""

from __future__ import annotations

import asyncio
import contextlib
import random

import asyncpg
import structlog

from shared.backoff import exponential
from shared.database import Database, reason
from shared.messages import OUTBOX_CHANNEL

log = structlog.get_logger()


class Wakeup:
    """The doorbell is a hint. Without it, behind a pooler that swallows LISTEN for example,
    polling alone carries everything over, only a little later."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.stopping = False
        self._rung = asyncio.Event()
        self._stop = asyncio.Event()

    def stop(self) -> None:
        self.stopping = True
        self._stop.set()
        self._rung.set()

    async def wait(self, patience: float) -> None:
        """Until rung, at most ``patience`` seconds. One ring may stand for many commits."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._rung.wait(), max(patience, 0))
        self._rung.clear()

    async def pause(self, seconds: float) -> None:
        """``seconds`` whatever rings; only the order to stop ends it earlier."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)

    async def listen(self) -> None:
        """Keep a connection that listens; a lost one is replaced, and counts as a ring."""
        failures = 0
        while not self.stopping:
            try:
                await self._listen_once()
                failures = 0
                await self.pause(0.2)  # a pooler that hangs up at once must not make us spin
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                failures += 1
                log.info("listen_failed", error=reason(error), failures=failures)
                await self.pause(exponential(failures, 0.2, 5, random.random()))  # noqa: S311 - jitter

    async def _listen_once(self) -> None:
        connection = await self.database.listen_connection()
        lost = asyncio.Event()
        connection.add_termination_listener(lambda *_: lost.set())
        await connection.add_listener(OUTBOX_CHANNEL, lambda *_: self._rung.set())
        self._rung.set()
        ended = [asyncio.create_task(lost.wait()), asyncio.create_task(self._stop.wait())]
        try:
            await asyncio.wait(ended, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in ended:
                task.cancel()
            if not connection.is_closed():
                await connection.close(timeout=1)
