"""What there is to know about why a task does not go on: read by one statement, without a lock."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import JSONB

from api_service.queries import POSITION
from shared.database import Database
from shared.lifecycle import TaskStatus


@dataclass(frozen=True, slots=True)
class Lease:
    owner: str
    seconds_left: float
    running_seconds: float
    """Since this attempt began."""
    unseen_seconds: float | None
    """Since its worker last said that it lives; None if it never did, or has left."""
    gone: bool


@dataclass(frozen=True, slots=True)
class Message:
    state: Literal["delayed", "waiting", "dispatched"]
    seconds: float
    """Until it is due, since it was due, or since it was published."""
    position: int


@dataclass(frozen=True, slots=True)
class Lock:
    """Held on the task's row, or its message's, by another session of PostgreSQL."""

    pid: int
    session: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Paused:
    by: str
    reason: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Relays:
    alive: int
    with_redis: int
    redis_reason: str | None
    unseen_seconds: float | None
    """Since any of them was seen; None if there is no trace of one."""


@dataclass(frozen=True, slots=True)
class Workers:
    alive: int
    draining: int
    slots: int
    """Of those that live and do not drain."""
    busy: int
    mean_seconds: float | None
    unseen_seconds: float | None


@dataclass(frozen=True, slots=True)
class Facts:
    status: TaskStatus
    relays: Relays
    workers: Workers
    finished_at: datetime | None = None
    not_before: datetime | None = None
    canceling_seconds: float | None = None
    progress: str | None = None
    put_off: dict[str, Any] | None = None
    """Why the attempt before was given up, while the next one waits."""
    lease: Lease | None = None
    message: Message | None = None
    lock: Lock | None = None
    paused: Paused | None = None
    deleted: bool = False

    def told(self) -> dict[str, Any]:
        """Any: JSON."""
        return {
            name: value
            for name, value in asdict(self).items()
            if value is not None and name not in ("status", "deleted")
        }


async def facts_of(database: Database, task_id: UUID) -> Facts | None:
    """None if there is no such task."""
    async with database.autocommit() as connection:
        row = (await connection.execute(FACTS, {"task_id": task_id})).mappings().one_or_none()
    if row is None:
        return None
    parts = {"lease": Lease, "message": Message, "lock": Lock, "paused": Paused}
    found = {name: part(**row[name]) for name, part in parts.items() if row[name]}
    plain = ("finished_at", "not_before", "canceling_seconds", "progress", "put_off", "deleted")
    return Facts(
        status=TaskStatus(row["status"]),
        relays=Relays(**row["relays"]),
        workers=Workers(**row["workers"]),
        **{name: row[name] for name in plain},
        **found,
    )


# Who holds a row is read, not tried: a probe that locks would make a relay pass the message by.
# A row names the transaction that locked or changed it last; that one holds a lock on its own id
# for as long as it lasts.
FACTS = text(
    f"""
    WITH process AS (
        SELECT *, seen_at <= now() - gone_after AS gone,
               CAST(extract(epoch FROM now() - seen_at) AS float8) AS unseen_seconds,
               CAST(report ->> 'slots' AS integer) AS slots,
               CAST(report ->> 'mean_seconds' AS float8) AS mean_seconds,
               CAST(report #>> '{{redis,answers}}' AS boolean) AS redis_answers
        FROM processes
    )
    SELECT task.status, task.deleted_at IS NOT NULL AS deleted, task.finished_at, task.not_before,
           CAST(extract(epoch FROM now() - task.cancel_requested_at) AS float8)
               AS canceling_seconds,
           CASE WHEN task.progress_message IS NOT NULL
                THEN task.progress_message || ', ' || task.progress || ' %' END AS progress,
           CASE task.stage WHEN 'retry_wait' THEN (
               SELECT data FROM task_events
               WHERE task_id = task.id AND type = 'task.requeued' ORDER BY seq DESC LIMIT 1
           ) END AS put_off,
           CASE task.status WHEN 'running' THEN jsonb_build_object(
               'owner', task.lease_owner,
               'seconds_left', extract(epoch FROM task.lease_expires_at - now()),
               'running_seconds', extract(epoch FROM now() - (
                   SELECT max(created_at) FROM task_events
                   WHERE task_id = task.id AND type = 'task.started')),
               'unseen_seconds', owner.unseen_seconds,
               'gone', coalesce(owner.gone, false)
           ) END AS lease,
           CASE WHEN message.task_id IS NOT NULL THEN jsonb_build_object(
               'state', CASE WHEN message.dispatched_at IS NOT NULL THEN 'dispatched'
                             WHEN message.available_at > now() THEN 'delayed' ELSE 'waiting' END,
               'seconds', abs(extract(epoch FROM
                   now() - coalesce(message.dispatched_at, message.available_at))),
               'position', coalesce({POSITION}, 1)
           ) END AS message, (
               SELECT jsonb_build_object(
                   'pid', pid, 'session', session.application_name,
                   'seconds', greatest(extract(epoch FROM now() - session.xact_start), 0))
               FROM pg_locks AS held JOIN pg_stat_activity AS session USING (pid)
               WHERE held.locktype = 'transactionid' AND held.granted
                 AND held.mode = 'ExclusiveLock' AND pid <> pg_backend_pid()
                 AND held.transactionid IN (task.xmax, message.xmax)
               ORDER BY session.xact_start LIMIT 1
           ) AS lock,
           CASE WHEN paused_at IS NOT NULL THEN jsonb_build_object(
               'by', paused_by, 'reason', paused_reason,
               'seconds', extract(epoch FROM now() - paused_at)
           ) END AS paused, (
               SELECT jsonb_build_object(
                   'alive', count(*) FILTER (WHERE NOT gone),
                   'with_redis', count(*) FILTER (WHERE NOT gone AND redis_answers),
                   'redis_reason', max(report #>> '{{redis,reason}}') FILTER (WHERE NOT gone),
                   'unseen_seconds', min(unseen_seconds))
               FROM process WHERE role = 'relay'
           ) AS relays, (
               SELECT jsonb_build_object(
                   'alive', count(*) FILTER (WHERE NOT gone),
                   'draining', count(drain_requested_at) FILTER (WHERE NOT gone),
                   'slots', coalesce(sum(slots) FILTER (
                       WHERE NOT gone AND drain_requested_at IS NULL), 0),
                   'busy', (SELECT count(*) FROM tasks WHERE status = 'running'),
                   'mean_seconds', avg(mean_seconds) FILTER (WHERE NOT gone),
                   'unseen_seconds', min(unseen_seconds))
               FROM process WHERE role = 'worker'
           ) AS workers
    FROM deployment CROSS JOIN tasks AS task
    LEFT JOIN outbox_messages AS message ON message.task_id = task.id
    LEFT JOIN LATERAL (
        SELECT gone, unseen_seconds FROM process
        WHERE role = 'worker' AND name = task.lease_owner ORDER BY started_at DESC, id DESC LIMIT 1
    ) AS owner ON true
    WHERE task.id = :task_id
    """  # noqa: S608 - fixed text
).columns(
    put_off=JSONB, lease=JSONB, message=JSONB, lock=JSONB, paused=JSONB, relays=JSONB, workers=JSONB
)
