"""Deletes what is over for longer than WAYMARK_RETENTION_DAYS; without it, keeps everything.

No relay leads: each walks along the keys by itself, and row locks keep them apart.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import structlog
from sqlalchemy import TextClause, text

from shared import metrics
from shared.database import Database
from shared.settings import Settings

log = structlog.get_logger()

BATCH = 500
"""Tasks per transaction: some thousand rows with their events, gone in less than 0.1 s."""

START_OVER = 3600.0
"""Seconds until a walk may begin anew, for what was not over, or locked, when it came by. More
often would be a waste: it reads over the dead entries of all that was deleted since a vacuum."""


class Housekeeper:
    """``run_once`` deletes one batch; ``behind`` says whether more is likely to be waiting."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.database = database
        days = settings.retention_days
        self.retention = None if days is None else timedelta(days=days)
        self.behind = False
        self._walks = (
            _Walk(TASKS, UUID(int=0)),
            _Walk(RESOLVED_LETTERS, 0),
            _Walk(OPERATOR_ACTS, 0),
        )

    async def run_once(self) -> int:
        """How many rows were deleted. Call it again soon while ``behind``, else in a minute."""
        if self.retention is None:
            return 0
        deleted = 0
        for walk in self._walks:
            deleted += await walk.step(self.database, self.retention)
        self.behind = any(walk.behind for walk in self._walks)
        return deleted


@dataclass(slots=True)
class _Walk:
    """Along a table's primary key, which grows with time; where it stopped, it goes on."""

    statement: TextClause
    start: UUID | int
    behind: bool = False
    _after: UUID | int | None = None
    _begun_at: float = 0.0

    async def step(self, database: Database, retention: timedelta) -> int:
        if self._after is None:
            self._after, self._begun_at = self.start, time.monotonic()
        parameters = {"after": self._after, "retention": retention, "limit": BATCH}
        async with database.autocommit() as connection:
            found = (await connection.execute(self.statement, parameters)).mappings().one()
        counts = dict(found)
        looked, last = counts.pop("looked"), counts.pop("last")
        self.behind = looked == BATCH
        if looked:
            self._after = last
        if not self.behind and time.monotonic() - self._begun_at >= START_OVER:
            self._after = None
        return _report(counts)


def _report(counts: dict[str, int]) -> int:
    deleted = {table: count for table, count in counts.items() if count}
    if deleted:
        log.info("retention_deleted", **deleted)
    for table, count in deleted.items():
        metrics.DELETED.labels(table).inc(count)
    return sum(deleted.values())


# Only what ended is deleted, however old the rest may be. A task keeps its idempotency key, and so
# stays for the 72 hours for which a key is promised to be known. ``= ANY (ARRAY(…))``, because no
# plan then can read a whole table. Task and roadmap name each other by foreign keys, which
# PostgreSQL checks when the statement ends.
#
# A task whose outbox message is still there waits until a relay has dropped that: a message
# without a task would raise the alarm for lost ones.
#
# A dead letter that nobody decided on stays, because failures must not vanish unseen. Its task
# goes all the same, else retention would end at the first failure that nobody looks at; so it
# can no longer be replayed, only discarded. What it quotes of the learner goes with the task.
TASKS = text(
    """
    WITH looked AS MATERIALIZED (
        SELECT id,
               status IN ('succeeded', 'failed', 'canceled')
               AND finished_at < now() - CAST(:retention AS interval)
               AND (idempotency_key IS NULL OR created_at < now() - interval '72 hours')
               AND (SELECT count(*) FROM outbox_messages WHERE task_id = tasks.id) = 0 AS is_over
        FROM tasks
        WHERE id > :after
          -- the smallest UUIDv7 of the moment at which retention begins
          AND id < CAST(rpad(lpad(to_hex(CAST(
              extract(epoch FROM now() - CAST(:retention AS interval)) * 1000 AS bigint
          )), 12, '0'), 32, '0') AS uuid)
        ORDER BY id LIMIT :limit
    ), over AS MATERIALIZED (
        SELECT id FROM tasks WHERE id = ANY (ARRAY(SELECT id FROM looked WHERE is_over))
        FOR UPDATE SKIP LOCKED
    ), task AS (
        DELETE FROM tasks WHERE id = ANY (ARRAY(SELECT id FROM over)) RETURNING 1
    ), roadmap AS (
        DELETE FROM roadmaps WHERE task_id = ANY (ARRAY(SELECT id FROM over)) RETURNING 1
    ), event AS (
        DELETE FROM task_events WHERE task_id = ANY (ARRAY(SELECT id FROM over)) RETURNING 1
    ), step AS (
        DELETE FROM task_steps WHERE task_id = ANY (ARRAY(SELECT id FROM over)) RETURNING 1
    ), decided AS (
        DELETE FROM dead_letters
        WHERE task_id = ANY (ARRAY(SELECT id FROM over)) AND resolution IS NOT NULL
        RETURNING 1
    ), undecided AS (
        UPDATE dead_letters SET detail = detail - 'detail'
        WHERE task_id = ANY (ARRAY(SELECT id FROM over)) AND resolution IS NULL
    )
    SELECT (SELECT count(*) FROM looked) AS looked,
           (SELECT id FROM looked ORDER BY id DESC LIMIT 1) AS last,
           (SELECT count(*) FROM task) AS tasks,
           (SELECT count(*) FROM roadmap) AS roadmaps,
           (SELECT count(*) FROM event) AS task_events,
           (SELECT count(*) FROM step) AS task_steps,
           (SELECT count(*) FROM decided) AS dead_letters
    """
)


def _older_than_retention(table: str, column: str) -> TextClause:
    return text(
        f"""
        WITH looked AS MATERIALIZED (
            SELECT id, {column} < now() - CAST(:retention AS interval) AS is_over
            FROM {table} WHERE id > :after ORDER BY id LIMIT :limit
        ), over AS MATERIALIZED (
            SELECT id FROM {table} WHERE id = ANY (ARRAY(SELECT id FROM looked WHERE is_over))
            FOR UPDATE SKIP LOCKED
        ), deleted AS (
            DELETE FROM {table} WHERE id = ANY (ARRAY(SELECT id FROM over)) RETURNING 1
        )
        SELECT (SELECT count(*) FROM looked) AS looked,
               (SELECT id FROM looked ORDER BY id DESC LIMIT 1) AS last,
               (SELECT count(*) FROM deleted) AS {table}
        """  # noqa: S608 - two names of ours
    )


# Those decided on after their task was gone, or of a task that never was.
RESOLVED_LETTERS = _older_than_retention("dead_letters", "resolved_at")
OPERATOR_ACTS = _older_than_retention("operator_acts", "created_at")
