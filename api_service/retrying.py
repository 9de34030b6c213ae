"""Run an ended task again: a new task with its input, patched, that names it as its parent."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from api_service import queries
from api_service.existing import existing
from api_service.problems import Problem, from_validation
from api_service.schemas import TaskRetry, TaskSubmission
from api_service.submission import NewTask, Submission, Submissions, fingerprint
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
    patched input breaks a rule."""
    found = await queries.task_by_id(submissions.database, tenant_id, parent_id)
    parent = existing(parent_id, found)
    if not TaskStatus(parent["status"]).terminal:
        raise Problem("task-not-ended", f"Task {parent_id} is {parent['status']}.")
    new = NewTask.of(
        _submission(parent, wish),
        tenant_id=tenant_id,
        key=key,
        traceparent=traceparent,
        request_hash=fingerprint(
            "POST", f"/v1/tasks/{parent_id}/retry", wish.model_dump(mode="json", exclude_unset=True)
        ),
        parent_id=parent_id,
    )
    return await submissions.submit(new)


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
    today = (datetime.now(UTC) - timedelta(hours=12)).date()
    if start is None or "start_date" in wish.input or date.fromisoformat(start) >= today:
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
