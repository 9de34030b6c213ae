"""What goes over HTTP: the API writes these documents, the client reads them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from shared.lifecycle import TaskStatus
from shared.roadmap import Roadmap

TASK_EXAMPLE: dict[str, Any] = {
    "id": "01a20a9f-2bbd-728b-87a2-3d216770b6f7",
    "status": "queued",
    "stage": "accepted",
    "version": 1,
    "priority": "normal",
    "attempts": 0,
    "takeovers": 0,
    "progress": {"completed": 0, "total": 100, "unit": "percent", "message": None},
    "usage": None,
    "input": {"goal": "Rust for backend engineers", "hours_per_week": 6, "weeks": 12},
    "metadata": {"customer": "42"},
    "parent_id": None,
    "result": None,
    "error": None,
    "delivery": {
        "outbox_id": "01a20a9f-2bbd-728b-87a2-3d216770b6f7:1",
        "state": "waiting",
        "published_at": None,
        "lag_ms": None,
        "publish_attempts": 0,
    },
    "queue": {"position": 3, "estimated_wait_seconds": 1.5},
    "created_at": "2026-11-25T12:00:00Z",
    "not_before": None,
    "deadline_at": None,
    "cancel_requested_at": None,
    "dispatched_at": None,
    "started_at": None,
    "finished_at": None,
    "links": {
        "self": "/v1/tasks/01a20a9f-2bbd-728b-87a2-3d216770b6f7",
        "events": "/v1/tasks/01a20a9f-2bbd-728b-87a2-3d216770b6f7/events",
        "attempts": "/v1/tasks/01a20a9f-2bbd-728b-87a2-3d216770b6f7/attempts",
        "roadmap": None,
    },
}


class View(BaseModel):
    """Readers pass over members that they do not know: the API may add some."""


class Links(View):
    self: str
    events: str
    attempts: str
    roadmap: str | None


class TaskResult(View):
    roadmap_id: UUID
    url: str


class TaskProgress(View):
    """How far a task has come. ``completed`` never gets less."""

    completed: int
    total: int = 100
    unit: str = "percent"
    message: str | None


class TaskUsage(View):
    """What a model was asked for this task, by all attempts, whatever came of them."""

    calls: int
    tokens_in: int
    tokens_out: int
    cost_usd: float


class TaskFailure(View):
    """Why a task failed. More members may appear, such as ``nearest`` goals."""

    model_config = ConfigDict(extra="allow")

    code: str
    detail: str
    retryable: bool


class Delivery(View):
    """The hop from PostgreSQL to the worker: what became of the task's outbox message."""

    outbox_id: str = Field(description="Of the task's latest message; also its id in Redis.")
    state: Literal["delayed", "waiting", "dispatched", "taken"] = Field(
        description="Not due yet; due; published; taken by a worker, or dropped with its task."
    )
    published_at: datetime | None
    lag_ms: float | None = Field(description="From when it was due to when it was published.")
    publish_attempts: int


class QueuePlace(View):
    """Where a queued task stands. An estimate: relays share among tenants, and messages age."""

    position: int | None = Field(
        description="1 is next; 1000 means at least so many. Null if not looked at, as in lists."
    )
    estimated_wait_seconds: float | None = Field(
        description="From what the live workers take for a task; null when that is not known."
    )


class TaskView(View):
    """A task as clients see it. ``status`` is closed; ``stage`` may get new values."""

    model_config = ConfigDict(json_schema_extra={"example": TASK_EXAMPLE})

    id: UUID
    status: TaskStatus
    stage: str
    version: int = Field(description="Grows with every event; equals the last one's seq.")
    priority: str
    attempts: int
    takeovers: int
    progress: TaskProgress
    usage: TaskUsage | None = Field(description="Null while no model was asked.")
    input: dict[str, Any]
    metadata: dict[str, str]
    parent_id: UUID | None = Field(description="The ended task that this one runs again.")
    result: TaskResult | None
    error: TaskFailure | None
    delivery: Delivery
    queue: QueuePlace | None = Field(description="Null unless the task is queued.")
    created_at: datetime
    not_before: datetime | None
    deadline_at: datetime | None
    cancel_requested_at: datetime | None
    dispatched_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    links: Links


class TaskPage(View):
    """``has_more`` may be true of a short or empty page: a search stops after so many tasks, and
    ``next_cursor`` goes on from there."""

    data: list[TaskView]
    has_more: bool
    next_cursor: str | None
    total_estimate: int | None = Field(
        default=None, description="Only if asked for: what the planner expects, not a count."
    )


class EventView(View):
    seq: int
    type: str
    data: dict[str, Any]
    created_at: datetime


class EventPage(View):
    data: list[EventView]
    has_more: bool


class StepView(View):
    """A step of a generation. What it took adds up over all attempts that ran it."""

    step: str
    version: int
    state: Literal["begun", "completed"]
    tries: int
    failures: int
    duration_seconds: float
    calls: int
    tokens_in: int
    tokens_out: int
    cost_usd: float
    error: dict[str, Any] | None
    begun_at: datetime
    finished_at: datetime | None


class AttemptView(View):
    """A generation that was started, and what became of it."""

    number: int
    takeover: int
    worker: str
    outcome: str = Field(description="running, succeeded, failed, canceled, or why it was given up")
    error: dict[str, Any] | None
    started_at: datetime
    finished_at: datetime | None
    duration_seconds: float | None
    steps: list[StepView] = Field(description="Those that this attempt was the last to run.")
    usage: TaskUsage | None


class AttemptList(View):
    data: list[AttemptView]


class RoadmapView(Roadmap):
    """A roadmap with its identity."""

    id: UUID
    task_id: UUID
    created_at: datetime


class FieldError(View):
    """One thing that is wrong with a request."""

    pointer: str = Field(description="JSON pointer into the body; /query/…, /header/… elsewhere.")
    detail: str


class ProblemView(View):
    """RFC 9457. ``code`` is the last part of ``type``, whose page says what to do."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str | None = None
    errors: list[FieldError] | None = None


class BatchItem(View):
    """What became of one submission of a batch: a task, or the problem that refused it."""

    index: int
    task: TaskView | None = None
    problem: ProblemView | None = None


class BatchResult(View):
    data: list[BatchItem]
    accepted: int
    refused: int


class Estimate(View):
    """What a submission would come to."""

    goal: str = Field(description="The goal of the catalog that was understood, by its name.")
    feasible: bool
    stages: int
    concepts: int
    hours: float
    weeks: int
    model: ModelEstimate | None = Field(description="Null unless a model makes the roadmaps.")


class ModelEstimate(View):
    name: str
    calls: int
    tokens_in: int
    tokens_out: int
    cost_usd: float | None = Field(description="Null while no prices are set.")
    based_on: str


class Validation(View):
    """A request that would be accepted. Nothing was written."""

    valid: Literal[True] = True
    normalized: dict[str, Any]
    estimate: Estimate | None = Field(
        description="Null when the goal was not understood: then a task would fail, see `problem`."
    )
    problem: TaskFailure | None = None


Estimate.model_rebuild()
