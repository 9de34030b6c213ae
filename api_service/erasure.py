"""Delete an ended task: what the learner wrote and got is erased, that there was a task is kept."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import structlog
from sqlalchemy import text

from api_service import queries
from api_service.existing import existing
from api_service.problems import Problem
from shared.database import Database, repeated

log = structlog.get_logger()


async def erase(
    database: Database, tenant_id: str, task_id: UUID, versions: Sequence[int] | None = None
) -> None:
    """Raises Problem for a task that is not there, has not ended, is at none of ``versions``, or
    was deleted before."""
    wish = {"tenant_id": tenant_id, "task_id": task_id, "versions": versions}

    async def once() -> bool:
        async with database.autocommit() as connection:
            return await connection.scalar(ERASE, wish) is not None

    if await repeated(once, database.settings.database_command_timeout):
        log.info("task_deleted", task_id=task_id)
        return
    task = existing(task_id, await queries.mark_of(database, tenant_id, task_id))
    if versions is not None and task["version"] not in versions:
        raise Problem("precondition-failed", f"Task {task_id} is at version {task['version']}.")
    raise Problem("task-not-ended", f"Task {task_id} is {task['status']}.")


# The row stays with its id, its key, its times and how it ended, and so does the roadmap's, which
# the task names. An error's text may quote the goal. Dead letters nobody decided on are closed:
# there is nothing left to run again.
ERASE = text(
    """
    WITH task AS (
        UPDATE tasks SET
            deleted_at = now(), input = '{}', metadata = '{}', progress_message = NULL,
            error = CASE WHEN error IS NOT NULL THEN jsonb_build_object(
                'code', error -> 'code', 'detail', 'Erased.', 'retryable', error -> 'retryable') END
        WHERE id = :task_id AND tenant_id = :tenant_id AND deleted_at IS NULL
          AND status IN ('succeeded', 'failed', 'canceled')
          AND (CAST(:versions AS integer[]) IS NULL
               OR version = ANY (CAST(:versions AS integer[])))
        RETURNING id
    ), roadmap AS (
        UPDATE roadmaps SET document = '{}' WHERE task_id = ANY (ARRAY(SELECT id FROM task))
    ), history AS (
        UPDATE task_events SET data = '{}' WHERE task_id = ANY (ARRAY(SELECT id FROM task))
    ), step AS (
        DELETE FROM task_steps WHERE task_id = ANY (ARRAY(SELECT id FROM task))
    ), letter AS (
        UPDATE dead_letters SET
            detail = '{}', resolution = coalesce(resolution, 'discarded'),
            resolved_at = coalesce(resolved_at, now())
        WHERE task_id = ANY (ARRAY(SELECT id FROM task))
    )
    SELECT id FROM task
    """
)
