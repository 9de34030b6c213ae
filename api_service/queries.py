"""What the API reads. Every query names the tenant; every read is of the primary."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.dialects.postgresql import JSONB

from shared.database import Database


async def task_by_id(database: Database, tenant_id: str, task_id: UUID) -> RowMapping | None:
    """The task beside its outbox message (``rung_at``), which it has until a worker takes it."""
    async with database.begin() as session:
        found = await session.execute(TASK, {"tenant_id": tenant_id, "task_id": task_id})
        return found.mappings().one_or_none()


async def events_after(
    database: Database, tenant_id: str, task_id: UUID, *, after: int, limit: int
) -> Sequence[RowMapping] | None:
    """At most ``limit`` events with a greater ``seq``; None when there is no such task."""
    async with database.begin() as session:
        who = {"tenant_id": tenant_id, "task_id": task_id}
        if await session.scalar(TASK_EXISTS, who) is None:
            return None
        found = await session.execute(EVENTS, {"task_id": task_id, "after": after, "limit": limit})
        return found.mappings().all()


async def roadmap_by_id(database: Database, tenant_id: str, roadmap_id: UUID) -> RowMapping | None:
    async with database.begin() as session:
        found = await session.execute(ROADMAP, {"tenant_id": tenant_id, "roadmap_id": roadmap_id})
        return found.mappings().one_or_none()


USAGE = """(
    SELECT CASE WHEN sum(calls) > 0 THEN jsonb_build_object(
        'calls', sum(calls), 'tokens_in', sum(tokens_in), 'tokens_out', sum(tokens_out),
        'cost_usd', CAST(sum(cost) AS float8)) END
    FROM task_steps AS step WHERE step.task_id = task.id
)"""
"""What the steps of ``task`` took, added up; NULL if no model was asked."""

TASK = text(
    f"""
    SELECT task.*, message.dispatched_at AS rung_at, {USAGE} AS usage
    FROM tasks AS task LEFT JOIN outbox_messages AS message ON message.task_id = task.id
    WHERE task.id = :task_id AND task.tenant_id = :tenant_id
    """  # noqa: S608 - fixed text
).columns(input=JSONB, error=JSONB, usage=JSONB)

TASK_EXISTS = text("SELECT 1 FROM tasks WHERE id = :task_id AND tenant_id = :tenant_id")

EVENTS = text(
    """
    SELECT seq, type, data, created_at FROM task_events
    WHERE task_id = :task_id AND seq > :after
    ORDER BY seq LIMIT :limit
    """
).columns(data=JSONB)

ROADMAP = text(
    """
    SELECT id, task_id, created_at, document FROM roadmaps
    WHERE id = :roadmap_id AND tenant_id = :tenant_id
    """
).columns(document=JSONB)
