"""All SQL of the relay: claim, settle, and what the sweeper finds. The clock is PostgreSQL's."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncSession

from shared.database import Database

TRUST_LOCK = 0x_776D_0002
"""Advisory lock: each claim shares it while it publishes and settles; re-arming after Redis'
loss of memory takes it alone. A re-arm therefore sees every message settled before it."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """An outbox message whose row this transaction has locked."""

    task_id: UUID
    dispatch_no: int


@dataclass(frozen=True, slots=True)
class TaskFact:
    """What the verifying session saw of a task."""

    status: str
    dispatch_no: int
    traceparent: str | None
    deployment_id: UUID


async def claim(session: AsyncSession, limit: int, resting: Collection[UUID]) -> list[Claimed]:
    """Lock due messages, most urgent first, then oldest; those ``resting`` are left alone.

    The row lock is the claim: other relays skip it, and a killed relay's session frees it.
    """
    parameters = {"limit": limit, "resting": list(resting), "trust_lock": TRUST_LOCK}
    rows = await session.execute(CLAIM, parameters)
    return [Claimed(*row) for row in rows]


async def look_up(database: Database, claimed: Sequence[Claimed]) -> dict[UUID, TaskFact]:
    """The claimed messages' tasks, through a session of its own with a fresh snapshot."""
    async with database.begin() as session:
        rows = await session.execute(FACTS, {"ids": [message.task_id for message in claimed]})
        return {row.id: TaskFact(*row[1:]) for row in rows}


async def mark_dispatched(session: AsyncSession, task_ids: Collection[UUID]) -> None:
    if task_ids:
        await session.execute(MARK_DISPATCHED, {"ids": list(task_ids)})


async def drop(session: AsyncSession, task_ids: Collection[UUID]) -> None:
    if task_ids:
        await session.execute(DROP, {"ids": list(task_ids)})


async def bury(session: AsyncSession, message: Claimed, reason: str) -> None:
    """Move a message to the dead letters; its task, if there is one, ends as failed."""
    parameters = {
        "task_id": message.task_id,
        "dispatch_no": message.dispatch_no,
        "reason": reason,
    }
    await session.execute(BURY, parameters)


async def rearm_all(session: AsyncSession, incarnation: str) -> int | None:
    """Ring all unanswered doorbells again, once per incarnation; None if another relay did."""
    await session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": TRUST_LOCK})
    won = await session.execute(TRUST, {"incarnation": incarnation})
    if won.one_or_none() is None:
        return None
    return len((await session.execute(REARM_ALL)).all())


async def rearm_unanswered(
    session: AsyncSession, redeliver_after: timedelta, limit: int
) -> Sequence[UUID]:
    """Ring again, under a new number, what nobody answered; each time with more patience."""
    parameters = {"redeliver_after": redeliver_after, "limit": limit}
    return (await session.execute(REARM_UNANSWERED, parameters)).scalars().all()


async def return_expired(
    session: AsyncSession, max_takeovers: int, limit: int
) -> Sequence[RowMapping]:
    """Tasks whose worker vanished go back to queued, or fail when too many workers did."""
    parameters = {"max_takeovers": max_takeovers, "limit": limit}
    return (await session.execute(RETURN_EXPIRED, parameters)).mappings().all()


CLAIM = text(
    """
    SELECT task_id, dispatch_no FROM outbox_messages
    WHERE (SELECT pg_advisory_xact_lock_shared(:trust_lock)) IS NOT NULL
      AND dispatched_at IS NULL AND available_at <= now()
      AND task_id <> ALL (CAST(:resting AS uuid[]))
    ORDER BY priority, available_at, task_id
    LIMIT :limit
    FOR UPDATE SKIP LOCKED
    """
)

FACTS = text(
    """
    SELECT task.id, task.status, task.dispatch_no, task.traceparent, deployment.id AS deployment_id
    FROM tasks AS task CROSS JOIN deployment
    WHERE task.id = ANY (CAST(:ids AS uuid[]))
    """
)

MARK_DISPATCHED = text(
    """
    UPDATE outbox_messages SET dispatched_at = clock_timestamp()
    WHERE task_id = ANY (CAST(:ids AS uuid[]))
    """
)

DROP = text("DELETE FROM outbox_messages WHERE task_id = ANY (CAST(:ids AS uuid[]))")

