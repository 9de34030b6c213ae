"""All SQL of the relay: look, claim, settle, and what the sweeper finds. Time is PostgreSQL's."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from relay_service.lanes import Backlog, Lane, Position, Snapshot
from shared.database import Database

TRUST_LOCK = 0x_776D_0002
"""Advisory lock: each claim shares it while it publishes and settles; re-arming after Redis'
loss of memory takes it alone. A re-arm therefore sees every message settled before it."""

CAP_LOCK = 0x_776D_0003
"""Advisory lock: where tenants are capped, relays count and claim one after the other."""

PLANNING = {
    # Every statement here is an index range by design. A plan that was made while the table was
    # tiny must not outlive it, and planning anew each time would cost more than running.
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "plan_cache_mode": "force_generic_plan",
}
"""Settings of the relay's own database sessions."""


Connection = AsyncSession | AsyncConnection
"""Where one statement may be a transaction of its own or a part of one."""


@dataclass(frozen=True, slots=True)
class Look:
    """The outbox at one moment: what is due in the lanes, and lanes that were not known yet."""

    snapshot: Snapshot
    paused: bool
    rearmings: int
    backlogs: dict[Lane, Backlog]
    found: list[Lane]

    @property
    def waiting(self) -> int:
        return sum(backlog.waiting for backlog in self.backlogs.values())

    @property
    def until_next_due(self) -> float:
        """Seconds; infinite if nothing is delayed."""
        dues = [one.next_due for one in self.backlogs.values() if one.next_due]
        return (min(dues) - self.snapshot.now).total_seconds() if dues else math.inf


@dataclass(frozen=True, slots=True)
class Claimed:
    """An outbox message whose row this transaction has locked."""

    task_id: UUID
    dispatch_no: int
    waited: float = 0.0
    """Seconds since it was due."""


@dataclass(frozen=True, slots=True)
class TaskFact:
    """What the verifying session saw of a task."""

    status: str
    dispatch_no: int
    traceparent: str | None
    deployment_id: UUID


async def look(
    database: Database, floors: Mapping[Lane, Position], limit: int, resting: Collection[UUID]
) -> Look:
    """What waits in each lane from its floor on, counted up to ``limit``. Locks nothing."""
    parameters = _columns(floors) | {"limit": limit, "resting": list(resting)}
    async with database.autocommit() as connection:
        rows = (await connection.execute(LOOK, parameters)).all()
    first = rows[0]
    return Look(
        snapshot=Snapshot(first.now, first.xmin, first.next_xid),
        paused=first.paused,
        rearmings=first.rearmings,
        backlogs={
            Lane(row.tenant_id, row.priority): Backlog(
                row.waiting, _position(row.head_at, row.head_id), row.next_due
            )
            for row in rows
            if row.waiting is not None
        },
        found=[
            Lane(row.tenant_id, row.priority) for row in rows if row.tenant_id and not row.known
        ],
    )


async def claim(
    session: AsyncSession,
    quotas: Mapping[Lane, int],
    floors: Mapping[Lane, Position],
    resting: Collection[UUID],
) -> list[Claimed]:
    """Lock the oldest due messages of each lane, as many as its quota; ``resting`` ones not.

    The row lock is the claim: other relays skip it, and a killed relay's session frees it.
    The urgent come first; tenants of one priority take turns.
    """
    parameters = _columns({lane: floors[lane] for lane in quotas}) | {
        "quotas": list(quotas.values()),
        "resting": list(resting),
        "trust_lock": TRUST_LOCK,
    }
    rows = await session.execute(CLAIM, parameters)
    return [Claimed(*row) for row in rows]


async def engaged(session: AsyncSession, heads: Mapping[Lane, Position]) -> dict[str, int]:
    """How many tasks of each tenant run or are about to; nobody else may claim until we commit."""
    await session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": CAP_LOCK})
    rows = await session.execute(ENGAGED, _columns(heads))
    return {row.tenant_id: row.engaged for row in rows}


