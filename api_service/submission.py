"""★ WRITE IT DOWN: a task and its outbox message, in one transaction, exactly once per key."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import structlog
from uuid_utils.compat import uuid7

from api_service.problems import Problem
from api_service.queries import COLUMNS, with_documents
from api_service.schemas import TaskSubmission
from api_service.timing import timed
from shared import logs, metrics
from shared.backoff import exponential
from shared.database import CONFLICTS, TIMED_OUT, Database, reason, retriable, sqlstate
from shared.failpoints import failpoint
from shared.lifecycle import Priority, Stage, TaskStatus
from shared.shared_commit import SharedCommit

log = structlog.get_logger()
Outcome = TypeVar("Outcome")

TRIES = 4
"""A submission whose connection breaks is repeated as often, then the client must."""

PATIENCE = "100ms"
"""For a rival that holds a key. The batch waits no longer; who wants the key, tries alone."""

CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


def fingerprint(method: str, path: str, document: object) -> bytes:
    """What a key stands for: the same request again has the same, however its JSON is written."""
    return hashlib.sha256(f"{method} {path}\n{CANONICAL.encode(document)}".encode()).digest()


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
    not_before: datetime | None
    metadata: str
    parent_id: UUID | None

    @classmethod
    def of(
        cls,
        body: TaskSubmission,
        *,
        tenant_id: str,
        key: str | None,
        traceparent: str | None,
        request_hash: bytes | None = None,
        parent_id: UUID | None = None,
    ) -> NewTask:
        """``request_hash``: of the request that led to it, unless the body is all of it."""
        if request_hash is None:
            document = body.model_dump(mode="json", exclude_defaults=True)
            request_hash = fingerprint("POST", "/v1/tasks", document)
        return cls(
            id=uuid7(),
            tenant_id=tenant_id,
            idempotency_key=key,
            request_hash=request_hash,
            input=body.input.model_dump_json(),
            priority=body.rank,
            traceparent=traceparent,
            deadline_seconds=body.deadline_seconds,
            not_before=body.not_before,
            metadata=CANONICAL.encode(body.metadata) if body.metadata else "{}",
            parent_id=parent_id,
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
            "metadata": json.loads(self.new.metadata),
            "parent_id": self.new.parent_id,
            "created_at": self.created_at,
            "available_at": self.due_at,
            "due_at": self.due_at,
            "not_before": self.new.not_before,
            "delayed": self.due_at > self.created_at,
            "deadline_at": self.deadline_at,
        }

    @property
    def due_at(self) -> datetime:
        """Of a new task, as the insert has computed it."""
        return max(self.created_at, self.new.not_before or self.created_at)

    @property
    def deadline_at(self) -> datetime | None:
        """As ``due_at``."""
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
    "dispatch_no": 1,
    "message_no": 1,
    "rung_at": None,
    "position": None,
    "progress": 0,
    "progress_message": None,
    "usage": None,
    "cancel_requested_at": None,
    "dispatched_at": None,
    "started_at": None,
    "finished_at": None,
    "deleted_at": None,
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

        Raises Problem when the key was used for another request, or no tasks are accepted.
        """
        now = asyncio.get_running_loop().time
        deadline = now() + self.database.settings.database_command_timeout

        async def once(contested: bool) -> Submission:
            write = self.commits.write_alone if contested else self.commits.write
            return await self._made(new, await write(new, deadline))

        with timed():
            made = await self._persistently(once, new, deadline)
        await failpoint("api.committed")
        return _same_request(made)

    async def submit_all(self, batch: Sequence[NewTask]) -> list[Submission]:
        """Write them all down in one transaction, or none; the same rules as for ``submit``."""
        now = asyncio.get_running_loop().time
        deadline = now() + self.database.settings.database_command_timeout

        async def once(_contested: bool) -> list[Submission]:
            created = await self._insert_once(batch)
            return [await self._made(new, at) for new, at in zip(batch, created, strict=True)]

        made = await self._persistently(once, batch[0], deadline)
        await failpoint("api.committed")
        return [_same_request(one) for one in made]

    async def close(self) -> None:
        """Finish what is pending."""
        await self.commits.close()

    async def _persistently(
        self, once: Callable[[bool], Awaitable[Outcome]], new: NewTask, deadline: float
    ) -> Outcome:
        """A connection that breaks, even during COMMIT, leaves the outcome unknown. The same
        insert is then repeated: the unique index waits for its rival, so the second answer is
        definite. ``once`` hears whether a rival was met."""
        now = asyncio.get_running_loop().time
        contested = False
        for tries in itertools.count(1):
            try:
                return await once(contested)
            except Exception as error:
                rival = sqlstate(error) in CONFLICTS
                contested = contested or rival
                late = now() >= deadline or (tries >= TRIES and not rival)
                if late and contested and new.idempotency_key is not None:
                    raise _in_progress() from error
                if late or not retriable(error) or sqlstate(error) == TIMED_OUT:
                    raise
                log.warning("submission_repeated", task_id=new.id, tries=tries, error=reason(error))
                await asyncio.sleep(exponential(tries, 0.1, 1, random.random()))  # noqa: S311 - jitter
        raise AssertionError("unreachable")

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

    async def _made(self, new: NewTask, created_at: datetime | None) -> Submission:
        """What the insert has made of it, or what was there: the first task under the key, or this
        very one after a lost COMMIT."""
        if created_at:
            return Submission(new, created_at)
        parameters = {"id": new.id, "tenant_id": new.tenant_id, "key": new.idempotency_key}
        async with self.database.autocommit() as connection:
            found = (await connection.execute(FIRST_UNDER_KEY, parameters)).one_or_none()
        if found is None:  # nothing stood in its way but an operator
            raise Problem("intake-paused", "The submission was not accepted.")
        if found.id == new.id:
            _report([new])
        return Submission(new, found.created_at, found._asdict())


