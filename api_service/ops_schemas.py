"""What operators send, and the documents that they get."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from api_service.schemas import Moment, PriorityName, storable
from shared.operating import Filter
from shared.roadmap import Shape
from shared.views import View

MOST_AT_ONCE = 10_000
"""Dead letters of one act: it is a transaction for every few hundred of them."""

ActName = Literal[
    "replay", "discard", "pause", "resume", "pause_intake", "resume_intake", "drain", "undrain"
]
Said = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(storable)]


class Order(Shape):
    """Who wants it, and why: both are recorded."""

    reason: Said = Field(description="Why. It is recorded with the act, for whoever asks later.")
    actor: Said | None = Field(default=None, description="Who. Default: the caller's name.")


class LetterFilter(Shape):
    """Which open dead letters are meant; what is absent does not matter."""

    fingerprint: Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")] | None = None
    reason: Said | None = Field(default=None, description="Such as worker_lost.")
    source: Literal["relay", "worker", "sweeper"] | None = None
    tenant: Said | None = None
    after: Moment | None = None
    before: Moment | None = None

    def as_filter(self) -> Filter:
        return Filter(**{name: getattr(self, name) for name in LetterFilter.model_fields})


class BulkOrder(Shape):
    """First with ``dry_run`` and ``filter`` or ``ids``: what would be done, and a token. Then with
    the token, the count that was shown, and a reason."""

    dry_run: bool = Field(default=False, strict=True)
    filter: LetterFilter | None = None
    ids: Annotated[list[int], Field(min_length=1, max_length=MOST_AT_ONCE)] | None = None
    preview_token: Annotated[str, Field(max_length=200_000)] | None = None
    expected_count: int | None = Field(default=None, ge=0, description="`matched`, as shown.")
    reason: Said | None = None
    actor: Said | None = None
    rate_per_second: int = Field(
        default=50, ge=1, le=10_000, strict=True, description="Of a replay: tasks a second."
    )

    @model_validator(mode="after")
    def _says_which(self) -> BulkOrder:
        if self.dry_run:
            if (self.filter is None) == (self.ids is None):
                raise ValueError("a dry run needs either `filter` or `ids`: say which are meant")
        elif self.preview_token is None or self.expected_count is None or self.reason is None:
            raise ValueError(
                "to act, send `preview_token` and `expected_count` of a dry run, and a `reason`"
            )
        return self


class Query(BaseModel):
    model_config = ConfigDict(extra="forbid")

    limit: int = Field(default=50, ge=1, le=500)
    cursor: Annotated[str, Field(max_length=500)] | None = Field(
        default=None, description="`next_cursor` of the page before."
    )


class OutboxQuery(Query):
    state: Literal["waiting", "delayed", "dispatched"] | None = None
    tenant: Said | None = None
    priority: PriorityName | None = None
    task_id: UUID | None = None


class LetterQuery(Query):
    group_by: Literal["fingerprint", "none"] | None = Field(
        default=None, description="Default: by fingerprint, unless a filter is given."
    )
    resolved: bool = Field(default=False, description="Also those that were decided on.")
    fingerprint: Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")] | None = None
    reason: Said | None = None
    source: Literal["relay", "worker", "sweeper"] | None = None
    tenant: Said | None = None
    after: Moment | None = None
    before: Moment | None = None

    def as_filter(self) -> Filter:
        names = LetterFilter.model_fields
        return Filter(**{name: getattr(self, name) for name in names})


class ActQuery(Query):
    act: ActName | None = None
    actor: Said | None = None


# --- documents -----------------------------------------------------------------------------------


class Pause(View):
    at: datetime
    by: str
    reason: str


class PauseResult(View):
    act: int | None = Field(description="Null if nothing changed.")
    paused: Pause | None


class IntakeResult(View):
    act: int | None = Field(description="Null if nothing changed.")
    intake_paused: Pause | None


class MessageView(View):
    task_id: UUID
    tenant_id: str
    priority: PriorityName
    state: Literal["waiting", "delayed", "dispatched"]
    dispatch_no: int
    available_at: datetime
    dispatched_at: datetime | None
    seconds: float = Field(description="For which it waits, until it is due, or since then.")


class MessagePage(View):
    data: list[MessageView]
    has_more: bool
    next_cursor: str | None


class LetterGroup(View):
    fingerprint: str
    source: str
    reason: str
    error: str
    count: int
    open: int
    first: datetime
    last: datetime
    example: int


class LetterView(View):
    id: int
    task_id: UUID | None
    dispatch_no: int | None
    source: str
    reason: str
    text: str | None
    error: str
    fingerprint: str
    created_at: datetime
    resolution: Literal["replayed", "discarded"] | None
    resolved_at: datetime | None
    act_id: int | None
    replayed_as: UUID | None
    task_status: str | None = Field(description="Null: the task is not in this database.")


class LetterPage(View):
    """Groups, or single dead letters, as was asked."""

    data: list[LetterGroup] | list[LetterView]
    has_more: bool
    next_cursor: str | None


class LetterStory(View):
    task_id: UUID | None
    task: dict[str, Any] | None
    message: dict[str, Any] | None
    dead_letters: list[LetterView]
    acts: list[ActView]


class ActView(View):
    id: int
    actor: str
    act: ActName
    reason: str
    detail: dict[str, Any]
    created_at: datetime


class ActPage(View):
    data: list[ActView]
    has_more: bool
    next_cursor: str | None


class PreviewGroup(View):
    fingerprint: str
    source: str
    reason: str
    error: str
    count: int


class Preview(View):
    matched: int
    tasks: int
    groups: list[PreviewGroup]
    fates: dict[str, int] = Field(description="Of a replay: what becomes of the tasks.")
    sample: list[int]
    preview_token: str


class Replayed(View):
    task_id: UUID
    replayed_as: UUID
    dead_letters: list[int]


class Decision(View):
    """What an act has done."""

    act: int
    dead_letters: int
    new_tasks: int = 0
    dispatched_again: int = 0
    last_due_at: datetime | None = Field(
        default=None, description="When the last of the replayed tasks may be published."
    )
    data: list[Replayed] = Field(default=[])


class TaskCounts(View):
    accepted: int
    queued: int
    running: int
    succeeded: int
    failed: int
    canceled: int
    open: int


class Difference(View):
    task_id: UUID
    what: str


class Conservation(View):
    """accepted = succeeded + failed + canceled + open, of one snapshot."""

    holds: bool
    sentence: str
    differences: list[Difference]


class OutboxCounts(View):
    waiting: int
    delayed: int
    in_flight: int
    oldest_waiting_seconds: float | None


class LetterCounts(View):
    open: int
    groups: int


class Overview(View):
    taken_at: datetime
    tasks: TaskCounts
    conservation: Conservation
    outbox: OutboxCounts
    dead_letters: LetterCounts
    paused: Pause | None
    intake_paused: Pause | None
    workers: int
    relays: int


LetterStory.model_rebuild()
