"""What the API reads of one task. Every query names the tenant; every read is of the primary."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.dialects.postgresql import JSONB

from api_service.timing import timed
from shared.database import Database
from shared.shared_commit import SharedCommit

DOCUMENTS = ("input", "metadata", "error", "usage")

POSITIONS = 1000
"""A place farther back in the queue is not counted out: it would be read over for each look."""


Row = Mapping[str, Any]
Which = tuple[str, UUID]
"""A tenant, and a task of it."""


async def task_by_id(database: Database, tenant_id: str, task_id: UUID) -> Row | None:
    """The task beside its outbox message, which it has until a worker takes it."""
    return (await _tasks(database, TASKS, [(tenant_id, task_id)]))[0]


async def mark_of(database: Database, tenant_id: str, task_id: UUID) -> Row | None:
    """``version``, ``published``, ``status`` and ``deleted_at``: enough for an ETag."""
    return (await _tasks(database, MARKS, [(tenant_id, task_id)]))[0]


class TaskReads:
    """The same for clients that poll: those who come while one look is under way share the next."""

    def __init__(self, database: Database) -> None:
        self.patience = database.settings.database_command_timeout
        self._tasks = SharedCommit(partial(_tasks, database, TASKS), side_by_side=1)
        self._marks = SharedCommit(partial(_tasks, database, MARKS), side_by_side=1)

    async def task(self, tenant_id: str, task_id: UUID) -> Row | None:
        with timed():
            return await self._tasks.write((tenant_id, task_id), self._until())

    async def mark(self, tenant_id: str, task_id: UUID) -> Row | None:
        with timed():
            return await self._marks.write((tenant_id, task_id), self._until())

    def _until(self) -> float:
        return asyncio.get_running_loop().time() + self.patience


async def _tasks(
    database: Database, statement: str, asked: Sequence[Which]
) -> Sequence[Row | None]:
    tenants, ids = zip(*set(asked), strict=True)
    rows = await database.fetch(statement, tenants, ids)
    found = {(row["tenant_id"], row["id"]): _with_documents(dict(row)) for row in rows}
    return [found.get(one) for one in asked]


def _with_documents(row: dict[str, Any]) -> Row:
    for name in DOCUMENTS:
        if isinstance(document := row.get(name), str):
            row[name] = json.loads(document)
    return row


async def events_after(
    database: Database, tenant_id: str, task_id: UUID, *, after: int, limit: int
) -> Sequence[RowMapping]:
    """At most ``limit`` events with a greater ``seq``; none when there is no such task. One row
    alone without ``seq`` says: none."""
    async with database.autocommit() as connection:
        which = {"tenant_id": tenant_id, "task_id": task_id, "after": after, "limit": limit}
        return (await connection.execute(EVENTS, which)).mappings().all()


async def attempts_of(database: Database, tenant_id: str, task_id: UUID) -> Sequence[RowMapping]:
    """Starts and ends of the task's attempts, each with the steps that were run last under its
    lease; nothing when there is no such task. One row alone without ``seq`` says: none yet."""
    async with database.autocommit() as connection:
        who = {"tenant_id": tenant_id, "task_id": task_id}
        return (await connection.execute(ATTEMPTS, who)).mappings().all()


async def roadmap_by_id(database: Database, tenant_id: str, roadmap_id: UUID) -> RowMapping | None:
    async with database.autocommit() as connection:
        which = {"tenant_id": tenant_id, "roadmap_id": roadmap_id}
        return (await connection.execute(ROADMAP, which)).mappings().one_or_none()


USAGE = """(
    SELECT CASE WHEN sum(calls) > 0 THEN jsonb_build_object(
        'calls', sum(calls), 'tokens_in', sum(tokens_in), 'tokens_out', sum(tokens_out),
        'cost_usd', CAST(sum(cost) AS float8)) END
    FROM task_steps AS step WHERE step.task_id = task.id
)"""
"""What the steps of ``task`` took, added up; NULL if no model was asked."""

POSITION = f"""
    CASE WHEN task.status = 'queued' AND message.available_at <= now() THEN 1 + (
        SELECT count(*) FROM (
            SELECT FROM outbox_messages AS ahead
            WHERE ahead.tenant_id = message.tenant_id
              AND (ahead.priority, ahead.available_at, ahead.task_id)
                  < (message.priority, message.available_at, message.task_id)
            LIMIT {POSITIONS - 1}
        ) AS ahead
    ) END
