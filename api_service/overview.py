"""All figures at a glance, and whether they add up: from one statement, so from one snapshot."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from sqlalchemy import RowMapping, text
from sqlalchemy.dialects.postgresql import JSONB

from api_service.ops_schemas import (
    Conservation,
    LetterCounts,
    OutboxCounts,
    Overview,
    Pause,
    TaskCounts,
)
from shared.database import Database
from shared.operating import FINGERPRINT

SHARE = 0.1
"""Of the time at most is spent on counting, however large the tables are and whoever asks."""

SHORTEST = 0.5
"""Seconds for which a count is good enough for everybody."""


class Overviews:
    """One count for all who ask at the same time; while it is young, for those after them, too."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._last: Overview | Exception | None = None
        self._good_until = 0.0
        self._counting = asyncio.Lock()

    async def now(self) -> Overview:
        """Raises what the count raised, which is not tried again too soon either."""
        async with self._counting:
            if self._last is None or time.monotonic() >= self._good_until:
                begun = time.monotonic()
                try:
                    self._last = await self._count()
                except Exception as error:  # noqa: BLE001 - raised below, to everybody
                    self._last = error
                took = time.monotonic() - begun
                self._good_until = time.monotonic() + max(SHORTEST, took / SHARE)
            if isinstance(self._last, Exception):
                raise self._last.with_traceback(None)
            return self._last

    async def _count(self) -> Overview:
        async with self.database.autocommit() as connection:
            return _overview((await connection.execute(COUNTS)).mappings().one())


def _overview(row: RowMapping) -> Overview:
    counts = {name: row[name] for name in TaskCounts.model_fields if name in row}
    counts["open"] = counts["queued"] + counts["running"]
    return Overview(
        taken_at=row["taken_at"],
        tasks=TaskCounts(**counts),
        conservation=_conservation(counts, row["differences"] or []),
        outbox=OutboxCounts(**{name: row[name] for name in OutboxCounts.model_fields}),
        dead_letters=LetterCounts(open=row["dead_letters"], groups=row["dead_letter_groups"]),
        paused=_pause(row, "paused"),
        intake_paused=_pause(row, "intake_paused"),
        workers=row["workers"],
        relays=row["relays"],
    )


def _conservation(counts: dict[str, int], differences: list[Any]) -> Conservation:
    """Any: JSON."""
    ends = ("succeeded", "failed", "canceled", "open")
    total = sum(counts[name] for name in ends)
    equals = counts["accepted"] == total
    parts = " + ".join(f"{counts[name]} {name}" for name in ends)
    sentence = f"{counts['accepted']} accepted {'=' if equals else '≠'} {parts}"
    return Conservation(
        holds=equals and not differences, sentence=sentence, differences=differences
    )


def _pause(row: RowMapping, name: str) -> Pause | None:
    if row[f"{name}_at"] is None:
        return None
    return Pause(at=row[f"{name}_at"], by=row[f"{name}_by"], reason=row[f"{name}_reason"])


# Accepted are the tasks whose history begins; how they stand is told by their rows. Nothing writes
# the one without the other, so any difference is a fault, and is named. So is an open task that
# nothing would move on, and a message that would move nothing on. Of an ended task there may be
# one for a moment, when it was canceled amid being given back; a relay that carries drops it.
COUNTS = text(
    f"""
    WITH accepted AS MATERIALIZED (
        SELECT task_id FROM task_events WHERE seq = 1 AND type = 'task.accepted'
    ), difference AS (
        SELECT accepted.task_id, 'was accepted, and is not there' AS what
        FROM accepted LEFT JOIN tasks ON tasks.id = accepted.task_id WHERE tasks.id IS NULL
        UNION ALL
        SELECT tasks.id, 'is there, and was never accepted'
        FROM tasks LEFT JOIN accepted ON accepted.task_id = tasks.id
        WHERE accepted.task_id IS NULL
        UNION ALL
        SELECT tasks.id, 'is queued, and has no outbox message'
        FROM tasks LEFT JOIN outbox_messages AS message ON message.task_id = tasks.id
        WHERE tasks.status = 'queued' AND message.task_id IS NULL
        UNION ALL
        SELECT message.task_id, 'has an outbox message, and is not there'
        FROM outbox_messages AS message LEFT JOIN tasks ON tasks.id = message.task_id
        WHERE tasks.id IS NULL
        UNION ALL
        SELECT tasks.id, 'has ended, and its outbox message is still there'
        FROM outbox_messages AS message JOIN tasks ON tasks.id = message.task_id
        WHERE tasks.finished_at < now() - interval '1 minute'
          AND message.available_at < now() - interval '1 minute'
          AND (SELECT paused_at FROM deployment) IS NULL
    ), task AS (
        SELECT count(*) FILTER (WHERE status = 'queued') AS queued,
               count(*) FILTER (WHERE status = 'running') AS running,
               count(*) FILTER (WHERE status = 'succeeded') AS succeeded,
               count(*) FILTER (WHERE status = 'failed') AS failed,
               count(*) FILTER (WHERE status = 'canceled') AS canceled
        FROM tasks
    ), message AS (
        SELECT count(*) FILTER (WHERE due) AS waiting,
               count(*) FILTER (WHERE dispatched_at IS NULL AND NOT due) AS delayed,
               count(dispatched_at) AS in_flight,
               CAST(extract(epoch FROM now() - min(available_at) FILTER (WHERE due)) AS float8)
                   AS oldest_waiting_seconds
        FROM (
            SELECT *, dispatched_at IS NULL AND available_at <= now() AS due FROM outbox_messages
        ) AS message
    ), letter AS (
        SELECT count(*) AS dead_letters, count(DISTINCT {FINGERPRINT}) AS dead_letter_groups
        FROM dead_letters AS letter WHERE resolution IS NULL
    ), alive AS (
        SELECT count(*) FILTER (WHERE role = 'worker') AS workers,
               count(*) FILTER (WHERE role = 'relay') AS relays
        FROM processes WHERE seen_at > now() - gone_after
    )
    SELECT now() AS taken_at, (SELECT count(*) FROM accepted) AS accepted, task.*, message.*,
           letter.*, alive.*, paused_at, paused_by, paused_reason,
           intake_paused_at, intake_paused_by, intake_paused_reason, (
               SELECT jsonb_agg(jsonb_build_object('task_id', task_id, 'what', what))
               FROM (SELECT * FROM difference ORDER BY task_id LIMIT 100) AS difference
           ) AS differences
    FROM deployment, task, message, letter, alive
    """  # noqa: S608 - fixed text
).columns(differences=JSONB)
