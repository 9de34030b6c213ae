"""Stop a task: at once while it waits, in two seconds while it runs, never once it has ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import text

from api_service import queries
from api_service.existing import existing
from api_service.problems import Problem
from shared.database import Database, repeated
from shared.lifecycle import TaskStatus

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Cancellation:
    task: Mapping[str, Any]
    """The row, as ``queries.task_by_id`` gives it."""

    @property
    def requested(self) -> bool:
        """Whether a worker has to let go first; it will end as canceled all the same."""
        return bool(self.task["status"] == TaskStatus.RUNNING)


async def cancel(
    database: Database, tenant_id: str, task_id: UUID, versions: Sequence[int] | None = None
) -> Cancellation:
    """Cancel the task, or ask its worker to. To say it twice changes nothing.

    ``versions``: only if the task still is at one of them. Raises Problem if it is not, for a task
    that is not there, or that ended in another way.
    """
    who = {"tenant_id": tenant_id, "task_id": task_id}
    wish = who | {"versions": None if versions is None else list(versions)}

    async def once() -> str | None:
        async with database.autocommit() as connection:
            changed: str | None = await connection.scalar(CANCEL, wish)
            return changed

    patience = database.settings.database_command_timeout
    if changed := await repeated(once, patience):
        log.info("task_cancel", task_id=task_id, status=changed)
    task = existing(task_id, await queries.task_by_id(database, tenant_id, task_id))
    if task["cancel_requested_at"] is not None or task["status"] == TaskStatus.CANCELED:
        return Cancellation(dict(task))
    if versions is not None and task["version"] not in versions:
        raise Problem("precondition-failed", f"Task {task_id} is at version {task['version']}.")
    raise Problem("task-already-ended", f"Task {task_id} has {task['status']}.")


# The message is locked first, as when a worker takes a task: who locks in one order waits, and does
# not deadlock. The sweeper goes the other way round; who loses to it is repeated. What the task is
# like is judged under its lock: it may be taken, or given back, while this statement waits for it.
# A message inserted meanwhile is dropped by the relay.
CANCEL = text(
    """
    WITH message AS MATERIALIZED (
        SELECT task_id, dispatched_at FROM outbox_messages WHERE task_id = :task_id FOR UPDATE
    ), task AS MATERIALIZED (
        SELECT id FROM tasks
        WHERE id = :task_id AND tenant_id = :tenant_id AND status IN ('queued', 'running')
          AND cancel_requested_at IS NULL
          AND (CAST(:versions AS integer[]) IS NULL
               OR version = ANY (CAST(:versions AS integer[])))
          AND (SELECT count(*) FROM message) >= 0
        FOR UPDATE
    ), changed AS (
        UPDATE tasks SET
            status = CASE status WHEN 'queued' THEN 'canceled' ELSE status END,
            stage = CASE status WHEN 'queued' THEN 'done' ELSE stage END,
            version = version + 1,
            finished_at = CASE status WHEN 'queued' THEN now() END,
            dispatched_at = coalesce((SELECT dispatched_at FROM message), dispatched_at),
            cancel_requested_at = now()
        WHERE id = (SELECT id FROM task)
        RETURNING id, version, status
    ), dropped AS (
        DELETE FROM outbox_messages
        WHERE task_id = (SELECT id FROM changed WHERE status = 'canceled')
    ), history AS (
        INSERT INTO task_events (task_id, seq, type)
        SELECT id, version,
               CASE status WHEN 'canceled' THEN 'task.canceled' ELSE 'task.cancel_requested' END
        FROM changed
    )
    SELECT status FROM changed
    """
)
