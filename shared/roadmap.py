"""The request a learner makes and the roadmap they get: stages → modules → concepts."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from datetime import date
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

LANGUAGES = ("en", "zh")
MOST_HOURS_A_WEEK = 80


class Shape(BaseModel):
    """What every part shares: frozen, and an unknown field is an error, not a shrug.

    NaN would pass every comparison of the invariants, and PostgreSQL's JSON cannot hold it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


# --- the request ---------------------------------------------------------------------------------


class Level(StrEnum):
    BEGINNER = "beginner"
    INTERMEDIATE = "intermediate"
    ADVANCED = "advanced"


class Weekday(StrEnum):
    MONDAY = "mon"
    TUESDAY = "tue"
    WEDNESDAY = "wed"
    THURSDAY = "thu"
    FRIDAY = "fri"
    SATURDAY = "sat"
    SUNDAY = "sun"

    @property
    def number(self) -> int:
        """Monday is 0, as in ``date.weekday()``."""
        return list(Weekday).index(self)


WORKING_DAYS = tuple(Weekday)[:5]


def _plain_text(value: str) -> str:
    """Trim and normalise (NFKC). PostgreSQL cannot store NUL; other controls only hide things."""
    if any(unicodedata.category(char) in ("Cc", "Cs") for char in value):
        raise ValueError("must not contain control characters; send plain text")
    return unicodedata.normalize("NFKC", value).strip()


def _known_language(value: str) -> str:
    if value not in LANGUAGES:
        raise ValueError(f"is not available; choose one of: {', '.join(LANGUAGES)}")
    return value


def _long_enough(value: str) -> str:
    if len(value) < 3:
        raise ValueError("is too short; say in at least 3 characters what to learn")
    return value


def _not_empty(value: str) -> str:
    if not value:
        raise ValueError("is empty; name a topic or leave it out")
    return value


def _still_within(limit: int) -> AfterValidator:
    """Normalising may lengthen, up to 18 times; what is stored must be valid when read again."""

    def check(value: str) -> str:
        if len(value) > limit:
            raise ValueError(f"is too long written out in plain characters: at most {limit}")
        return value

    return AfterValidator(check)


def _written_as_date(value: object) -> object:
    """Only YYYY-MM-DD: a number would be taken for seconds since 1970."""
    if isinstance(value, date) or (isinstance(value, str) and ISO_DATE.fullmatch(value)):
        return value
    raise ValueError("must be a date written like 2030-01-31")


CONTROLS = r"\x00-\x1f\x7f-\x9f"
SOME_PLAIN = rf"^[^{CONTROLS}]*[^\s{CONTROLS}][^{CONTROLS}]*$"
THREE_PLAIN = rf"^[^{CONTROLS}]*[^\s{CONTROLS}][^{CONTROLS}]+[^\s{CONTROLS}][^{CONTROLS}]*$"
"""The rules above as JSON Schema has them: so many characters between the outer spaces."""

ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
CalendarDate = Annotated[date, BeforeValidator(_written_as_date)]
Topic = Annotated[
    str,
    Field(max_length=100, json_schema_extra={"minLength": 1, "pattern": SOME_PLAIN}),
    AfterValidator(_plain_text),
    AfterValidator(_not_empty),
    _still_within(100),
]


def _each_once(days: tuple[Weekday, ...]) -> tuple[Weekday, ...]:
    if not days:
        raise ValueError("names no day; leave it out to study from Monday to Friday")
    return tuple(day for day in Weekday if day in days)


