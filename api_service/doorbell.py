"""The hint that wakes the relay: after the commit, outside of it, and never a reason to fail."""

from __future__ import annotations

import asyncio
import contextlib

import asyncpg
import structlog

from shared.database import Database, reason
from shared.messages import OUTBOX_CHANNEL

log = structlog.get_logger()


class Doorbell:
    """Rings for any number of commits at once, at most every ``doorbell_interval`` seconds.

    NOTIFY takes an instance-wide lock at its commit: inside the submission's transaction it
    would make all submissions queue up. A lost ring costs the relay one poll, nothing else.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.committed = asyncio.Event()
        self.connection: asyncpg.Connection | None = None
        self._stopping = False

    def ring(self) -> None:
        self.committed.set()

    def stop(self) -> None:
        """``run`` ends by itself: cut off amid opening a connection, the driver would complain."""
        self._stopping = True
        self.committed.set()

    async def run(self) -> None:
        while True:
            await self.committed.wait()
            if self._stopping:
                return
            self.committed.clear()
            try:
                await self._notify()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                log.info("doorbell_not_rung", error=reason(error))
                await self.close()
            await asyncio.sleep(self.database.settings.doorbell_interval)

    async def _notify(self) -> None:
        if self.connection is None or self.connection.is_closed():
            self.connection = await self.database.listen_connection()
        await self.connection.execute(f"NOTIFY {OUTBOX_CHANNEL}")

    async def close(self) -> None:
        if self.connection is not None:
            with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await self.connection.close(timeout=1)
            self.connection = None
