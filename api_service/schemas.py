"""What goes over HTTP: the submission that comes in, the documents that go out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, Field
from sqlalchemy import RowMapping

from shared.lifecycle import Priority, Stage, TaskStatus
from shared.roadmap import CalendarDate, Roadmap, RoadmapRequest, Shape

FARTHEST_START = timedelta(days=5 * 365)
"""A plan that starts in 9999 would end where no calendar reaches."""

SHORTEST_PLAN = timedelta(days=6)
"""From its first day to its last."""

LONGEST_DEADLINE = 30 * 86_400
"""Seconds. A task that may take longer needs no deadline."""


def _within_reach(value: date) -> date:
    """Somewhere on Earth it is still the day that it was in UTC twelve hours ago."""
    now = datetime.now(UTC)
    if value < (now - timedelta(hours=12)).date():
        raise ValueError("lies in the past; send today's date or a later one")
    if value > (now + FARTHEST_START).date():
        raise ValueError("lies too far ahead; send a date within the next five years")
    return value


def _a_week_ahead(value: date) -> date:
    if _within_reach(value) < (datetime.now(UTC) + SHORTEST_PLAN).date():
        raise ValueError("is less than a week ahead; send a later date")
    return value


class NewRoadmapRequest(RoadmapRequest):
    """A request as it comes in. Once accepted, its start date may pass while it waits."""

    start_date: Annotated[CalendarDate, AfterValidator(_within_reach)] | None = None
    until: Annotated[CalendarDate, AfterValidator(_a_week_ahead)] | None = None


class TaskSubmission(Shape):
    """The body of ``POST /v1/tasks``."""

    input: NewRoadmapRequest
    priority: Literal["high", "normal", "low"] = "normal"
    deadline_seconds: int | None = Field(
        default=None,
        ge=1,
        le=LONGEST_DEADLINE,
        strict=True,
        description="From acceptance on; a task that is not done by then fails. None if absent.",
    )

    @property
    def rank(self) -> Priority:
        return Priority[self.priority.upper()]


class Links(BaseModel):
    self: str
    events: str
    roadmap: str | None


class TaskResult(BaseModel):
    roadmap_id: UUID
    url: str


class TaskProgress(BaseModel):
    """How far a task has come. ``completed`` never gets less."""

    completed: int
    total: int = 100
    unit: str = "percent"
    message: str | None


class TaskUsage(BaseModel):
    """What a model was asked for this task, by all attempts, whatever came of them."""

    calls: int
    tokens_in: int
    tokens_out: int
    cost_usd: float


class TaskFailure(BaseModel):
    """Why a task failed. More members may appear, such as ``nearest`` goals."""

    model_config = {"extra": "allow"}

    code: str
    detail: str
    retryable: bool


class TaskView(BaseModel):
    """A task as clients see it. ``status`` is closed; ``stage`` may get new values."""

    id: UUID
    status: TaskStatus
    stage: str
    version: int = Field(description="Grows with every event; equals the last one's seq.")
    priority: str
    attempts: int
    takeovers: int
    progress: TaskProgress
    usage: TaskUsage | None = Field(description="Absent while no model was asked.")
    input: dict[str, Any]
    result: TaskResult | None
    error: TaskFailure | None
    created_at: datetime
    deadline_at: datetime | None
    cancel_requested_at: datetime | None
    dispatched_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    links: Links

    @classmethod
    def of(cls, row: Mapping[str, Any] | RowMapping) -> TaskView:
        """From a row of ``tasks`` beside its outbox message, if it still has one, and ``usage``."""
        task_id, roadmap_id = row["id"], row["roadmap_id"]
        url = f"/v1/tasks/{task_id}"
        roadmap_url = f"/v1/roadmaps/{roadmap_id}" if roadmap_id else None
        rung = row["rung_at"] is not None and row["status"] == TaskStatus.QUEUED
        return cls(
            id=task_id,
            status=row["status"],
            # Only the outbox knows that a doorbell was rung; the task row is left in peace.
            stage=Stage.DISPATCHED if rung else row["stage"],
            version=row["version"],
            priority=Priority(row["priority"]).name.lower(),
            attempts=row["attempts"],
            takeovers=row["takeovers"],
            progress=TaskProgress(completed=row["progress"], message=row["progress_message"]),
            usage=TaskUsage.model_validate(row["usage"]) if row["usage"] else None,
            input=row["input"],
            result=TaskResult(roadmap_id=roadmap_id, url=roadmap_url) if roadmap_url else None,
            error=row["error"],
            created_at=row["created_at"],
            deadline_at=row["deadline_at"],
            cancel_requested_at=row["cancel_requested_at"],
            dispatched_at=row["rung_at"] or row["dispatched_at"],
            started_at=row["started_at"],
            finished_at=row["finished_at"],
            links=Links(self=url, events=f"{url}/events", roadmap=roadmap_url),
        )


class EventView(BaseModel):
    seq: int
    type: str
    data: dict[str, Any]
    created_at: datetime


class EventPage(BaseModel):
    data: list[EventView]
    has_more: bool


class RoadmapView(Roadmap):
    """A roadmap with its identity."""

    id: UUID
    task_id: UUID
    created_at: datetime
