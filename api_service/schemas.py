"""What comes in over HTTP, and how a row of ``tasks`` is shown. What goes out: shared/views.py."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field
from pydantic.config import JsonDict
from sqlalchemy import RowMapping

from shared.lifecycle import Priority, Stage, TaskStatus
from shared.roadmap import RoadmapRequest, Shape
from shared.views import (
    Delivery,
    Links,
    QueuePlace,
    TaskProgress,
    TaskResult,
    TaskUsage,
    TaskView,
)

LONGEST_DEADLINE = 30 * 86_400
"""Seconds. A task that may take longer needs no deadline."""

WRITTEN_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[T ]", re.ASCII | re.IGNORECASE)

MOST_METADATA = 50
MOST_IN_BATCH = 100


def _written_as_time(value: object) -> object:
    """A number would be taken for seconds since 1970."""
    if isinstance(value, datetime) or (isinstance(value, str) and WRITTEN_TIME.match(value)):
        return value
    raise ValueError("must be a time written like 2030-01-31T12:00:00Z")


def _in_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("lies beyond the calendar; send a time of this century") from None


def storable(value: str) -> str:
    if "\0" in value:
        raise ValueError("must not contain NUL; send plain text")
    return value


Moment = Annotated[AwareDatetime, BeforeValidator(_written_as_time), AfterValidator(_in_utc)]
NO_NUL: JsonDict = {"pattern": r"^[^\x00]*$"}
KEY: JsonDict = {"minLength": 1, "maxLength": 40, **NO_NUL}
MetadataKey = Annotated[str, Field(min_length=1, max_length=40), AfterValidator(storable)]
MetadataValue = Annotated[
    str, Field(max_length=500, json_schema_extra=NO_NUL), AfterValidator(storable)
]
Metadata = Annotated[
    dict[MetadataKey, MetadataValue],
    Field(max_length=MOST_METADATA, json_schema_extra={"propertyNames": KEY}),
]
PriorityName = Literal["high", "normal", "low"]
Deadline = Annotated[int, Field(ge=1, le=LONGEST_DEADLINE, strict=True)]


class TaskSubmission(Shape):
    """The body of ``POST /v1/tasks``. What of it depends on the clock: timeliness.py."""

    input: RoadmapRequest
    priority: PriorityName = "normal"
    deadline_seconds: Deadline | None = Field(
        default=None,
        description="From acceptance on; a task that is not done by then fails. None if absent.",
    )
    not_before: Moment | None = Field(
        default=None, description="No worker begins before; at once if absent or past."
    )
    metadata: Metadata = Field(
        default={},
        description=f"The client's own: at most {MOST_METADATA} keys of 1 to 40 characters, "
        "values of at most 500. Tasks can be listed by it.",
    )

    @property
    def rank(self) -> Priority:
        return Priority[self.priority.upper()]


class TaskRetry(Shape):
    """The body of a retry. What is absent is as it was, but for times: `deadline_seconds` and
    `not_before` are of the new task alone."""

    input: dict[str, Any] = Field(
        default={},
        description="A JSON merge patch (RFC 7396) of the parent's input: null takes a field out.",
    )
    priority: PriorityName | None = None
    deadline_seconds: Deadline | None = None
    not_before: Moment | None = None
    metadata: Metadata | None = None


class BatchSubmission(Shape):
    """The body of ``POST /v1/tasks:batch``. Each submission is judged by itself."""

    tasks: list[Any] = Field(
        min_length=1,
        max_length=MOST_IN_BATCH,
        description="Bodies as for POST /v1/tasks.",
        json_schema_extra={"items": {"$ref": "#/components/schemas/TaskSubmission"}},
    )
    atomic: bool = Field(
        default=True,
        strict=True,
        description="All or none; if false, those that are right are accepted.",
    )


def task_view(
    row: Mapping[str, Any] | RowMapping, *, estimated_wait: float | None = None
) -> TaskView:
    """Of a row as ``queries.COLUMNS`` gives it: the task, its outbox message if it still has one,
    ``usage`` and ``position``."""
    task_id, roadmap_id = row["id"], row["roadmap_id"]
    url = f"/v1/tasks/{task_id}"
    roadmap_url = f"/v1/roadmaps/{roadmap_id}" if roadmap_id else None
    queued = row["status"] == TaskStatus.QUEUED
    return TaskView(
        id=task_id,
        status=row["status"],
        # Only the outbox knows that a doorbell was rung; the task row is left in peace.
        stage=Stage.DISPATCHED if queued and row["rung_at"] else row["stage"],
        version=row["version"],
        priority=Priority(row["priority"]).name.lower(),
        attempts=row["attempts"],
        takeovers=row["takeovers"],
        progress=TaskProgress(completed=row["progress"], message=row["progress_message"]),
        usage=TaskUsage.model_validate(row["usage"]) if row["usage"] else None,
        input=row["input"],
        metadata=row["metadata"],
        parent_id=row["parent_id"],
        result=TaskResult(roadmap_id=roadmap_id, url=roadmap_url) if roadmap_url else None,
        error=row["error"],
        delivery=_delivery(row),
        queue=QueuePlace(position=row["position"], estimated_wait_seconds=estimated_wait)
        if queued
        else None,
        created_at=row["created_at"],
        not_before=row["not_before"],
        deadline_at=row["deadline_at"],
        cancel_requested_at=row["cancel_requested_at"],
        dispatched_at=row["rung_at"] or row["dispatched_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        links=Links(
            self=url, events=f"{url}/events", attempts=f"{url}/attempts", roadmap=roadmap_url
        ),
    )


def _delivery(row: Mapping[str, Any] | RowMapping) -> Delivery:
    """The message is gone once a worker has taken the task; the row then remembers its times."""
    waits = row["message_no"] is not None
    number = row["message_no"] if waits else row["dispatch_no"]
    published_at = row["rung_at"] if waits else row["dispatched_at"]
    return Delivery(
        outbox_id=_message_id(row["id"], number),
        state=_delivery_state(row) if waits else "taken",
        published_at=published_at,
        lag_ms=_milliseconds(row["due_at"] if waits else row["available_at"], published_at),
        publish_attempts=number - (published_at is None),
    )


def _delivery_state(
    row: Mapping[str, Any] | RowMapping,
) -> Literal["delayed", "waiting", "dispatched"]:
    if row["rung_at"]:
        return "dispatched"
    return "delayed" if row["delayed"] else "waiting"


def _message_id(task_id: UUID, number: int) -> str:
    return f"{task_id}:{number}"


def _milliseconds(due: datetime, published: datetime | None) -> float | None:
    """Never less than none: a task's times are of its transaction's start."""
    if published is None:
        return None
    return round(max((published - due).total_seconds(), 0) * 1000, 3)
