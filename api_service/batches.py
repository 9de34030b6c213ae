"""Many submissions in one request: each judged by itself, all that is accepted in one commit."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from api_service.new_task import NewTask, Submission, fingerprint
from api_service.problems import Problem, document_of, from_validation
from api_service.schemas import MOST_IN_BATCH, BatchSubmission, TaskSubmission, task_view
from api_service.submission import Submissions, same_request
from api_service.timeliness import untimely
from shared.views import BatchItem, BatchResult, ProblemView

Judged = TaskSubmission | Problem
Made = Mapping[int, Submission]
"""By the index in the batch."""


async def submit(
    submissions: Submissions,
    body: BatchSubmission,
    *,
    tenant_id: str,
    key: str | None,
    traceparent: str | None,
) -> tuple[BatchResult, bool]:
    """What became of it, and whether all of that had been so before.

    Raises Problem ``batch-rejected`` if all were to be accepted and one breaks a rule.
    """
    shaped = [_shaped(one) for one in body.tasks]
    hashes = _hashes(body, shaped)
    before = {} if key is None else await _made_before(submissions, tenant_id, key, hashes)
    judged = [one if index in before else _timely(one) for index, one in enumerate(shaped)]
    if body.atomic and any(isinstance(one, Problem) for one in judged):
        raise _rejected(judged)
    news: dict[int, NewTask] = {}
    for index, one in enumerate(judged):
        if isinstance(one, TaskSubmission) and index not in before:
            news[index] = NewTask.of(
                one,
                tenant_id=tenant_id,
                key=_key_of(key, index, first=not before and not news),
                traceparent=traceparent,
                request_hash=hashes[index],
            )
    written = await submissions.submit_all(list(news.values())) if news else []
    made = {**before, **dict(zip(news, written, strict=True))}
    items = [_item(index, one, made.get(index)) for index, one in enumerate(judged)]
    result = BatchResult(data=items, accepted=len(made), refused=len(items) - len(made))
    return result, bool(made) and all(one.replayed for one in made.values())


def _shaped(given: Any) -> Judged:  # Any: JSON
    try:
        return TaskSubmission.model_validate(given)
    except ValidationError as error:
        return from_validation(error.errors(), TaskSubmission)


def _timely(shaped: Judged) -> Judged:
    return shaped if isinstance(shaped, Problem) else untimely(shaped) or shaped


def _hashes(body: BatchSubmission, shaped: Sequence[Judged]) -> list[bytes]:
    """One for each submission: of the whole request, and its place in it."""
    said = [
        given if isinstance(one, Problem) else one.model_dump(mode="json", exclude_defaults=True)
        for given, one in zip(body.tasks, shaped, strict=True)
    ]
    whole = fingerprint("POST", "/v1/tasks:batch", {"tasks": said, "atomic": body.atomic})
    return [hashlib.sha256(whole + bytes([index])).digest() for index in range(len(said))]


def _key_of(key: str | None, index: int, *, first: bool) -> str | None:
    """The key itself stands for the first that is accepted: so no other request can have it. No
    key that a client can send has a line feed in it."""
    return key if key is None or first else f"{key}\n{index}"


async def _made_before(
    submissions: Submissions, tenant_id: str, key: str, hashes: Sequence[bytes]
) -> Made:
    """Raises Problem if one of them is of another request, or was deleted."""
    keys = [key, *(f"{key}\n{index}" for index in range(MOST_IN_BATCH))]
    places = {one: index for index, one in enumerate(hashes)}
    made: dict[int, Submission] = {}
    for row in await submissions.under(tenant_id, keys):
        index = places.get(row["request_hash"], 0)
        made[index] = same_request(row, hashes[index])
    return made


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