async def look_up(database: Database, claimed: Sequence[Claimed]) -> dict[UUID, TaskFact]:
    """The claimed messages' tasks, through a session of its own with a fresh snapshot."""
    async with database.autocommit() as connection:
        rows = await connection.execute(FACTS, {"ids": [message.task_id for message in claimed]})
        return {row[0]: TaskFact(*row[1:]) for row in rows}


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


async def rearm_all(database: Database, incarnation: str) -> int | None:
    """Ring all unanswered doorbells again, once per incarnation; None if another relay did.

    In portions, so that no number of messages can outlast a statement's time. The incarnation
    is trusted with the last one: killed in between, it begins anew.
    """
    async with database.begin() as session:
        # Whoever published into the lost memory has settled once we hold the lock.
        await session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": TRUST_LOCK})
        found = (await session.execute(IS_TRUSTED, {"incarnation": incarnation})).one()
    if found.trusted:
        return None
    rearmed = 0
    while True:
        async with database.begin() as session:
            await session.execute(text("SET LOCAL enable_seqscan = on"))
            parameters = {"before": found.now, "limit": PORTION}
            portion = len((await session.execute(REARM_BEFORE, parameters)).all())
            rearmed += portion
            if portion < PORTION:
                await session.execute(TRUST, {"incarnation": incarnation})
                return rearmed


async def rearm_unanswered(
    connection: Connection,
    heads: Mapping[Lane, Position],
    redeliver_after: timedelta,
    queued: Collection[UUID],
    limit: int,
) -> Sequence[UUID]:
    """Ring again, under a new number, what nobody answered; each time with more patience.

    What is ``queued`` in Redis is not lost: it waits its turn.
    """
    parameters = _columns(heads) | {
        "redeliver_after": redeliver_after,
        "queued": list(queued),
        "limit": limit,
    }
    return (await connection.execute(REARM_UNANSWERED, parameters)).scalars().all()


async def return_expired(
    connection: Connection, max_takeovers: int, limit: int
) -> Sequence[RowMapping]:
    """Tasks whose worker vanished go back to queued, or fail when too many workers did; one that
    was being canceled is."""
    parameters = {"max_takeovers": max_takeovers, "limit": limit}
    return (await connection.execute(RETURN_EXPIRED, parameters)).mappings().all()


async def end_overdue(
    connection: Connection, error: Mapping[str, Any], grace: timedelta, limit: int
) -> Sequence[RowMapping]:
    """End what its deadline has passed: what waits at once, what runs ``grace`` later.

    What was being canceled is canceled; the others have ``failed``.
    """
    parameters = {"error": json.dumps(error), "grace": grace, "limit": limit}
    return (await connection.execute(END_OVERDUE, parameters)).mappings().all()


def _columns(lanes: Mapping[Lane, Position]) -> dict[str, Any]:
    """Lanes and a position in each, as the arrays that the statements unnest."""
    return {
        "tenants": [lane.tenant_id for lane in lanes],
        "priorities": [lane.priority for lane in lanes],
        "times": [position.available_at for position in lanes.values()],
        "ids": [position.task_id for position in lanes.values()],
    }


def _position(available_at: datetime | None, task_id: UUID | None) -> Position | None:
    return Position(available_at, task_id) if available_at and task_id else None


PORTION = 20_000
"""Messages re-armed by one transaction."""

# One lane per row: a tenant, a priority and a position to read from, or up to.
LANES = """
    SELECT * FROM unnest(
        CAST(:tenants AS text[]), CAST(:priorities AS smallint[]),
        CAST(:times AS timestamptz[]), CAST(:ids AS uuid[])
    ) AS lane (tenant_id, priority, place_at, place_id)
"""