BURY = text(
    """
    WITH message AS (
        DELETE FROM outbox_messages WHERE task_id = :task_id
    ), letter AS (
        INSERT INTO dead_letters (task_id, dispatch_no, source, reason)
        VALUES (:task_id, :dispatch_no, 'relay', :reason)
        ON CONFLICT DO NOTHING
    ), failed AS (
        UPDATE tasks SET
            status = 'failed', stage = 'done', version = version + 1, finished_at = now(),
            error = jsonb_build_object(
                'code', 'dispatch_failed', 'retryable', false,
                'detail', 'The task could not be handed to a worker. Submit it again.'
            )
        WHERE id = :task_id AND status = 'queued'
        RETURNING id, version, error
    )
    INSERT INTO task_events (task_id, seq, type, data)
    SELECT id, version, 'task.failed', error FROM failed
    """
)

TRUST = text(
    """
    UPDATE deployment SET redis_incarnation = :incarnation
    WHERE redis_incarnation IS DISTINCT FROM :incarnation
    RETURNING id
    """
)

REARM_ALL = text(
    """
    UPDATE outbox_messages SET dispatched_at = NULL
    WHERE dispatched_at IS NOT NULL
    RETURNING task_id
    """
)

REARM_UNANSWERED = text(
    """
    WITH unanswered AS (
        SELECT task_id FROM outbox_messages
        WHERE dispatched_at < now()
            - CAST(:redeliver_after AS interval) * power(2, least(dispatch_no - 1, 6))
        ORDER BY dispatched_at LIMIT :limit
        FOR UPDATE SKIP LOCKED
    )
    UPDATE outbox_messages AS message
    SET dispatched_at = NULL, dispatch_no = message.dispatch_no + 1
    FROM unanswered WHERE message.task_id = unanswered.task_id
    RETURNING message.task_id
    """
)

# A vanished worker's start is taken back from the attempts and counted as a takeover instead.
# A message may be left: an acquire that waited for this very statement takes the task, but could
# not yet see the message that this one inserted. The next round turns it into the message it needs.
RETURN_EXPIRED = text(
    """
    WITH expired AS (
        SELECT id, takeovers < :max_takeovers AS another FROM tasks
        WHERE status = 'running' AND lease_expires_at < now()
        ORDER BY id LIMIT :limit
        FOR UPDATE SKIP LOCKED
    ), ended AS (
        UPDATE tasks AS task SET
            status = CASE WHEN another THEN 'queued' ELSE 'failed' END,
            stage = CASE WHEN another THEN 'retry_wait' ELSE 'done' END,
            version = task.version + 1,
            attempts = greatest(task.attempts - 1, 0),
            takeovers = task.takeovers + CAST(another AS integer),
            dispatch_no = task.dispatch_no + CAST(another AS integer),
            lease_owner = NULL, lease_expires_at = NULL,
            available_at = now(),
            finished_at = CASE WHEN another THEN NULL ELSE now() END,
            error = CASE WHEN another THEN NULL ELSE jsonb_build_object(
                'code', 'worker_lost', 'retryable', false,
                'detail', 'Each worker that ran the task vanished. Submit it again, '
                          'or tell the operator this task id.'
            ) END
        FROM expired WHERE task.id = expired.id
        RETURNING task.id, task.tenant_id, task.priority, task.version, task.dispatch_no,
                  task.takeovers, task.error, another
    ), message AS (
        INSERT INTO outbox_messages (task_id, tenant_id, dispatch_no, priority)
        SELECT id, tenant_id, dispatch_no, priority FROM ended WHERE another
        ON CONFLICT (task_id) DO UPDATE SET
            dispatch_no = greatest(outbox_messages.dispatch_no + 1, EXCLUDED.dispatch_no),
            available_at = EXCLUDED.available_at, dispatched_at = NULL
    ), letter AS (
        INSERT INTO dead_letters (task_id, dispatch_no, source, reason)
        SELECT id, dispatch_no, 'sweeper', 'worker_lost' FROM ended WHERE NOT another
    ), history AS (
        INSERT INTO task_events (task_id, seq, type, data)
        SELECT id, version,
               CASE WHEN another THEN 'task.requeued' ELSE 'task.failed' END,
               coalesce(
                   error, jsonb_build_object('reason', 'lease_expired', 'takeovers', takeovers)
               )
        FROM ended
    )
    SELECT id, another AS requeued, takeovers FROM ended
    """
)
