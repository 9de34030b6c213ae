"""What each operation of the API is asked with. A key goes along wherever a task is made."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import Any, Literal, TypedDict
from urllib.parse import quote
from uuid import UUID, uuid4

from waymark.errors import Document
from waymark.exchange import Call

Id = UUID | str
Day = date | str
Moment = datetime | str
"""With its time zone."""

LONGEST_HOLD = 60
"""Seconds that the API holds back an answer at most."""


class InputOptions(TypedDict, total=False):
    """The ``input`` of a task, besides its goal. None means: as the API has it by default."""

    level: Literal["beginner", "intermediate", "advanced"] | None
    hours_per_week: float | None
    weeks: int | None
    until: Day | None
    start_date: Day | None
    known_topics: Iterable[str] | None
    exclude: Iterable[str] | None
    study_days: Iterable[str] | None
    language: str | None


class RunOptions(TypedDict, total=False):
    """How a task is to be run."""

    priority: Literal["high", "normal", "low"] | None
    deadline_seconds: int | None
    not_before: Moment | None
    metadata: Mapping[str, str] | None


class TaskOptions(InputOptions, RunOptions, total=False):
    """All that a submission may say besides its goal."""


class ListOptions(TypedDict, total=False):
    """Which tasks. ``q`` is a part of the goal."""

    status: Literal["queued", "running", "succeeded", "failed", "canceled"] | None
    created_after: Moment | None
    created_before: Moment | None
    metadata: Mapping[str, str] | None
    q: str | None


Submission = str | Mapping[str, Any]
"""A goal; or an input, which has a ``goal``; or a whole body, which has an ``input``."""


def submit(
    goal: Submission, options: TaskOptions, key: str | None = None, wait: float | None = None
) -> Call:
    return _making("/v1/tasks", _body(goal, options), key, wait)


def submit_many(submissions: Iterable[Submission], *, atomic: bool, key: str | None) -> Call:
    if isinstance(submissions, str | Mapping):
        raise TypeError("submissions are a list of goals, or of inputs: this is one.")
    bodies = [_body(one, {}) for one in submissions]
    return _making("/v1/tasks:batch", {"tasks": bodies, "atomic": atomic}, key)


def validate(goal: Submission, options: TaskOptions) -> Call:
    return Call("POST", "/v1/tasks:validate", json=_body(goal, options), repeatable=True)


def retry(
    task_id: Id,
    patch: Mapping[str, Any] | None,
    options: RunOptions,
    key: str | None = None,
    wait: float | None = None,
) -> Call:
    body = _said(options)
    if patch is not None:
        body["input"] = {name: _plain(value) for name, value in patch.items()}
    return _making(f"{_path(task_id)}/retry", body, key, wait)


def task(task_id: Id) -> Call:
    return Call("GET", _path(task_id))


def news(task_id: Id, known: str | None, hold: int, until: float) -> Call:
    """The task as soon as it is another than ``known``, an ETag; 304 if it is not after ``hold``
    seconds. ``until``: see ``Call``."""
    headers = {} if known is None else {"If-None-Match": known}
    if hold:
        headers["Prefer"] = f"wait={hold}"
    return Call("GET", _path(task_id), headers=headers, until=until)


def tasks(filters: Mapping[str, Any], limit: int, cursor: str | None) -> Call:
    """One page. ``filters`` are named as the API names them; ``metadata`` is a mapping."""
    params = {name: _plain(value) for name, value in filters.items() if value is not None}
    for key, value in params.pop("metadata", {}).items():
        params[f"metadata[{key}]"] = value
    params["limit"] = limit
    return Call("GET", "/v1/tasks", params | ({} if cursor is None else {"cursor": cursor}))


def events(task_id: Id, after: int, until: float | None = None) -> Call:
    """One page. ``until``: see ``Call``."""
    return Call("GET", f"{_path(task_id)}/events", {"after": after}, until=until)


def stream(task_id: Id, after: int, silence: float) -> Call:
    """Those that are still to come, too. ``silence``: seconds without a sign of life."""
    headers = {
        "Accept": "text/event-stream",
        "Cache-Control": "no-store",
        "Last-Event-ID": str(after),
    }
    return Call("GET", f"{_path(task_id)}/events", headers=headers, silence=silence)


def attempts(task_id: Id) -> Call:
    return Call("GET", f"{_path(task_id)}/attempts")


def roadmap(roadmap_id: Id) -> Call:
    return Call("GET", f"/v1/roadmaps/{_segment(roadmap_id)}")


def cancel(task_id: Id, version: int | None = None) -> Call:
    """A repetition would find the version moved on, by the try whose answer was lost."""
    headers = {} if version is None else {"If-Match": f'"{version}.0"'}
    path = f"{_path(task_id)}/cancel"
    return Call("POST", path, headers=headers, repeatable=version is None)


def delete(task_id: Id) -> Call:
    return Call("DELETE", _path(task_id))


def _making(path: str, body: Document, key: str | None, wait: float | None = None) -> Call:
    if key is not None and not (key.isascii() and key.isprintable()):
        raise ValueError("an idempotency key is of printable ASCII characters.")
    if wait is not None and not wait >= 0:
        raise ValueError(f"wait is a number of seconds, 0 or more: not {wait}.")
    headers = {"Idempotency-Key": key or str(uuid4())}
    if wait:
        headers["Prefer"] = f"wait={math.ceil(min(wait, LONGEST_HOLD))}"
    return Call("POST", path, json=body, headers=headers)


def _body(goal: Submission, options: TaskOptions) -> Document:
    given: Document = {"goal": goal} if isinstance(goal, str) else dict(goal)
    body: Document = given if "input" in given else {"input": given}
    said = _said(options)
    asked = {name: said.pop(name) for name in InputOptions.__annotations__ if name in said}
    if asked:
        body = body | {"input": {**body["input"], **asked}}
    return body | said


def _said(options: TaskOptions | RunOptions) -> Document:
    return {name: _plain(value) for name, value in options.items() if value is not None}


def _plain(value: Any) -> Any:  # Any: what an option may be, and what JSON may hold
    match value:
        case date():  # a datetime is one
            return value.isoformat()
        case str() | Mapping() | int() | float() | None:
            return value
        case Iterable():
            return list(value)
    return value


def _path(task_id: Id) -> str:
    return f"/v1/tasks/{_segment(task_id)}"


def _segment(value: Id) -> str:
    return quote(str(value), safe="")