# The header, each known lane, and in each gap between two known lanes the first lane that lives
# there: so new lanes are found without a word about them and without reading over known ones.
LOOK = text(
    f"""
    WITH header AS (
        SELECT now() AS now, paused_at IS NOT NULL AS paused, rearmings,
               CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint) AS xmin,
               CAST(CAST(pg_snapshot_xmax(pg_current_snapshot()) AS text) AS bigint)
               + age(CAST(pg_snapshot_xmax(pg_current_snapshot()) AS xid)) AS next_xid
        FROM deployment
    ), lane AS ({LANES}), known AS (
        SELECT lane.tenant_id, lane.priority, due.*, delayed.next_due
        FROM lane CROSS JOIN LATERAL (
            SELECT count(*) FILTER (WHERE task_id <> ALL (CAST(:resting AS uuid[]))) AS waiting,
                   min(available_at) AS head_at, (array_agg(task_id))[1] AS head_id
            FROM (
                SELECT available_at, task_id FROM outbox_messages AS message
                WHERE message.tenant_id = lane.tenant_id AND message.priority = lane.priority
                  AND (message.available_at, message.task_id) >= (lane.place_at, lane.place_id)
                  AND message.available_at <= now() AND dispatched_at IS NULL
                ORDER BY message.available_at, message.task_id
                LIMIT :limit + cardinality(CAST(:resting AS uuid[]))
            ) AS first
        ) AS due
        LEFT JOIN LATERAL (
            SELECT available_at AS next_due FROM outbox_messages AS message
            WHERE message.tenant_id = lane.tenant_id AND message.priority = lane.priority
              AND message.available_at > now() AND dispatched_at IS NULL
            ORDER BY message.available_at, message.task_id LIMIT 1
        ) AS delayed ON true
    ), gap AS (
        SELECT tenant_id, priority, lead(tenant_id) OVER places AS next_tenant_id,
               lead(priority) OVER places AS next_priority
        FROM (SELECT '' AS tenant_id, CAST(0 AS smallint) AS priority
              UNION ALL SELECT tenant_id, priority FROM lane) AS place
        WINDOW places AS (ORDER BY tenant_id, priority)
    ), found AS (
        SELECT first.* FROM gap CROSS JOIN LATERAL (
            SELECT message.tenant_id, message.priority FROM outbox_messages AS message
            WHERE (message.tenant_id, message.priority) > (gap.tenant_id, gap.priority)
              AND (message.tenant_id, message.priority) < (gap.next_tenant_id, gap.next_priority)
            ORDER BY message.tenant_id, message.priority, available_at, task_id LIMIT 1
        ) AS first
        UNION ALL
        SELECT first.* FROM gap CROSS JOIN LATERAL (
            SELECT message.tenant_id, message.priority FROM outbox_messages AS message
            WHERE (message.tenant_id, message.priority) > (gap.tenant_id, gap.priority)
              AND gap.next_tenant_id IS NULL
            ORDER BY message.tenant_id, message.priority, available_at, task_id LIMIT 1
        ) AS first
    )
    SELECT header.*, item.* FROM header LEFT JOIN (
        SELECT *, true AS known FROM known
        UNION ALL SELECT tenant_id, priority, NULL, NULL, NULL, NULL, false FROM found
    ) AS item ON true
    """  # noqa: S608 - fixed text
)

CLAIM = text(
    """
    SELECT task_id, dispatch_no, waited
    FROM unnest(
        CAST(:tenants AS text[]), CAST(:priorities AS smallint[]),
        CAST(:times AS timestamptz[]), CAST(:ids AS uuid[]), CAST(:quotas AS integer[])
    ) AS lane (tenant_id, priority, place_at, place_id, quota)
    CROSS JOIN LATERAL (
        SELECT task_id, dispatch_no, available_at,
               CAST(extract(epoch FROM clock_timestamp() - available_at) AS float8) AS waited
        FROM outbox_messages AS message
        WHERE (SELECT pg_advisory_xact_lock_shared(:trust_lock)) IS NOT NULL
          AND message.tenant_id = lane.tenant_id AND message.priority = lane.priority
          AND (message.available_at, message.task_id) >= (lane.place_at, lane.place_id)
          AND message.available_at <= now() AND dispatched_at IS NULL
          AND task_id <> ALL (CAST(:resting AS uuid[]))
        ORDER BY message.available_at, message.task_id
        LIMIT lane.quota
        FOR UPDATE SKIP LOCKED
    ) AS claimed
    WINDOW lanes AS (PARTITION BY lane.tenant_id, lane.priority ORDER BY available_at, task_id)
    ORDER BY lane.priority, CAST(row_number() OVER lanes AS float8) / quota, available_at
    """
)

