"""Stop a task: at once while it waits, in two seconds while it runs, never once it has ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import text

from api_service import queries
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


async def cancel(database: Database, tenant_id: str, task_id: UUID) -> Cancellation:
    """Cancel the task, or ask its worker to. To say it twice changes nothing.

    Raises Problem for a task that is not there, or that ended in another way.
    """
    who = {"tenant_id": tenant_id, "task_id": task_id}

    async def once() -> str | None:
        async with database.autocommit() as connection:
            changed: str | None = await connection.scalar(CANCEL, who)
            return changed

    patience = database.settings.database_command_timeout
    if changed := await repeated(once, patience):
        log.info("task_cancel", task_id=task_id, status=changed)
    task = await queries.task_by_id(database, tenant_id, task_id)
    if task is None:
        raise Problem("task-not-found", f"There is no task {task_id}.")
    if task["cancel_requested_at"] is None and task["status"] != TaskStatus.CANCELED:
        raise Problem("task-already-ended", f"Task {task_id} has {task['status']}.")
    return Cancellation(dict(task))


# The message goes first, as when a worker takes a task: who locks in one order waits, and does not
# deadlock. The sweeper goes the other way round; who loses to it is repeated. One update for both
# cases: a task that is taken, or given back, while this statement waits for its row is judged as
# it then is. A message inserted meanwhile is dropped by the relay.
CANCEL = text(
    """
    WITH message AS (
        DELETE FROM outbox_messages WHERE task_id = (
            SELECT id FROM tasks
            WHERE id = :task_id AND tenant_id = :tenant_id AND status <> 'running'
        ) RETURNING dispatched_at
    ), changed AS (
        UPDATE tasks SET
            status = CASE status WHEN 'queued' THEN 'canceled' ELSE status END,
            stage = CASE status WHEN 'queued' THEN 'done' ELSE stage END,
            version = version + CAST(status = 'queued' AS integer),
            finished_at = CASE status WHEN 'queued' THEN now() END,
            dispatched_at = coalesce((SELECT dispatched_at FROM message), dispatched_at),
            cancel_requested_at = now()
        WHERE id = :task_id AND tenant_id = :tenant_id AND status IN ('queued', 'running')
          AND cancel_requested_at IS NULL AND (SELECT count(*) FROM message) >= 0
        RETURNING id, version, status
    ), history AS (
        INSERT INTO task_events (task_id, seq, type)
        SELECT id, version, 'task.canceled' FROM changed WHERE status = 'canceled'
    )
    SELECT status FROM changed
    """
)
