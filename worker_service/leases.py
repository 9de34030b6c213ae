"""All SQL of the worker. A lease is a timed right to one task; its token fences every write."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.dialects.postgresql import JSONB
from uuid_utils.compat import uuid7

from shared.database import Database
from shared.errors import TaskError
from shared.messages import Doorbell
from shared.roadmap import Roadmap


@dataclass(frozen=True, slots=True)
class Lease:
    """What a worker holds, and what it needs to know to do the work."""

    task_id: UUID
    token: int
    attempts: int
    takeovers: int
    input: dict[str, Any]
    accepted_on: date
    taken_at: float
    """By the event loop's clock, before PostgreSQL was asked: the lease cannot end earlier."""

    @classmethod
    def of(cls, row: RowMapping, taken_at: float) -> Lease:
        return cls(
            task_id=row["id"],
            token=row["lease_token"],
            attempts=row["attempts"],
            takeovers=row["takeovers"],
            input=row["input"],
            accepted_on=row["created_at"].date(),
            taken_at=taken_at,
        )


@dataclass(frozen=True, slots=True)
class Sighting:
    """A task that was found but not taken: ``due`` if only a race kept us from it."""

    status: str
    due: bool


class Leases:
    def __init__(self, database: Database, *, owner: str, seconds: float) -> None:
        self.database = database
        self.owner = owner
        self.seconds = seconds

    async def acquire(self, task_id: UUID, max_takeovers: int) -> Lease | None:
        """Take the task if it is due, or if its worker's lease ran out; None if neither.

        The same transaction deletes the outbox message: the promise to run it is being kept.
        """
        parameters = {
            "task_id": task_id,
            "owner": self.owner,
            "lease": timedelta(seconds=self.seconds),
            "max_takeovers": max_takeovers,
        }
        taken_at = asyncio.get_running_loop().time()
        async with self.database.begin() as session:
            row = (await session.execute(ACQUIRE, parameters)).mappings().one_or_none()
            if row is None:
                await session.rollback()  # the message stays: it was not ours to answer
                return None
        return Lease.of(row, taken_at)

    async def sight(self, task_id: UUID) -> Sighting | None:
        async with self.database.begin() as session:
            row = (await session.execute(SIGHT, {"task_id": task_id})).one_or_none()
        return Sighting(row.status, row.due) if row else None

    async def extend(self, leases: list[Lease]) -> set[UUID]:
        """Extend all in one statement; the tasks that are still ours."""
        parameters = {
            "ids": [lease.task_id for lease in leases],
            "tokens": [lease.token for lease in leases],
            "lease": timedelta(seconds=self.seconds),
        }
        async with self.database.begin() as session:
            return set((await session.execute(EXTEND, parameters)).scalars())

    async def complete(self, lease: Lease, roadmap: Roadmap) -> bool:
        """Roadmap, success and event, or nothing. False: the lease was no longer ours."""
        document = roadmap.model_dump_json()
        if await self._won(COMPLETE, lease, roadmap_id=uuid7(), document=document):
            return True
        # The COMMIT of an earlier try may have worked and only its answer been lost.
        return await self._won(COMPLETED_BEFORE, lease)

    async def requeue(self, lease: Lease, error: TaskError, delay: float) -> bool:
        """Another attempt after ``delay`` seconds, its outbox message in the same transaction."""
        return await self._won(
            REQUEUE,
            lease,
            delay=timedelta(seconds=delay),
            event="task.retrying",
            data=json.dumps(error.as_dict()),
            uncharged=0,
        )

    async def hand_over(self, lease: Lease) -> bool:
        """Give the task back at once: this worker stops. No attempt is charged."""
        return await self._won(
            REQUEUE,
            lease,
            delay=timedelta(0),
            event="task.requeued",
            data=json.dumps({"reason": "worker_stopping"}),
            uncharged=1,
        )

    async def fail(self, lease: Lease, error: TaskError) -> bool:
        """End the task as failed, for good."""
        return await self._won(FAIL, lease, error=json.dumps(error.as_dict()))

    async def bury(self, doorbell: Doorbell, reason: str) -> None:
        """Keep a message that cannot be true: of no task, or of another deployment."""
        parameters = {
            "task_id": doorbell.task_id,
            "dispatch_no": doorbell.dispatch_no,
            "reason": reason,
            "detail": json.dumps(doorbell.as_kwargs()),
        }
        async with self.database.begin() as session:
            await session.execute(BURY, parameters)

    async def _won(self, statement: Any, lease: Lease, **parameters: Any) -> bool:
        """Run a write that the lease token guards; whether it took place."""
        fence = {"task_id": lease.task_id, "token": lease.token}
        async with self.database.begin() as session:
            return (await session.execute(statement, fence | parameters)).first() is not None


