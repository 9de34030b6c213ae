"""What the live workers can do: how long a place in the queue is likely to wait."""

from __future__ import annotations

import asyncio
import math
import time

import structlog
from sqlalchemy import text

from shared.database import Database, connection_lost, reason, retriable

log = structlog.get_logger()

FRESH = 5.0
"""Seconds for which what was read is good enough: workers report every ten."""


class Capacity:
    """Of all workers, as they report it themselves; read at most every ``FRESH`` seconds."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._slots = 0
        self._mean: float | None = None
        self._read_at = -math.inf
        self._reading = asyncio.Lock()

    async def wait_for(self, position: int | None) -> float | None:
        """Seconds until a worker takes the task at ``position``; None when that is not known."""
        if position is None:
            return None
        await self._refresh()
        if not self._slots or self._mean is None:
            return None
        return round(math.ceil(position / self._slots) * self._mean, 3)

    async def _refresh(self) -> None:
        if time.monotonic() - self._read_at < FRESH or self._reading.locked():
            return
        async with self._reading:
            try:
                async with self.database.autocommit() as connection:
                    found = (await connection.execute(CAPACITY)).one()
                self._slots, self._mean = found.slots, found.mean
            except Exception as error:
                if not (connection_lost(error) or retriable(error)):
                    raise
                log.info("capacity_not_read", error=reason(error))
            self._read_at = time.monotonic()


# While the relays are paused nobody takes anything, and for how long is not known. A worker that
# was asked to drain takes nothing more. The mean is weighted by what it stands for.
CAPACITY = text(
    """
    SELECT CASE WHEN EXISTS (SELECT FROM deployment WHERE paused_at IS NOT NULL) THEN 0
           ELSE CAST(coalesce(sum(CAST(report ->> 'slots' AS integer)), 0) AS integer) END AS slots,
           CAST(sum(CAST(report ->> 'mean_seconds' AS float8) * CAST(report ->> 'slots' AS integer))
               / nullif(sum(CAST(report ->> 'slots' AS integer))
                   FILTER (WHERE report ->> 'mean_seconds' IS NOT NULL), 0) AS float8) AS mean
    FROM processes
    WHERE role = 'worker' AND seen_at > now() - gone_after AND drain_requested_at IS NULL
    """
)
