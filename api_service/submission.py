"""★ WRITE IT DOWN: a task and its outbox message, in one transaction, exactly once per key."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.dialects.postgresql import JSONB
from uuid_utils.compat import uuid7

from api_service.problems import Problem
from api_service.queries import USAGE
from api_service.schemas import TaskSubmission
from shared import logs, metrics
from shared.backoff import exponential
from shared.database import CONFLICTS, TIMED_OUT, Database, reason, retriable, sqlstate
from shared.failpoints import failpoint
from shared.lifecycle import Priority, Stage, TaskStatus
from shared.shared_commit import SharedCommit

log = structlog.get_logger()

TRIES = 4
"""A submission whose connection breaks is repeated as often, then the client must."""

PATIENCE = "100ms"
"""For a rival that holds a key. The batch waits no longer; who wants the key, tries alone."""

CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class NewTask:
    """All that the insert needs, in the order of its columns.

    The id is chosen here, so that a repeated insert is the same.
    """

    id: UUID
    tenant_id: str
    idempotency_key: str | None
    request_hash: bytes
    input: str
    priority: Priority
    traceparent: str | None
    deadline_seconds: int | None

    @classmethod
    def of(
        cls, body: TaskSubmission, *, tenant_id: str, key: str | None, traceparent: str | None
    ) -> NewTask:
        document = body.model_dump(mode="json", exclude_defaults=True)
        return cls(
            id=uuid7(),
            tenant_id=tenant_id,
            idempotency_key=key,
            request_hash=hashlib.sha256(CANONICAL.encode(document).encode()).digest(),
            input=body.input.model_dump_json(),
            priority=body.rank,
            traceparent=traceparent,
            deadline_seconds=body.deadline_seconds,
        )


@dataclass(frozen=True, slots=True)
class Submission:
    """What a submission led to: a new task, or the one that an earlier submission had made."""

    new: NewTask
    created_at: datetime
    found: Mapping[str, Any] | None = None
    """The task's row, if it was there before."""

    @property
    def replayed(self) -> bool:
        """Not when our own first try, thought lost, had made it."""
        return self.found is not None and self.found["id"] != self.new.id

    @property
    def task(self) -> Mapping[str, Any]:
        """The row. Of a new task it is known without reading: what was sent, and the defaults."""
        return self.found or DEFAULTS | {
            "id": self.new.id,
            "request_hash": self.new.request_hash,
            "priority": self.new.priority,
            "input": json.loads(self.new.input),
            "created_at": self.created_at,
            "deadline_at": self.deadline_at,
        }

    @property
    def deadline_at(self) -> datetime | None:
        """Of a new task, as the insert has computed it."""
        seconds = self.new.deadline_seconds
        return None if seconds is None else self.created_at + timedelta(seconds=seconds)


DEFAULTS = {
    "status": TaskStatus.QUEUED,
    "stage": Stage.ACCEPTED,
    "version": 1,
    "attempts": 0,
    "takeovers": 0,
    "roadmap_id": None,
    "error": None,
    "rung_at": None,
    "progress": 0,
    "progress_message": None,
    "usage": None,
    "cancel_requested_at": None,
    "dispatched_at": None,
    "started_at": None,
    "finished_at": None,
}


