"""★ WRITE IT DOWN: a task and its outbox message, in one transaction, exactly once per key."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import time
from dataclasses import dataclass
from uuid import UUID

import structlog
from sqlalchemy import RowMapping, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from api_service.problems import Problem
from api_service.schemas import TaskSubmission
from shared import logs, metrics
from shared.backoff import exponential
from shared.database import TIMED_OUT, Database, reason, retriable, sqlstate
from shared.failpoints import failpoint
from shared.lifecycle import Priority

log = structlog.get_logger()

TRIES = 4
"""A submission whose connection breaks is repeated as often, then the client must."""


@dataclass(frozen=True, slots=True)
class NewTask:
    """All that the insert needs. The id is chosen here, so that a repeated insert is the same."""

    id: UUID
    tenant_id: str
    idempotency_key: str | None
    request_hash: bytes
    input: str
    priority: Priority
    traceparent: str | None

    @classmethod
    def of(
        cls, body: TaskSubmission, *, tenant_id: str, key: str | None, traceparent: str | None
    ) -> NewTask:
        document = body.model_dump(mode="json", exclude_defaults=True)
        canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
        return cls(
            id=uuid7(),
            tenant_id=tenant_id,
            idempotency_key=key,
            request_hash=hashlib.sha256(canonical.encode()).digest(),
            input=body.input.model_dump_json(),
            priority=body.rank,
            traceparent=traceparent,
        )


@dataclass(frozen=True, slots=True)
class Submission:
    """What a submission led to: the task's row, and whether an earlier one had made it."""

    task: RowMapping
    replayed: bool


async def submit(database: Database, new: NewTask) -> Submission:
    """Write the task down; when this returns, it is committed.

    A connection that breaks, even during COMMIT, leaves the outcome unknown. The same insert
    is then repeated: the unique index waits for its rival, so the second answer is definite.
    Raises Problem when the key was used for another request.
    """
    deadline = time.monotonic() + database.settings.database_command_timeout
    for tries in range(1, TRIES + 1):
        try:
            async with database.begin() as session:
                row = await _insert_once(session, new) or await _first_under(session, new)
                await session.commit()
                # At once, while the answer to COMMIT is fresh: the relay is quick.
                _report(row, new)
            break
        except Exception as error:
            late = tries == TRIES or time.monotonic() >= deadline
            if late or not retriable(error) or sqlstate(error) == TIMED_OUT:
                raise
            log.warning("submission_repeated", task_id=new.id, tries=tries, error=reason(error))
            await asyncio.sleep(exponential(tries, 0.1, 1, random.random()))  # noqa: S311 - jitter

    await failpoint("api.committed")
    replayed = row["id"] != new.id
    if replayed and row["request_hash"] != new.request_hash:
        raise Problem("idempotency-key-reused", f"The key was used for task {row['id']}.")
    return Submission(row, replayed)


def _report(row: RowMapping, new: NewTask) -> None:
    if row["id"] == new.id:
        metrics.ACCEPTED.inc()
        log.info(logs.TASK_COMMITTED, task_id=new.id, traceparent=new.traceparent)


async def _insert_once(session: AsyncSession, new: NewTask) -> RowMapping | None:
    parameters = {name: getattr(new, name) for name in NewTask.__slots__}
    result = await session.execute(INSERT_ONCE, parameters)
    return result.mappings().one_or_none()


async def _first_under(session: AsyncSession, new: NewTask) -> RowMapping:
    parameters = {"id": new.id, "tenant_id": new.tenant_id, "key": new.idempotency_key}
    return (await session.execute(FIRST_UNDER_KEY, parameters)).mappings().one()


# Task, message and first event, or nothing: one statement, one round trip. DO NOTHING without a
# target covers both ways to be there already: the same key, and the same id after a lost COMMIT.
INSERT_ONCE = text(
    """
    WITH task AS (
        INSERT INTO tasks
            (id, tenant_id, idempotency_key, request_hash, input, priority, traceparent)
        VALUES
            (:id, :tenant_id, :idempotency_key, :request_hash, CAST(:input AS jsonb), :priority,
             :traceparent)
        ON CONFLICT DO NOTHING
        RETURNING *
    ), message AS (
        INSERT INTO outbox_messages (task_id, tenant_id, priority, available_at)
        SELECT id, tenant_id, priority, available_at FROM task
    ), history AS (
        INSERT INTO task_events (task_id, seq, type) SELECT id, version, 'task.accepted' FROM task
    )
    SELECT task.*, CAST(NULL AS timestamptz) AS rung_at FROM task
    """
).columns(input=JSONB, error=JSONB)

FIRST_UNDER_KEY = text(
    """
    SELECT task.*, message.dispatched_at AS rung_at
    FROM tasks AS task LEFT JOIN outbox_messages AS message ON message.task_id = task.id
    WHERE task.tenant_id = :tenant_id
      AND (task.id = :id OR task.idempotency_key = CAST(:key AS text))
    """
).columns(input=JSONB, error=JSONB)