def _same_request(made: Submission) -> Submission:
    if not made.replayed:
        return made
    if made.task["request_hash"] != made.new.request_hash:
        raise Problem("idempotency-key-reused", f"The key was used for task {made.task['id']}.")
    if made.task["deleted_at"]:
        raise Problem("task-deleted", f"The key was used for task {made.task['id']}.")
    return made


def _in_progress() -> Problem:
    return Problem(
        "idempotency-in-progress",
        "A request under the same key has not been committed yet.",
        headers={"Retry-After": "1"},
    )


def _report(committed: Sequence[NewTask]) -> None:
    metrics.ACCEPTED.inc(len(committed))
    for new in committed:
        log.info(logs.TASK_COMMITTED, task_id=new.id, traceparent=new.traceparent)


# Tasks, messages and first events, or nothing: one statement, one round trip. DO NOTHING without a
# target covers both ways to be there already: the same key, and the same id after a lost COMMIT.
# Sorted, so that two processes with the same keys lock them in the same order. The message's
# available_at is the clock's time once the transaction has its id (decisions/0007), or later.
INSERT_ONCE = """
    WITH task AS (
        INSERT INTO tasks
            (id, tenant_id, idempotency_key, request_hash, input, priority, traceparent,
             deadline_at, available_at, not_before, metadata, parent_id)
        SELECT new.id, tenant_id, idempotency_key, request_hash, input::jsonb, priority,
               traceparent, now() + make_interval(secs => deadline_seconds),
               greatest(now(), not_before), not_before, metadata::jsonb, parent_id
        FROM set_config('lock_timeout', $1, true), deployment,
             unnest($2::uuid[], $3::text[], $4::text[], $5::bytea[], $6::text[], $7::smallint[],
                    $8::text[], $9::integer[], $10::timestamptz[], $11::text[], $12::uuid[])
             AS new (id, tenant_id, idempotency_key, request_hash, input, priority, traceparent,
                     deadline_seconds, not_before, metadata, parent_id)
        WHERE deployment.intake_paused_at IS NULL
        ORDER BY tenant_id, idempotency_key, new.id
        ON CONFLICT DO NOTHING
        RETURNING id, tenant_id, priority, version, created_at, not_before, parent_id
    ), message AS (
        INSERT INTO outbox_messages (task_id, tenant_id, priority, available_at)
        SELECT id, tenant_id, priority, greatest(clock_timestamp(), not_before) FROM task
    ), history AS (
        INSERT INTO task_events (task_id, seq, type, data)
        SELECT id, version, 'task.accepted',
               jsonb_strip_nulls(jsonb_build_object('parent_id', parent_id))
        FROM task
    )
    SELECT min(created_at) AS created_at, array_agg(id) AS ids FROM task
"""

FIRST_UNDER_KEY = with_documents(
    f"""
    SELECT {COLUMNS}, CAST(NULL AS integer) AS position
    FROM tasks AS task LEFT JOIN outbox_messages AS message ON message.task_id = task.id
    WHERE task.tenant_id = :tenant_id
      AND (task.id = :id OR task.idempotency_key = CAST(:key AS text))
    """  # noqa: S608 - fixed text
)