# What is published and not yet taken lies below the first that waits.
ENGAGED = text(
    f"""
    WITH lane AS ({LANES})
    SELECT tenant_id, count(*) AS engaged FROM (
        SELECT tenant_id FROM tasks WHERE status = 'running'
        UNION ALL
        SELECT lane.tenant_id FROM lane JOIN outbox_messages AS message
          ON message.tenant_id = lane.tenant_id AND message.priority = lane.priority
         AND (message.available_at, message.task_id) < (lane.place_at, lane.place_id)
         AND dispatched_at IS NOT NULL
    ) AS task GROUP BY tenant_id
    """  # noqa: S608 - fixed text
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

IS_TRUSTED = text(
    """
    SELECT redis_incarnation IS NOT DISTINCT FROM :incarnation AS trusted, clock_timestamp() AS now
    FROM deployment
    """
)

TRUST = text("UPDATE deployment SET redis_incarnation = :incarnation, rearmings = rearmings + 1")

REARM_BEFORE = text(
    """
    UPDATE outbox_messages SET dispatched_at = NULL
    WHERE task_id IN (
        SELECT task_id FROM outbox_messages WHERE dispatched_at < :before
        LIMIT :limit FOR UPDATE SKIP LOCKED
    )
    RETURNING task_id
    """
)

# Below the first that waits, only what was published is left; each relay asks in its own lanes.
REARM_UNANSWERED = text(
    f"""
    WITH lane AS ({LANES}), unanswered AS (
        SELECT task_id FROM lane CROSS JOIN LATERAL (
            SELECT task_id FROM outbox_messages AS message
            WHERE message.tenant_id = lane.tenant_id AND message.priority = lane.priority
              AND (message.available_at, message.task_id) < (lane.place_at, lane.place_id)
              AND dispatched_at < now()
                - CAST(:redeliver_after AS interval) * power(2, least(dispatch_no - 1, 6))
              AND task_id <> ALL (CAST(:queued AS uuid[]))
            ORDER BY message.available_at, message.task_id LIMIT :limit
            FOR UPDATE SKIP LOCKED
        ) AS message LIMIT :limit
    ), rearmed AS (
        UPDATE outbox_messages AS message
        SET dispatched_at = NULL, dispatch_no = message.dispatch_no + 1
        FROM unanswered WHERE message.task_id = unanswered.task_id
        RETURNING message.task_id
    ), noted AS (
        UPDATE deployment SET rearmings = rearmings + 1 WHERE EXISTS (SELECT FROM rearmed)
    )
    SELECT task_id FROM rearmed
    """  # noqa: S608 - fixed text
)

# A vanished worker's start is taken back from the attempts and counted as a takeover instead.
# A message may be left: an acquire that waited for this very statement takes the task, but could
# not yet see the message that this one inserted. The next round turns it into the message it needs.
RETURN_EXPIRED = text(
    """
    WITH expired AS (
        SELECT id, CASE
            WHEN cancel_requested_at IS NOT NULL THEN 'canceled'
            WHEN takeovers < :max_takeovers THEN 'queued'
            ELSE 'failed'
        END AS verdict
        FROM tasks
        WHERE status = 'running' AND lease_expires_at < now()
        ORDER BY id LIMIT :limit
        FOR UPDATE SKIP LOCKED
    ), ended AS (
        UPDATE tasks AS task SET
            status = verdict,
            stage = CASE verdict WHEN 'queued' THEN 'retry_wait' ELSE 'done' END,
            version = task.version + 1,
            attempts = greatest(task.attempts - 1, 0),
            takeovers = task.takeovers + CAST(verdict = 'queued' AS integer),
            dispatch_no = task.dispatch_no + CAST(verdict = 'queued' AS integer),
            lease_owner = NULL, lease_expires_at = NULL,
            available_at = now(),
            finished_at = CASE WHEN verdict <> 'queued' THEN now() END,
            error = CASE WHEN verdict = 'failed' THEN jsonb_build_object(
                'code', 'worker_lost', 'retryable', false,
                'detail', 'Each worker that ran the task vanished. Submit it again, '
                          'or tell the operator this task id.'
            ) END
        FROM expired WHERE task.id = expired.id
        RETURNING task.id, task.tenant_id, task.priority, task.version, task.dispatch_no,
                  task.takeovers, task.error, task.cancel_requested_at, verdict
    ), message AS (
        INSERT INTO outbox_messages (task_id, tenant_id, dispatch_no, priority)
        SELECT id, tenant_id, dispatch_no, priority FROM ended WHERE verdict = 'queued'
        ON CONFLICT (task_id) DO UPDATE SET
            dispatch_no = greatest(outbox_messages.dispatch_no + 1, EXCLUDED.dispatch_no),
            available_at = clock_timestamp(), dispatched_at = NULL
    ), letter AS (
        INSERT INTO dead_letters (task_id, dispatch_no, source, reason)
        SELECT id, dispatch_no, 'sweeper', 'worker_lost' FROM ended WHERE verdict = 'failed'
    ), history AS (
        INSERT INTO task_events (task_id, seq, type, data)
        SELECT id, version,
               CASE verdict WHEN 'queued' THEN 'task.requeued' ELSE 'task.' || verdict END,
               CASE verdict
                   WHEN 'failed' THEN error
                   WHEN 'queued' THEN jsonb_build_object(
                       'reason', 'lease_expired', 'takeovers', takeovers)
                   ELSE jsonb_build_object('requested_at', cancel_requested_at)
               END
        FROM ended
    )
    SELECT id, verdict FROM ended
    """
)

# A worker ends its own task at the deadline; GRACE later it is ended for it, and the lease token
# keeps out whatever it may still write.
END_OVERDUE = text(
    """
    WITH overdue AS (
        SELECT id, cancel_requested_at IS NULL AS failed FROM tasks
        WHERE deadline_at < now() AND finished_at IS NULL
          AND (status = 'queued' OR deadline_at < now() - CAST(:grace AS interval))
        ORDER BY deadline_at LIMIT :limit
        FOR UPDATE SKIP LOCKED
    ), message AS (
        DELETE FROM outbox_messages WHERE task_id IN (SELECT id FROM overdue)
        RETURNING task_id, dispatched_at
    ), ended AS (
        UPDATE tasks AS task SET
            status = CASE WHEN failed THEN 'failed' ELSE 'canceled' END, stage = 'done',
            version = task.version + 1, finished_at = now(),
            lease_owner = NULL, lease_expires_at = NULL,
            dispatched_at = coalesce(message.dispatched_at, task.dispatched_at),
            error = CASE WHEN failed THEN CAST(:error AS jsonb) END
        FROM overdue LEFT JOIN message ON message.task_id = overdue.id
        WHERE task.id = overdue.id
        RETURNING task.id, task.version, task.dispatch_no, task.error, task.cancel_requested_at,
                  failed
    ), letter AS (
        INSERT INTO dead_letters (task_id, dispatch_no, source, reason)
        SELECT id, dispatch_no, 'sweeper', error ->> 'code' FROM ended WHERE failed
    ), history AS (
        INSERT INTO task_events (task_id, seq, type, data)
        SELECT id, version, CASE WHEN failed THEN 'task.failed' ELSE 'task.canceled' END,
               coalesce(error, jsonb_build_object('requested_at', cancel_requested_at))
        FROM ended
    )
    SELECT id, failed FROM ended
    """
)
