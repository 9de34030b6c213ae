"""★ WRITE IT DOWN: a task and its outbox message, in one transaction, exactly once per key."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from api_service.new_task import NewTask, Submission
from api_service.problems import Problem
from api_service.queries import COLUMNS, with_documents
from api_service.timing import timed
from shared import logs, metrics
from shared.backoff import exponential
from shared.database import CONFLICTS, TIMED_OUT, Database, reason, retriable, sqlstate
from shared.failpoints import failpoint
from shared.shared_commit import SharedCommit

log = structlog.get_logger()
Outcome = TypeVar("Outcome")

TRIES = 4
"""A submission whose connection breaks is repeated as often, then the client must."""

PATIENCE = "100ms"
"""For a rival that holds a key. The batch waits no longer; who wants the key, tries alone."""


class Submissions:
    """Those of one process. What is submitted at the same time shares a commit."""

    def __init__(self, database: Database) -> None:
        self.database = database
        # Who is written alone leaves a connection for the batch, and one for who reads.
        alone = max(1, database.settings.database_pool - 2)
        self.commits = SharedCommit(self._insert_once, side_by_side=alone)

    async def submit(self, new: NewTask, refusal: Problem | None = None) -> Submission:
        """Write the task down; when this returns, it is committed.

        Raises Problem when the key was used for another request, or no tasks are accepted; and
        ``refusal``, what speaks against a new task, unless the key has made this one before.
        """
        if refusal is not None:
            return await self.earlier(new.tenant_id, new.idempotency_key, new.request_hash, refusal)
        now = asyncio.get_running_loop().time
        deadline = now() + self.database.settings.database_command_timeout

        async def once(contested: bool) -> Submission:
            write = self.commits.write_alone if contested else self.commits.write
            return await self._made(new, await write(new, deadline))

        with timed():
            made = await self._persistently(once, new, deadline)
        await failpoint("api.committed")
        return made

    async def submit_all(self, batch: Sequence[NewTask]) -> list[Submission]:
        """Write them all down in one transaction, or none; the same rules as for ``submit``."""
        now = asyncio.get_running_loop().time
        deadline = now() + self.database.settings.database_command_timeout

        async def once(_contested: bool) -> list[Submission]:
            async with self.database.begin() as session:
                connection = await session.connection()
                created = await _insert(connection, batch)
                made = [
                    await _made(connection, new, at) for new, at in zip(batch, created, strict=True)
                ]
            _report(batch, created)
            return made

        made = await self._persistently(once, batch[0], deadline)
        await failpoint("api.committed")
        return made

    async def earlier(
        self, tenant_id: str, key: str | None, request_hash: bytes, otherwise: Problem
    ) -> Submission:
        """The task that the same request has made before; raises ``otherwise`` if there is none."""
        for row in await self.under(tenant_id, () if key is None else (key,)):
            return same_request(row, request_hash)
        raise otherwise

    async def under(self, tenant_id: str, keys: Sequence[str]) -> Sequence[Mapping[str, Any]]:
        """The tasks that these keys stand for."""
        async with self.database.autocommit() as connection:
            return await _found(connection, tenant_id, [], keys)

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
            except Problem:
                raise
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
        async with self.database.autocommit() as connection:
            created = await _insert(connection, batch)
            # At once, while the answer to COMMIT is fresh: the relay is quick.
            _report(batch, created)
        return created

    async def _made(self, new: NewTask, created_at: datetime | None) -> Submission:
        if created_at:
            return Submission.made(new, created_at)
        async with self.database.autocommit() as connection:
            return await _made(connection, new, None)


async def _insert(connection: AsyncConnection, batch: Sequence[NewTask]) -> list[datetime | None]:
    """When each task was created; None where it, or another under its key, was there before."""
    columns = ([getattr(new, name) for new in batch] for name in NewTask.__slots__)
    made = (await connection.exec_driver_sql(INSERT_ONCE, (PATIENCE, *columns))).one()
    metrics.SUBMISSION_BATCH_SIZE.observe(len(batch))
    ids = frozenset(made.ids or ())
    return [made.created_at if new.id in ids else None for new in batch]


async def _made(
    connection: AsyncConnection, new: NewTask, created_at: datetime | None
) -> Submission:
    """What the insert has made of it, or what was there: the first task under the key, or this
    very one after a lost COMMIT."""
    if created_at:
        return Submission.made(new, created_at)
    keys = [] if new.idempotency_key is None else [new.idempotency_key]
    rows = await _found(connection, new.tenant_id, [new.id], keys)
    if not rows:  # nothing stood in its way but an operator
        raise Problem("intake-paused", "The submission was not accepted.")
    (row,) = rows
    if row["id"] != new.id:
        return same_request(row, new.request_hash)
    _report([new], [row["created_at"]])
    return Submission(row)


async def _found(
    connection: AsyncConnection, tenant_id: str, ids: Sequence[UUID], keys: Sequence[str]
) -> Sequence[Mapping[str, Any]]:
    who = {"tenant_id": tenant_id, "ids": list(ids), "keys": list(keys)}
    found = await connection.execute(THERE, who)
    return [row._asdict() for row in found]


def same_request(row: Mapping[str, Any], request_hash: bytes) -> Submission:
    """What a request finds under its key. Raises Problem if that is of another, or was deleted."""
    if row["request_hash"] != request_hash:
        raise Problem("idempotency-key-reused", f"The key was used for task {row['id']}.")
    if row["deleted_at"]:
        raise Problem("task-deleted", f"The key was used for task {row['id']}.")
    return Submission(row, replayed=True)


def _in_progress() -> Problem:
    return Problem(
        "idempotency-in-progress",
        "A request under the same key has not been committed yet.",
        headers={"Retry-After": "1"},
    )


def _report(batch: Sequence[NewTask], created: Sequence[datetime | None]) -> None:
    committed = [new for new, at in zip(batch, created, strict=True) if at]
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

THERE = with_documents(
    f"""
    SELECT {COLUMNS}, CAST(NULL AS integer) AS position
    FROM tasks AS task LEFT JOIN outbox_messages AS message ON message.task_id = task.id
    WHERE task.tenant_id = :tenant_id
      AND (task.id = ANY(:ids) OR task.idempotency_key = ANY(:keys))
    """  # noqa: S608 - fixed text
)