class Submissions:
    """Those of one process. What is submitted at the same time shares a commit."""

    def __init__(self, database: Database) -> None:
        self.database = database
        # Who is written alone leaves a connection for the batch, and one for who reads.
        alone = max(1, database.settings.database_pool - 2)
        self.commits = SharedCommit(self._insert_once, side_by_side=alone)

    async def submit(self, new: NewTask) -> Submission:
        """Write the task down; when this returns, it is committed.

        A connection that breaks, even during COMMIT, leaves the outcome unknown. The same insert
        is then repeated: the unique index waits for its rival, so the second answer is definite.
        Raises Problem when the key was used for another request.
        """
        now = asyncio.get_running_loop().time
        deadline = now() + self.database.settings.database_command_timeout
        write = self.commits.write
        for tries in itertools.count(1):
            try:
                created_at = await write(new, deadline)
                made = Submission(new, created_at) if created_at else await self._known(new)
                break
            except Exception as error:
                contested = sqlstate(error) in CONFLICTS
                late = now() >= deadline or (tries >= TRIES and not contested)
                if late or not retriable(error) or sqlstate(error) == TIMED_OUT:
                    raise
                log.warning("submission_repeated", task_id=new.id, tries=tries, error=reason(error))
                await asyncio.sleep(exponential(tries, 0.1, 1, random.random()))  # noqa: S311 - jitter
                if contested:
                    write = self.commits.write_alone

        await failpoint("api.committed")
        if made.replayed and made.task["request_hash"] != new.request_hash:
            raise Problem("idempotency-key-reused", f"The key was used for task {made.task['id']}.")
        return made

    async def close(self) -> None:
        """Finish what is pending."""
        await self.commits.close()

    async def _insert_once(self, batch: Sequence[NewTask]) -> list[datetime | None]:
        """When each task was created; None where it, or another under its key, was there before."""
        columns = ([getattr(new, name) for new in batch] for name in NewTask.__slots__)
        async with self.database.autocommit() as connection:
            found = await connection.exec_driver_sql(INSERT_ONCE, (PATIENCE, *columns))
            made = found.one()
            ids = frozenset(made.ids or ())
            created = [made.created_at if new.id in ids else None for new in batch]
            # At once, while the answer to COMMIT is fresh: the relay is quick.
            _report([new for new, at in zip(batch, created, strict=True) if at])
        metrics.SUBMISSION_BATCH_SIZE.observe(len(batch))
        return created

    async def _known(self, new: NewTask) -> Submission:
        """What was there: the first task under the key, or this very one after a lost COMMIT."""
        parameters = {"id": new.id, "tenant_id": new.tenant_id, "key": new.idempotency_key}
        async with self.database.autocommit() as connection:
            found = (await connection.execute(FIRST_UNDER_KEY, parameters)).one()
        if found.id == new.id:
            _report([new])
        return Submission(new, found.created_at, found._asdict())


def _report(committed: Sequence[NewTask]) -> None:
    metrics.ACCEPTED.inc(len(committed))
    for new in committed:
        log.info(logs.TASK_COMMITTED, task_id=new.id, traceparent=new.traceparent)


# Tasks, messages and first events, or nothing: one statement, one round trip. DO NOTHING without a
# target covers both ways to be there already: the same key, and the same id after a lost COMMIT.
# Sorted, so that two processes with the same keys lock them in the same order. The message's
# available_at is its default, the clock's time once the transaction has its id (decisions/0007).
INSERT_ONCE = """
    WITH task AS (
        INSERT INTO tasks
            (id, tenant_id, idempotency_key, request_hash, input, priority, traceparent,
             deadline_at)
        SELECT id, tenant_id, idempotency_key, request_hash, input::jsonb, priority, traceparent,
               now() + make_interval(secs => deadline_seconds)
        FROM set_config('lock_timeout', $1, true),
             unnest($2::uuid[], $3::text[], $4::text[], $5::bytea[], $6::text[], $7::smallint[],
                    $8::text[], $9::integer[])
             AS new (id, tenant_id, idempotency_key, request_hash, input, priority, traceparent,
                     deadline_seconds)
        ORDER BY tenant_id, idempotency_key, id
        ON CONFLICT DO NOTHING
        RETURNING id, tenant_id, priority, version, created_at
    ), message AS (
        INSERT INTO outbox_messages (task_id, tenant_id, priority)
        SELECT id, tenant_id, priority FROM task
    ), history AS (
        INSERT INTO task_events (task_id, seq, type) SELECT id, version, 'task.accepted' FROM task
    )
    SELECT min(created_at) AS created_at, array_agg(id) AS ids FROM task
"""

FIRST_UNDER_KEY = text(
    f"""
    SELECT task.*, message.dispatched_at AS rung_at, {USAGE} AS usage
    FROM tasks AS task LEFT JOIN outbox_messages AS message ON message.task_id = task.id
    WHERE task.tenant_id = :tenant_id
      AND (task.id = :id OR task.idempotency_key = CAST(:key AS text))
    """  # noqa: S608 - fixed text
).columns(input=JSONB, error=JSONB, usage=JSONB)
