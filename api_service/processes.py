"""What relays and workers say about themselves, and the hand that lets a worker take no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.dialects.postgresql import JSONB

from api_service.capacity import Capacity
from api_service.ops_schemas import Pause
from api_service.process_schemas import (
    QueueView,
    RedisReport,
    RelayState,
    RelayView,
    WorkerState,
    WorkerTask,
    WorkerView,
)
from shared.database import Database
from shared.messages import QUEUE

Order = Literal["drain", "undrain"]


async def workers(database: Database, worker_id: UUID | None = None) -> list[WorkerView]:
    """All that were heard of within a day, or the one; the oldest first."""
    return [_worker(row) for row in await _processes(database, "worker", worker_id)]


async def relays(database: Database) -> list[RelayView]:
    return [_relay(row) for row in await _processes(database, "relay", None)]


async def queue(database: Database, capacity: Capacity) -> QueueView:
    async with database.autocommit() as connection:
        row = (await connection.execute(QUEUE_COUNTS)).mappings().one()
    counts = {name: row[name] for name in QueueView.model_fields if name in row}
    return QueueView(
        name=QUEUE,
        paused=_pause(row) if row["paused_at"] else None,
        estimated_wait_seconds=await capacity.wait_for(row["waiting"] + row["in_flight"]),
        **counts,
    )


async def give_order(
    database: Database, order: Order, worker_id: UUID, *, actor: str, reason: str
) -> WorkerView | None:
    """Let a worker drain, or go on, which it hears when it next says that it lives. None if there
    is no such worker. An order that was given before is no act."""
    act = {"worker_id": worker_id, "actor": actor, "reason": reason, "act": order}
    async with database.autocommit() as connection:
        await connection.execute(GIVE_ORDER, act | {"draining": order == "drain"})
    found = await workers(database, worker_id)
    return found[0] if found else None


async def _processes(
    database: Database, role: str, process_id: UUID | None
) -> Sequence[RowMapping]:
    async with database.autocommit() as connection:
        asked = {"role": role, "process_id": process_id}
        return (await connection.execute(PROCESSES, asked)).mappings().all()


def _pause(row: RowMapping) -> Pause:
    return Pause(at=row["paused_at"], by=row["paused_by"], reason=row["paused_reason"])


def _worker(row: RowMapping) -> WorkerView:
    report = row["report"]
    return WorkerView(
        **_identity(row),
        state=_worker_state(row, report),
        slots=report["slots"],
        running=report["running"],
        finished=report["finished"],
        mean_seconds=report["mean_seconds"],
        drain_requested_at=row["drain_requested_at"],
        tasks=[WorkerTask.model_validate(one) for one in row["tasks"] or ()],
    )


def _worker_state(row: RowMapping, report: Mapping[str, Any]) -> WorkerState:
    """Any: JSON."""
    runs = bool(report["running"] or row["tasks"])
    if row["gone"]:
        return "gone"
    if row["drain_requested_at"]:
        return "draining" if runs or not report["resting"] else "drained"
    return "working" if runs else "idle"


def _relay(row: RowMapping) -> RelayView:
    report = row["report"]
    return RelayView(
        **_identity(row),
        state=_relay_state(row, report),
        published=report["published"],
        redis=RedisReport.model_validate(report["redis"]),
    )


def _relay_state(row: RowMapping, report: Mapping[str, Any]) -> RelayState:
    """Any: JSON."""
    if row["gone"]:
        return "gone"
    if not report["redis"]["answers"]:
        return "waiting_for_redis"
    return "paused" if report["paused"] else "carrying"


def _identity(row: RowMapping) -> dict[str, Any]:
    """Any: of several types."""
    return {name: row[name] for name in ("id", "name", "version", "started_at", "seen_at")}


# A pid may be used again, in containers above all: leases are shown with the latest of a name.
PROCESSES = text(
    """
    SELECT process.*, seen_at <= now() - gone_after AS gone, (
        SELECT jsonb_agg(jsonb_build_object(
            'task_id', task.id, 'attempt', attempts, 'lease_expires_at', lease_expires_at
        ) ORDER BY task.id)
        FROM tasks AS task
        WHERE task.status = 'running' AND task.lease_owner = process.name
          AND process.role = 'worker' AND NOT EXISTS (
              SELECT FROM processes AS later
              WHERE later.name = process.name AND later.id > process.id
          )
    ) AS tasks
    FROM processes AS process
    WHERE role = :role AND (CAST(:process_id AS uuid) IS NULL OR id = CAST(:process_id AS uuid))
    ORDER BY started_at, id
    """
).columns(report=JSONB, tasks=JSONB)

GIVE_ORDER = text(
    """
    WITH changed AS (
        UPDATE processes
        SET drain_requested_at = CASE WHEN CAST(:draining AS boolean) THEN now() END
        WHERE id = :worker_id AND role = 'worker'
          AND (drain_requested_at IS NULL) = CAST(:draining AS boolean)
        RETURNING id, name
    )
    INSERT INTO operator_acts (actor, act, reason, detail)
    SELECT :actor, :act, :reason, jsonb_build_object('worker_id', id, 'worker', name) FROM changed
    """
)

QUEUE_COUNTS = text(
    """
    SELECT message.*, worker.*, paused_at, paused_by, paused_reason,
           (SELECT count(*) FROM tasks WHERE status = 'running') AS running, (
               SELECT CAST(report #>> '{redis,depth}' AS integer) FROM processes
               WHERE role = 'relay' AND seen_at > now() - gone_after
               ORDER BY seen_at DESC LIMIT 1
           ) AS redis_depth
    FROM deployment CROSS JOIN (
        SELECT count(*) FILTER (WHERE due) AS waiting,
               count(*) FILTER (WHERE dispatched_at IS NULL AND NOT due) AS delayed,
               count(dispatched_at) AS in_flight,
               CAST(extract(epoch FROM now() - min(available_at) FILTER (WHERE due)) AS float8)
                   AS oldest_waiting_seconds
        FROM (
            SELECT *, dispatched_at IS NULL AND available_at <= now() AS due FROM outbox_messages
        ) AS message
    ) AS message CROSS JOIN (
        SELECT count(*) AS workers,
               CAST(coalesce(sum(CAST(report ->> 'slots' AS integer)), 0) AS integer) AS slots
        FROM processes
        WHERE role = 'worker' AND seen_at > now() - gone_after AND drain_requested_at IS NULL
    ) AS worker
    """
)
