"""Run an ended task again: a new task with its input, patched, that names it as its parent."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from api_service import queries
from api_service.existing import existing
from api_service.new_task import NewTask, Submission, fingerprint
from api_service.problems import Problem, from_validation
from api_service.schemas import TaskRetry, TaskSubmission
from api_service.submission import Submissions
from api_service.timeliness import first_day, untimely
from shared.database import Database
from shared.lifecycle import Priority, TaskStatus


async def retry(
    submissions: Submissions,
    parent_id: UUID,
    wish: TaskRetry,
    *,
    tenant_id: str,
    key: str | None,
    traceparent: str,
) -> Submission:
    """Raises Problem for a task that is not there, was deleted or has not ended, and when the
    patched input breaks a rule; unless the key has made the new one before."""
    # The patch as it came: pydantic cannot write half of a surrogate pair, which is refused below.
    said = wish.model_dump(mode="json", exclude_none=True, exclude={"input"})
    said["input"] = wish.input
    request_hash = fingerprint("POST", f"/v1/tasks/{parent_id}/retry", said)
    try:
        body = _submission(await _ended(submissions.database, tenant_id, parent_id), wish)
    except Problem as refusal:
        return await submissions.earlier(tenant_id, key, request_hash, refusal)
    new = NewTask.of(
        body,
        tenant_id=tenant_id,
        key=key,
        traceparent=traceparent,
        request_hash=request_hash,
        parent_id=parent_id,
    )
    return await submissions.submit(new, untimely(body))


async def _ended(database: Database, tenant_id: str, task_id: UUID) -> queries.Row:
    task = existing(task_id, await queries.task_by_id(database, tenant_id, task_id))
    if not TaskStatus(task["status"]).terminal:
        raise Problem("task-not-ended", f"Task {task_id} is {task['status']}.")
    return task


def _submission(parent: queries.Row, wish: TaskRetry) -> TaskSubmission:
    """What is not in the wish is as it was; only a day that has passed cannot be begun on again."""
    given = merge_patch(_without_past_start(parent["input"], wish), wish.input)
    body = {
        "input": given,
        "priority": wish.priority or Priority(parent["priority"]).name.lower(),
        "metadata": parent["metadata"] if wish.metadata is None else wish.metadata,
        "deadline_seconds": wish.deadline_seconds,
        "not_before": wish.not_before,
    }
    try:
        return TaskSubmission.model_validate(body)
    except ValidationError as error:
        raise from_validation(error.errors(), TaskSubmission) from error


def _without_past_start(given: dict[str, Any], wish: TaskRetry) -> dict[str, Any]:
    start = given.get("start_date")
    if start is None or "start_date" in wish.input:
        return given
    if date.fromisoformat(start) >= first_day(datetime.now(UTC)):
        return given
    return {name: value for name, value in given.items() if name != "start_date"}


def merge_patch(target: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """RFC 7396 for an object: null takes a member out, an object goes deeper, else it replaces."""
    merged = dict(target)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict):
            inner = merged.get(name)
            merged[name] = merge_patch(inner if isinstance(inner, dict) else {}, value)
        else:
            merged[name] = value
    return merged