"""  # noqa: S608 - fixed text, here and below
"""In the lanes of its tenant, along their index; NULL while it is not due."""

COLUMNS = f"""
    task.id, task.status, task.stage, task.version, task.priority, task.attempts, task.takeovers,
    task.progress, task.progress_message, task.input, task.metadata, task.parent_id,
    task.roadmap_id, task.error, task.dispatch_no, task.available_at, task.created_at,
    task.not_before, task.deadline_at, task.cancel_requested_at, task.dispatched_at,
    task.started_at, task.finished_at, task.deleted_at, task.request_hash,
    message.dispatch_no AS message_no, message.available_at AS due_at,
    message.dispatched_at AS rung_at, message.available_at > now() AS delayed, {USAGE} AS usage
"""
"""Of ``task`` beside ``message``: all that ``schemas.task_view`` shows, but for ``position``."""


def with_documents(statement: str) -> Any:  # Any: its type is private to SQLAlchemy
    """A statement over ``COLUMNS``, whose documents arrive as such."""
    return text(statement).columns(input=JSONB, metadata=JSONB, error=JSONB, usage=JSONB)


TASKS = f"""
    SELECT task.tenant_id, {COLUMNS}, {POSITION} AS position
    FROM unnest($1::text[], $2::uuid[]) AS asked (tenant_id, task_id)
    JOIN tasks AS task ON task.id = asked.task_id AND task.tenant_id = asked.tenant_id
    LEFT JOIN outbox_messages AS message ON message.task_id = task.id
"""  # noqa: S608

MARKS = """
    SELECT task.tenant_id, task.id, task.version, task.status, task.deleted_at,
           message.dispatched_at IS NOT NULL AS published
    FROM unnest($1::text[], $2::uuid[]) AS asked (tenant_id, task_id)
    JOIN tasks AS task ON task.id = asked.task_id AND task.tenant_id = asked.tenant_id
    LEFT JOIN outbox_messages AS message ON message.task_id = task.id
"""

EVENTS = text(
    """
    SELECT task.deleted_at, event.seq, event.type, event.data, event.created_at
    FROM tasks AS task LEFT JOIN LATERAL (
        SELECT * FROM task_events WHERE task_id = task.id AND seq > :after
        ORDER BY seq LIMIT :limit
    ) AS event ON true
    WHERE task.id = :task_id AND task.tenant_id = :tenant_id
    ORDER BY event.seq
    """
).columns(data=JSONB)

# A lease token counts the leases of its task, so the nth start has the token n.
ATTEMPTS = text(
    """
    WITH task AS (
        SELECT id, deleted_at FROM tasks WHERE id = :task_id AND tenant_id = :tenant_id
    ), turn AS (
        SELECT seq, type, data, created_at,
               count(*) FILTER (WHERE type = 'task.started') OVER (ORDER BY seq) AS number
        FROM task_events
        WHERE task_id = (SELECT id FROM task) AND type IN (
            'task.started', 'task.requeued', 'task.succeeded', 'task.failed', 'task.canceled')
    )
    SELECT task.deleted_at, turn.*, CASE turn.type WHEN 'task.started' THEN (
        SELECT jsonb_agg(jsonb_build_object(
            'step', step, 'version', step_version,
            'state', CASE WHEN output IS NULL THEN 'begun' ELSE 'completed' END,
            'tries', tries, 'failures', failures, 'duration_seconds', seconds, 'calls', calls,
            'tokens_in', tokens_in, 'tokens_out', tokens_out, 'cost_usd', CAST(cost AS float8),
            'error', error, 'begun_at', begun_at, 'finished_at', finished_at
        ) ORDER BY begun_at, step)
        FROM task_steps AS step WHERE step.task_id = task.id AND step.lease_token = turn.number
    ) END AS steps
    FROM task LEFT JOIN turn ON true
    ORDER BY turn.seq
    """
).columns(data=JSONB, steps=JSONB)

ROADMAP = text(
    """
    SELECT roadmap.id, roadmap.task_id, roadmap.created_at, roadmap.document, task.deleted_at
    FROM roadmaps AS roadmap JOIN tasks AS task ON task.id = roadmap.task_id
    WHERE roadmap.id = :roadmap_id AND roadmap.tenant_id = :tenant_id
    """
).columns(document=JSONB)