class RoadmapRequest(Shape):
    """What the learner asks for: the ``input`` of a task."""

    goal: Annotated[
        str,
        Field(max_length=300, json_schema_extra={"minLength": 3, "pattern": THREE_PLAIN}),
        AfterValidator(_plain_text),
        AfterValidator(_long_enough),
        _still_within(300),
    ] = Field(description="What to learn, in the learner's own words (3 to 300 characters).")
    level: Level = Field(default=Level.BEGINNER, description="Where the learner stands today.")
    hours_per_week: float = Field(
        default=5,
        ge=1,
        le=MOST_HOURS_A_WEEK,
        strict=True,
        allow_inf_nan=False,
        description="Hours of study in a week.",
    )
    weeks: int | None = Field(
        default=None,
        ge=1,
        le=104,
        strict=True,
        description="How many weeks the plan may take; open if absent.",
    )
    until: CalendarDate | None = Field(
        default=None, description="The last day of the plan, in place of weeks."
    )
    start_date: CalendarDate | None = Field(
        default=None, description="First day of the plan; the day of submission if absent."
    )
    known_topics: tuple[Topic, ...] = Field(
        default=(), max_length=50, description="What the learner knows already."
    )
    exclude: tuple[Topic, ...] = Field(
        default=(), max_length=20, description="Topics to leave out unless the goal needs them."
    )
    study_days: Annotated[
        tuple[Weekday, ...],
        Field(max_length=7, json_schema_extra={"minItems": 1}),
        AfterValidator(_each_once),
    ] = Field(default=WORKING_DAYS, description="Days of the week on which the learner studies.")
    language: Annotated[
        str, Field(json_schema_extra={"enum": [*LANGUAGES]}), AfterValidator(_known_language)
    ] = "en"

    @model_validator(mode="after")
    def _one_end(self) -> RoadmapRequest:
        if self.weeks is not None and self.until is not None:
            raise ValueError("weeks and until both say when to end; send one of them")
        if self.start_date and self.until and (self.until - self.start_date).days < 6:
            raise ValueError("until must be at least a week after start_date; send a later day")
        return self

    def weeks_from(self, start: date) -> int | None:
        """Whole weeks that a plan from ``start`` may take, 0 if none; None if it is open."""
        if self.until is None:
            return self.weeks
        return max(0, (self.until - start).days + 1) // 7


# --- the roadmap ---------------------------------------------------------------------------------

WEEK_TOLERANCE = 1.05
"""A week may run over its budget by 5 %: a concept is not torn apart for a few minutes."""


class Prerequisite(Shape):
    concept_id: str
    strength: Literal["hard", "soft"] = "hard"


class Resource(Shape):
    title: str
    url: str
    type: Literal["documentation", "article", "book", "course", "video", "tool"] = "documentation"
    language: str = "en"
    written: date | None = Field(default=None, description="When the address was written down.")
    check: Literal["ok", "unverified", "broken"] = "unverified"
    source: Literal["catalog", "model"] = Field(
        default="catalog", description="Who names it; a model may invent addresses."
    )


class Question(Shape):
    """One of a concept's quiz. ``answer`` is the index of the right option, from 0."""

    question: str
    options: tuple[str, ...] = Field(min_length=2, max_length=6)
    answer: int = Field(ge=0)
    explanation: str = ""

    @model_validator(mode="after")
    def _answer_exists(self) -> Question:
        if self.answer >= len(self.options):
            raise ValueError(f"answer {self.answer} names none of {len(self.options)} options")
        return self


class Concept(Shape):
    """One thing to learn. ``id`` is a catalog slug: stable over regeneration, never positional."""

    id: str
    name: str
    description: str
    why: str = Field(description="Why it is in this plan, e.g. 'needed for REST APIs'.")
    kind: Literal["core", "supporting", "project", "review", "optional"] = "core"
    difficulty: int = Field(ge=1, le=5)
    hours: float = Field(gt=0)
    week_from: int = Field(ge=1)
    week_to: int = Field(ge=1)
    starts_on: date | None = None
    ends_on: date | None = None
    mastery: int = Field(
        default=2, ge=1, le=3, description="1: recognise it, 2: use it unaided, 3: be fluent."
    )
    prerequisites: tuple[Prerequisite, ...] = ()
    outcomes: tuple[str, ...] = Field(min_length=1, description="What the learner can then do.")
    practice: tuple[str, ...] = ()
    resources: tuple[Resource, ...] = ()
    lesson: str | None = Field(default=None, description="Markdown: a lesson, or its outline.")
    quiz: tuple[Question, ...] = Field(default=(), max_length=5)
    content: Literal["model", "catalog", "missing"] = Field(
        default="catalog",
        description="Who wrote lesson, practice, resources and quiz; missing: nobody could.",
    )


class Milestone(Shape):
    title: str
    deliverable: str
    acceptance: tuple[str, ...] = ()


class Module(Shape):
    id: str
    name: str
    description: str
    hours: float
    concepts: tuple[Concept, ...] = Field(min_length=1)


class Stage(Shape):
    id: str
    name: str
    description: str
    outcome: str
    hours: float
    buffer_hours: float = Field(default=0, ge=0, description="Kept free at its end.")
    week_from: int
    week_to: int
    modules: tuple[Module, ...] = Field(min_length=1)
    milestone: Milestone | None = None


