"""What operators send, and the documents that they get."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.config import JsonDict, JsonValue

from api_service import ops_examples as examples
from api_service.schemas import Moment, PriorityName, storable
from shared.lifecycle import Priority, Stage, TaskStatus
from shared.operating import Filter
from shared.roadmap import Shape
from shared.views import TaskFailure, View

MOST_AT_ONCE = 10_000
"""Dead letters of one act: it is a transaction for every few hundred of them."""

MOST_NAMED = 1000
"""Dead letters that are named one by one: their numbers come back with the token, and a body is
64 KiB at most."""

DEFAULT_RATE = 50
"""Tasks that a replay makes due in a second."""

LARGEST = 2**53 - 1
"""No dead letter or act will have a larger number, and any JSON reader can still tell it apart."""


def _says_something(value: str) -> str:
    if not value.strip():
        raise ValueError("is blank; say it in a few words")
    return storable(value)


def _rank_name(value: object) -> object:
    return Priority(value).name.lower() if isinstance(value, int) else value


Kind = Literal["replay", "discard"]
ActName = Literal[
    "replay", "discard", "pause", "resume", "pause_intake", "resume_intake", "drain", "undrain"
]
NOT_BLANK = r"^[^\x00]*[^\s\x00\x1c-\x1f\x85][^\x00]*$"
"""As the rule above, for the API's description."""

Said = Annotated[
    str,
    Field(min_length=1, max_length=500, json_schema_extra={"pattern": NOT_BLANK}),
    AfterValidator(_says_something),
]
Fingerprint = Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")]
MessageState = Literal["waiting", "delayed", "dispatched"]
RankName = Annotated[PriorityName, BeforeValidator(_rank_name)]
LetterSource = Literal["relay", "worker", "sweeper"]
LetterNumber = Annotated[int, Field(strict=True, ge=1, le=LARGEST)]


class Order(Shape):
    """Who wants it, and why: both are recorded."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.ORDER]})

    reason: Said = Field(description="Why. It is recorded with the act, for whoever asks later.")
    actor: Said | None = Field(default=None, description="Who. Default: the caller's name.")


class LetterFilter(Shape):
    """Which dead letters are meant; what is absent does not matter."""

    fingerprint: Fingerprint | None = Field(default=None, description="Those of one error.")
    reason: Said | None = Field(default=None, description="Such as worker_lost.")
    source: LetterSource | None = Field(default=None, description="Who wrote them.")
    tenant: Said | None = Field(default=None, description="Those of this tenant's tasks.")
    after: Moment | None = Field(default=None, description="Not older.")
    before: Moment | None = Field(default=None, description="Only older.")

    def as_filter(self) -> Filter:
        return Filter(**{name: getattr(self, name) for name in LetterFilter.model_fields})


_NULL: JsonDict = {"type": "null"}
LOOK_OR_ACT: list[JsonValue] = [
    {
        "required": ["dry_run", wanted],
        "properties": {
            "dry_run": {"const": True},
            wanted: {"not": _NULL},
            other: _NULL,
            "preview_token": _NULL,
            "rate_per_second": _NULL,
        },
    }
    for wanted, other in (("filter", "ids"), ("ids", "filter"))
]
LOOK_OR_ACT.append(
    {
        "required": ["preview_token", "expected_count", "reason"],
        "properties": {
            "dry_run": {"const": False},
            "filter": _NULL,
            "ids": _NULL,
            "preview_token": {"not": _NULL},
            "expected_count": {"not": _NULL},
            "reason": {"not": _NULL},
        },
    }
)
"""What types cannot say: which fields of a bulk order go together."""


class BulkOrder(Shape):
    """First with `dry_run` and `filter` or `ids`: what would be done, and a token. Then with the
    token, the count that was shown, and a reason."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [examples.LOOK, examples.PICK, examples.GO],
            "oneOf": LOOK_OR_ACT,
        }
    )

    dry_run: bool = Field(default=False, strict=True)
    filter: LetterFilter | None = None
    ids: Annotated[list[LetterNumber], Field(min_length=1, max_length=MOST_NAMED)] | None = None
    preview_token: Annotated[str, Field(max_length=60_000)] | None = None
    expected_count: Annotated[int, Field(strict=True, ge=0)] | None = Field(
        default=None, description="`matched`, as shown."
    )
    reason: Said | None = Field(default=None, description="Why. It is recorded with the act.")
    actor: Said | None = Field(default=None, description="Who. Default: the caller's name.")
    rate_per_second: Annotated[int, Field(strict=True, ge=1, le=10_000)] | None = Field(
        default=None,
        description=f"Of a replay: tasks a second at most; {DEFAULT_RATE} if absent. The outbox "
        "keeps it: each message is due in its turn.",
    )

    def faults(self, kind: Kind) -> Iterator[tuple[str, str]]:
        """Fields that a look or an act lacks or has too many, and what is wrong with each."""
        if kind == "discard" and self.rate_per_second is not None:
            yield "rate_per_second", "is for a replay: leave it out"
        elif self.dry_run and self.rate_per_second is not None:
            yield "rate_per_second", "goes with the token: a dry run does not keep it"
        yield from self._faults_of_look() if self.dry_run else self._faults_of_act()

    def _faults_of_look(self) -> Iterator[tuple[str, str]]:
        if self.filter is None and self.ids is None:
            yield "filter", "or `ids` is required: say which are meant"
        if self.filter is not None and self.ids is not None:
            yield "ids", "cannot stand beside `filter`: send one of them"
        if self.preview_token is not None:
            yield "preview_token", "is what a dry run answers with: leave it out"

    def _faults_of_act(self) -> Iterator[tuple[str, str]]:
        for name in ("filter", "ids"):
            if getattr(self, name) is not None:
                yield name, "belongs to a dry run; its token says which are meant"
        for name in ("preview_token", "expected_count"):
            if getattr(self, name) is None:
                yield name, "is required: send `dry_run` first, it answers with it"
        if self.reason is None:
            yield "reason", "is required: it is recorded with the act"


class ListQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    limit: int = Field(default=50, ge=1, le=500)
    cursor: Annotated[str, Field(max_length=500)] | None = Field(
        default=None, description="`next_cursor` of the page before."
    )


class OutboxQuery(ListQuery):
    state: MessageState | None = None
    tenant: Said | None = None
    priority: PriorityName | None = None
    task_id: UUID | None = None


class LetterQuery(LetterFilter, ListQuery):
    group_by: Literal["fingerprint", "none"] | None = Field(
        default=None, description="Default: by fingerprint, unless a filter is given."
    )
    resolved: bool = Field(default=False, description="Also those that were decided on.")

    @property
    def grouped(self) -> bool:
        if self.group_by is None:
            return not self.as_filter().said()
        return self.group_by == "fingerprint"


class ActQuery(ListQuery):
    act: ActName | None = None
    actor: Said | None = None


# --- documents -----------------------------------------------------------------------------------


class Pause(View):
    at: datetime
    by: str
    reason: str


class PauseResult(View):
    model_config = ConfigDict(json_schema_extra={"examples": [examples.PAUSE_RESULT]})

    act: int | None = Field(description="Null if nothing changed.")
    paused: Pause | None


class IntakeResult(View):
    model_config = ConfigDict(json_schema_extra={"examples": [examples.INTAKE_RESULT]})

    act: int | None = Field(description="Null if nothing changed.")
    intake_paused: Pause | None


class MessageView(View):
    model_config = ConfigDict(json_schema_extra={"examples": [examples.MESSAGE]})

    task_id: UUID
    tenant_id: str
    priority: RankName
    state: MessageState
    dispatch_no: int
    available_at: datetime
    dispatched_at: datetime | None
    seconds: float = Field(description="For which it waits, until it is due, or since then.")


class MessagePage(View):
    data: list[MessageView]
    has_more: bool
    next_cursor: str | None


class LetterGroup(View):
    """Dead letters whose error is the same but for its ids and numbers."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.GROUP]})

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
    model_config = ConfigDict(json_schema_extra={"examples": [examples.LETTER]})

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
    task_status: TaskStatus | None = Field(
        description="Null: the task is not in this database, or was erased."
    )


class LetterPage(View):
    """Groups, or single dead letters, as was asked."""

    data: list[LetterGroup] | list[LetterView]
    has_more: bool
    next_cursor: str | None


class ActView(View):
    model_config = ConfigDict(json_schema_extra={"examples": [examples.ACT]})

    id: int
    actor: str
    act: ActName
    reason: str
    detail: dict[str, Any]
    created_at: datetime


class StoryTask(View):
    """A task as its row is, with what is not shown to its owner: who has leased it."""

    id: UUID
    tenant_id: str
    priority: RankName
    goal: str | None = Field(description="Null once it was erased.")
    status: TaskStatus
    stage: Stage
    version: int
    dispatch_no: int
    attempts: int
    takeovers: int
    lease_owner: str | None
    lease_expires_at: datetime | None
    roadmap_id: UUID | None
    error: TaskFailure | None
    created_at: datetime
    available_at: datetime
    dispatched_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    deleted_at: datetime | None
    parent_id: UUID | None


class StoryMessage(View):
    dispatch_no: int
    available_at: datetime
    dispatched_at: datetime | None
    state: MessageState


class LetterStory(View):
    """A dead letter with all of its task: what the task is like, and what was done about it."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.STORY]})

    task_id: UUID | None
    task: StoryTask | None
    message: StoryMessage | None
    dead_letters: list[LetterView]
    acts: list[ActView]


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
    model_config = ConfigDict(json_schema_extra={"examples": [examples.PREVIEW]})

    matched: int
    tasks: int
    groups: list[PreviewGroup]
    fates: dict[str, int] = Field(description="Of a replay: what becomes of the tasks.")
    sample: list[int]
    preview_token: str


class Replayed(View):
    task_id: UUID
    replayed_as: UUID = Field(description="The same, if it was queued: dispatched again.")
    due_at: datetime = Field(description="It is published then, and not before.")
    dead_letters: list[int]


class Decision(View):
    """What an act has done."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.DECISION]})

    act: int
    dead_letters: int
    new_tasks: int = 0
    dispatched_again: int = 0
    last_due_at: datetime | None = Field(
        default=None, description="Of the replayed tasks; null if there are none."
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
    model_config = ConfigDict(json_schema_extra={"examples": [examples.OVERVIEW]})

    taken_at: datetime
    tasks: TaskCounts
    conservation: Conservation
    outbox: OutboxCounts
    dead_letters: LetterCounts
    paused: Pause | None
    intake_paused: Pause | None
    workers: int
    relays: int