ACQUIRE = text(
    """
    WITH rung AS (
        DELETE FROM outbox_messages WHERE task_id = :task_id AND available_at <= now()
        RETURNING dispatch_no, dispatched_at
    ), taken AS (
        UPDATE tasks SET
            status = 'running', stage = 'generating',
            version = version + 1 + (SELECT count(dispatched_at) FROM rung),
            attempts = attempts + CAST(status = 'queued' AS integer),
            takeovers = takeovers + CAST(status = 'running' AS integer),
            lease_token = lease_token + 1, lease_owner = :owner, lease_expires_at = now() + :lease,
            dispatch_no = greatest(dispatch_no, (SELECT dispatch_no FROM rung)),
            dispatched_at = coalesce((SELECT dispatched_at FROM rung), dispatched_at),
            started_at = coalesce(started_at, now())
        WHERE id = :task_id AND (
            status = 'queued' AND available_at <= now()
            OR status = 'running' AND lease_expires_at < now() AND takeovers < :max_takeovers
        )
        RETURNING *
    ), dispatched AS (
        INSERT INTO task_events (task_id, seq, type, data, created_at)
        SELECT taken.id, taken.version - 1, 'task.dispatched',
               jsonb_build_object('dispatch_no', rung.dispatch_no), rung.dispatched_at
        FROM taken CROSS JOIN rung WHERE rung.dispatched_at IS NOT NULL
    ), started AS (
        INSERT INTO task_events (task_id, seq, type, data)
        SELECT id, version, 'task.started', jsonb_build_object(
            'worker', lease_owner, 'attempt', attempts, 'takeover', takeovers)
        FROM taken
    )
    SELECT id, lease_token, attempts, takeovers, input, created_at FROM taken
    """
).columns(input=JSONB)

SIGHT = text(
    """
    SELECT status, status = 'queued' AND available_at <= now() AS due
    FROM tasks WHERE id = :task_id
    """
)

EXTEND = text(
    """
    UPDATE tasks SET lease_expires_at = now() + :lease
    FROM unnest(CAST(:ids AS uuid[]), CAST(:tokens AS bigint[])) AS held (id, token)
    WHERE tasks.id = held.id AND tasks.lease_token = held.token AND tasks.status = 'running'
    RETURNING tasks.id
    """
)

# Roadmap and task name each other by foreign keys, which PostgreSQL checks when the statement
# ends; a success without a roadmap, or a second roadmap, cannot be written at all.
COMPLETE = text(
    """
    WITH done AS (
        UPDATE tasks SET
            status = 'succeeded', stage = 'done', version = version + 1, roadmap_id = :roadmap_id,
            finished_at = now(), lease_owner = NULL, lease_expires_at = NULL
        WHERE id = :task_id AND lease_token = :token AND status = 'running'
        RETURNING id, tenant_id, version, lease_token, roadmap_id
    ), result AS (
        INSERT INTO roadmaps (task_id, id, tenant_id, lease_token, document)
        SELECT id, roadmap_id, tenant_id, lease_token, CAST(:document AS jsonb) FROM done
    )
    INSERT INTO task_events (task_id, seq, type, data)
    SELECT id, version, 'task.succeeded', jsonb_build_object('roadmap_id', roadmap_id) FROM done
    RETURNING seq
    """
)

COMPLETED_BEFORE = text("SELECT 1 FROM roadmaps WHERE task_id = :task_id AND lease_token = :token")

# A message may be left from an acquire that raced with the sweeper; then it becomes this one.
REQUEUE = text(
    """
    WITH returned AS (
        UPDATE tasks SET
            status = 'queued', stage = 'retry_wait', version = version + 1,
            attempts = greatest(attempts - :uncharged, 0), dispatch_no = dispatch_no + 1,
            available_at = now() + :delay, lease_owner = NULL, lease_expires_at = NULL
        WHERE id = :task_id AND lease_token = :token AND status = 'running'
        RETURNING id, tenant_id, priority, version, dispatch_no, available_at
    ), message AS (
        INSERT INTO outbox_messages (task_id, tenant_id, dispatch_no, priority, available_at)
        -- not now(): see OutboxMessage.available_at
        SELECT id, tenant_id, dispatch_no, priority, clock_timestamp() + :delay FROM returned
        ON CONFLICT (task_id) DO UPDATE SET
            dispatch_no = greatest(outbox_messages.dispatch_no + 1, EXCLUDED.dispatch_no),
            available_at = EXCLUDED.available_at, dispatched_at = NULL
    )
    INSERT INTO task_events (task_id, seq, type, data)
    SELECT id, version, :event,
           CAST(:data AS jsonb) || jsonb_build_object('available_at', available_at)
    FROM returned
    RETURNING seq
    """
)

FAIL = text(
    """
    WITH failed AS (
        UPDATE tasks SET
            status = 'failed', stage = 'done', version = version + 1,
            error = CAST(:error AS jsonb), finished_at = now(),
            lease_owner = NULL, lease_expires_at = NULL
        WHERE id = :task_id AND lease_token = :token AND status = 'running'
        RETURNING id, version, dispatch_no, error
    ), letter AS (
        INSERT INTO dead_letters (task_id, dispatch_no, source, reason, detail)
        SELECT id, dispatch_no, 'worker', error ->> 'code', error FROM failed
        ON CONFLICT DO NOTHING
    )
    INSERT INTO task_events (task_id, seq, type, data)
    SELECT id, version, 'task.failed', error FROM failed
    RETURNING seq
    """
)

BURY = text(
    """
    INSERT INTO dead_letters (task_id, dispatch_no, source, reason, detail)
    VALUES (:task_id, :dispatch_no, 'worker', :reason, CAST(:detail AS jsonb))
    ON CONFLICT DO NOTHING
    """
)
