"""What is told about relays, workers, their queue, and what a task waits for."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from api_service.ops_schemas import Pause
from shared.lifecycle import TaskStatus
from shared.views import View

WorkerState = Literal["working", "idle", "draining", "drained", "gone"]
RelayState = Literal["carrying", "paused", "waiting_for_redis", "gone"]

WaitsFor = Literal[
    "nothing",
    "generation",
    "worker_to_cancel",
    "lease",
    "due_time",
    "row_lock",
    "paused_relays",
    "relay",
    "redis",
    "worker",
    "turn",
    "operator",
]


class WorkerTask(View):
    task_id: UUID
    attempt: int
    lease_expires_at: datetime


class WorkerView(View):
    id: UUID
    name: str = Field(description="Host and pid, as the owner of its leases.")
    version: str
    state: WorkerState = Field(description="Drained: it has said that it rests, and runs nothing.")
    started_at: datetime
    seen_at: datetime
    slots: int
    running: int = Field(description="As it said itself, when it was last seen.")
    finished: int = Field(description="Generations since its start, however they ended.")
    mean_seconds: float | None = Field(description="Of a generation; null before the first.")
    drain_requested_at: datetime | None
    tasks: list[WorkerTask] = Field(description="Those that it has leased now.")


class WorkerList(View):
    data: list[WorkerView]


class RedisReport(View):
    answers: bool
    depth: int | None = Field(description="Messages that wait in Redis.")
    reason: str | None = Field(description="Why it does not answer.")


class RelayView(View):
    id: UUID
    name: str
    version: str
    state: RelayState
    started_at: datetime
    seen_at: datetime
    published: int = Field(description="Messages since its start.")
    redis: RedisReport


class RelayList(View):
    data: list[RelayView]


class QueueView(View):
    name: str
    waiting: int = Field(description="Due, and not published yet.")
    delayed: int
    in_flight: int = Field(description="Published, and not taken yet.")
    running: int
    oldest_waiting_seconds: float | None
    paused: Pause | None
    slots: int = Field(description="Of the workers that live and do not drain.")
    workers: int = Field(description="That live and do not drain.")
    redis_depth: int | None = Field(description="Null while no relay knows.")
    estimated_wait_seconds: float | None = Field(
        description="Of a task that is submitted now; null when it cannot be known."
    )


class QueueList(View):
    data: list[QueueView]


class Explanation(View):
    """What a task waits for. ``waits_for`` is open: a client must tolerate further values."""

    task_id: UUID
    status: TaskStatus
    waits_for: WaitsFor
    sentence: str = Field(description="For people; says what can be done.")
    facts: dict[str, Any] = Field(description="What it was concluded from.")
