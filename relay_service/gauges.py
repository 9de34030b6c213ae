"""How much waits, counted now and then for whoever reads the metrics."""

from __future__ import annotations

from sqlalchemy import text

from shared import metrics
from shared.database import Database

MOST = 1_000_000
"""Rows that are counted at most, in less than 0.1 s; a gauge that stands there means: or more."""


class Gauges:
    """Any relay may count: all see the same. Only worth it where metrics are served."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def refresh(self) -> None:
        async with self.database.autocommit() as connection:
            found = (await connection.execute(COUNTS, {"most": MOST})).one()
        metrics.PENDING.set(found.pending)
        metrics.IN_FLIGHT.set(found.in_flight)
        metrics.DEAD_OPEN.set(found.dead_open)


COUNTS = text(
    """
    SELECT outbox.*, letters.* FROM (
        SELECT count(*) FILTER (WHERE dispatched_at IS NULL) AS pending,
               count(dispatched_at) AS in_flight
        FROM (SELECT dispatched_at FROM outbox_messages LIMIT :most) AS message
    ) AS outbox, (
        SELECT count(*) AS dead_open FROM (
            SELECT resolution FROM dead_letters ORDER BY id DESC LIMIT :most
        ) AS letter WHERE resolution IS NULL
    ) AS letters
    """
)