class DroppedConcept(Shape):
    concept_id: str
    name: str
    reason: str


class LoweredConcept(Shape):
    """Planned with less mastery than usual, to fit the time."""

    concept_id: str
    name: str
    mastery: int
    reason: str


class Fit(Shape):
    """How the plan meets the learner's time: hours in total, weeks at the asked pace."""

    hours_per_week: float
    requested_weeks: int | None
    planned_hours: float
    planned_weeks: int
    feasible: bool
    suggestion: str | None = None
    dropped: tuple[DroppedConcept, ...] = ()
    lowered: tuple[LoweredConcept, ...] = ()
    buffer_hours: float = 0


class GeneratedBy(Shape):
    name: str
    version: str
    catalog_version: str | None = None
    model: str | None = None


class Roadmap(Shape):
    """The result of a task. Construction fails if an invariant is broken; see ``_coherent``."""

    title: str
    summary: str
    goal: str
    level: Level
    language: str = "en"
    start_date: date
    end_date: date
    total_hours: float
    weeks: int
    study_days: tuple[Weekday, ...] = WORKING_DAYS
    stages: tuple[Stage, ...] = Field(min_length=1)
    fit: Fit
    warnings: tuple[str, ...] = ()
    generated_by: GeneratedBy

    def concepts(self) -> Iterator[Concept]:
        """Every concept, in the order of study."""
        for stage in self.stages:
            for module in stage.modules:
                yield from module.concepts

    @model_validator(mode="after")
    def _coherent(self) -> Roadmap:
        """Ids are unique, a hard prerequisite comes first, hours add up and fit the weeks."""
        _unique([stage.id for stage in self.stages], "stage")
        _unique([module.id for stage in self.stages for module in stage.modules], "module")
        _unique([concept.id for concept in self.concepts()], "concept")
        _prerequisites_first(self)
        _hours_add_up(self)
        _weeks_hold(self)
        return self


def _unique(ids: list[str], what: str) -> None:
    repeated = sorted({one for one in ids if ids.count(one) > 1})
    if repeated:
        raise ValueError(f"{what} ids appear twice: {', '.join(repeated)}")


def _prerequisites_first(roadmap: Roadmap) -> None:
    planned = {concept.id for concept in roadmap.concepts()}
    seen: set[str] = set()
    for concept in roadmap.concepts():
        for needed in concept.prerequisites:
            if needed.concept_id not in planned:
                raise ValueError(f"{concept.id} needs {needed.concept_id}, which is not planned")
            if needed.strength == "hard" and needed.concept_id not in seen:
                raise ValueError(f"{concept.id} comes before {needed.concept_id}, which it needs")
        seen.add(concept.id)


def _hours_add_up(roadmap: Roadmap) -> None:
    for stage in roadmap.stages:
        for module in stage.modules:
            _same(module.hours, sum(concept.hours for concept in module.concepts), module.id)
        _same(stage.hours, sum(module.hours for module in stage.modules), stage.id)
    _same(roadmap.total_hours, sum(stage.hours for stage in roadmap.stages), "the roadmap")


def _same(stated: float, summed: float, where: str) -> None:
    if abs(stated - summed) > 0.01:
        raise ValueError(f"hours of {where} say {stated}, its parts sum up to {summed}")


def _weeks_hold(roadmap: Roadmap) -> None:
    for concept in roadmap.concepts():
        if not 1 <= concept.week_from <= concept.week_to <= roadmap.weeks:
            raise ValueError(f"{concept.id} is planned outside weeks 1 to {roadmap.weeks}")
    limit = roadmap.fit.hours_per_week * WEEK_TOLERANCE + 0.01
    for week, hours in weekly_hours(roadmap).items():
        if hours > limit:
            raise ValueError(f"week {week} carries {hours:.1f} h, its limit is {limit:.1f} h")


def weekly_hours(roadmap: Roadmap) -> dict[int, float]:
    """Hours of study by week: concepts are studied in order, each week filled to its budget."""
    budget = roadmap.fit.hours_per_week
    load: dict[int, float] = {}
    for concept in roadmap.concepts():
        left = concept.hours
        for week in range(concept.week_from, concept.week_to + 1):
            room = max(budget - load.get(week, 0.0), 0.0)
            part = left if week == concept.week_to else min(left, room)
            load[week] = load.get(week, 0.0) + part
            left -= part
    return load
