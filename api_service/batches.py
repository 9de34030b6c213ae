"""Many submissions in one request: each judged by itself, all that is accepted in one commit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from api_service.problems import Problem, document_of, from_validation
from api_service.schemas import BatchSubmission, TaskSubmission, task_view
from api_service.submission import NewTask, Submission, Submissions, fingerprint
from shared.views import BatchItem, BatchResult, ProblemView

Judged = TaskSubmission | Problem


async def submit(
    submissions: Submissions,
    body: BatchSubmission,
    *,
    tenant_id: str,
    key: str | None,
    traceparent: str | None,
) -> BatchResult:
    """Raises Problem ``batch-rejected`` if all were to be accepted and one breaks a rule."""
    judged = [_judge(one) for one in body.tasks]
    if body.atomic and any(isinstance(one, Problem) for one in judged):
        raise _rejected(judged)
    whole = fingerprint("POST", "/v1/tasks:batch", body.model_dump(mode="json"))
    news = {
        index: NewTask.of(
            one,
            tenant_id=tenant_id,
            key=_key_of(key, index),
            traceparent=traceparent,
            request_hash=whole,
        )
        for index, one in enumerate(judged)
        if isinstance(one, TaskSubmission)
    }
    made = await submissions.submit_all(list(news.values())) if news else []
    tasks = dict(zip(news, made, strict=True))
    items = [_item(index, one, tasks.get(index)) for index, one in enumerate(judged)]
    return BatchResult(data=items, accepted=len(tasks), refused=len(items) - len(tasks))


def _judge(given: Any) -> Judged:  # Any: JSON
    try:
        return TaskSubmission.model_validate(given)
    except ValidationError as error:
        return from_validation(error.errors(), TaskSubmission)


def _key_of(key: str | None, index: int) -> str | None:
    """One for each submission. No key that a client can send has a line feed in it."""
    return None if key is None else f"{key}\n{index}"


def _rejected(judged: Sequence[Judged]) -> Problem:
    errors = [
        {"pointer": f"/tasks/{index}{error['pointer']}", "detail": error["detail"]}
        for index, one in enumerate(judged)
        if isinstance(one, Problem)
        for error in one.errors
    ]
    refused = sum(isinstance(one, Problem) for one in judged)
    return Problem(
        "batch-rejected", f"{refused} of {len(judged)} submissions break a rule.", errors=errors
    )


def _item(index: int, judged: Judged, made: Submission | None) -> BatchItem:
    if made is not None:
        return BatchItem(index=index, task=task_view(made.task))
    if isinstance(judged, Problem):
        return BatchItem(index=index, problem=ProblemView.model_validate(document_of(judged)))
    raise AssertionError("what was judged right was written")
