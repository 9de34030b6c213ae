"""The catalog: what can be taught, what each thing needs first, and what goals come down to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cached_property, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, ConfigDict, Field

from shared.errors import StartupError
from shared.roadmap import CalendarDate, Level

Slug = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=60)]
Text = Annotated[str, Field(min_length=1, max_length=400)]
HalfHours = Annotated[float, Field(ge=0.5, le=24, multiple_of=0.5)]
STRICT = ConfigDict(extra="forbid")

MOST_HOURS = 12
"""Of ordinary mastery; what takes longer is more than one concept."""

MOST_CHOICES = 64
"""Catalogs with settled alternatives that are kept at hand."""


class CatalogError(StartupError):
    """The catalog contradicts itself; the sentence names the file and the entry."""


class Mastery(IntEnum):
    """How well something is learned: recognise it, use it unaided, use it without thinking."""

    ACQUAINTED = 1
    WORKING = 2
    FLUENT = 3


def _rising(hours: tuple[float, float, float]) -> tuple[float, float, float]:
    if any(later < earlier for earlier, later in pairwise(hours)):
        raise ValueError("more mastery cannot take fewer hours")
    if hours[1] > MOST_HOURS:
        raise ValueError(f"{hours[1]:g} hours are too many for one concept: {MOST_HOURS} at most")
    return hours


@dataclass(frozen=True, slots=True)
class Requirement:
    """An edge: ``id`` has to be studied first (hard), or had better be (soft).

    Where any of several will do, ``one_of`` names the alternatives, and ``id`` is the one chosen.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    id: Slug
    reason: Text
    strength: Literal["hard", "soft"] = "hard"
    one_of: Slug | None = None

    @property
    def hard(self) -> bool:
        return self.strength == "hard"


@dataclass(frozen=True, slots=True)
class Alternatives:
    """Concepts of which any one will do; the first is chosen unless something speaks for others."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    id: Slug
    name: Text
    members: Annotated[tuple[Slug, ...], Field(min_length=2)]


@dataclass(frozen=True, slots=True)
class Link:
    """Somewhere to read on. Nobody has checked the address for the learner since ``written``."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    title: Text
    url: Annotated[str, Field(pattern=r"^https://\S+$")]
    written: CalendarDate
    type: Literal["documentation", "article", "book", "course", "video", "tool"] = "documentation"
    language: Literal["en", "zh"] = "en"


@dataclass(frozen=True, slots=True)
class QuizQuestion:
    """``answer`` is the index of the right option, from 0."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    question: Text
    options: Annotated[tuple[Text, ...], Field(min_length=4, max_length=4)]
    answer: Annotated[int, Field(ge=0, le=3)]
    explanation: Text


@dataclass(frozen=True, slots=True)
class Concept:
    """One thing to learn; ``hours`` are those of each mastery, outcomes complete "You can …"."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    id: Slug
    name: Text
    description: Text
    why: Text
    domain: Slug
    cluster: Slug
    difficulty: Annotated[int, Field(ge=1, le=5)]
    hours: Annotated[tuple[HalfHours, HalfHours, HalfHours], AfterValidator(_rising)]
    requires: tuple[Requirement, ...]
    outcomes: Annotated[tuple[Text, ...], Field(min_length=1, max_length=3)]
    practice: Annotated[tuple[Text, ...], Field(min_length=1, max_length=2)]
    resources: Annotated[tuple[Link, ...], Field(min_length=2, max_length=4)]
    aliases: tuple[Text, ...]
    """In every language, with the names in the other ones."""
    assumed_from: Literal[Level.INTERMEDIATE, Level.ADVANCED] | None = None

    @property
    def needs(self) -> tuple[str, ...]:
        """The concepts that have to come first, without exception."""
        return tuple(one.id for one in self.requires if one.hard)

    @property
    def implies(self) -> tuple[str, ...]:
        """What nobody can have learned it without: hard edges but for those with alternatives."""
        return tuple(one.id for one in self.requires if one.hard and one.one_of is None)

    def hours_for(self, mastery: Mastery) -> float:
        """Hours of a learner of ordinary speed, practice included."""
        return self.hours[mastery - 1]


@dataclass(frozen=True, slots=True)
class Cluster:
    """A theme inside a domain; modules are made of it."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    id: Slug
    name: Text
    summary: Text


@dataclass(frozen=True, slots=True)
class Targets:
    """What a goal comes down to: ``core`` at any price, ``supporting`` when there is time.

    ``extensions`` are offered when there is time left over.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    core: Annotated[tuple[Slug, ...], Field(min_length=1)]
    supporting: tuple[Slug, ...] = ()
    extensions: tuple[Slug, ...] = ()

    @property
    def every(self) -> tuple[str, ...]:
        return (*self.core, *self.supporting, *self.extensions)


@dataclass(frozen=True, slots=True)
class Goal:
    """Something people ask for, in their words, and the concepts it comes down to.

    ``fluent`` are the core targets that need more than ordinary mastery; ``prefer`` are what it
    chooses among alternatives; ``context`` are words that may be added without asking for more.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    id: Slug
    kind: Literal["role", "skill", "exam", "project"]
    name: Text
    blurb: Text
    aliases: Annotated[tuple[Text, ...], Field(min_length=1)]
    targets: Targets
    context: tuple[str, ...] = ()
    prefer: tuple[Slug, ...] = ()
    fluent: tuple[Slug, ...] = ()


@dataclass(frozen=True, slots=True)
class Project:
    """A milestone: may close a stage once everything it requires has been studied or is known."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    id: Slug
    title: Text
    deliverable: Text
    acceptance: Annotated[tuple[Text, ...], Field(min_length=2)]
    requires: Annotated[tuple[Slug, ...], Field(min_length=1)]
    hours: Annotated[float, Field(ge=1, le=24, multiple_of=0.5)]


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Names of something that is not taught here, and the goals that come nearest to it."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    names: Annotated[tuple[Text, ...], Field(min_length=1)]
    near: Annotated[tuple[Slug, ...], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class Group:
    """Names of a theme, and the clusters, alternatives or concepts that it stands for.

    Who excludes a theme excludes all of it; who knows it knows what everybody does who says so,
    ``knows``, and seldom all of it.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    names: Annotated[tuple[Text, ...], Field(min_length=1)]
    means: Annotated[tuple[Slug, ...], Field(min_length=1)]
    knows: tuple[Slug, ...] = ()


@dataclass(frozen=True)
class Words:
    """How requests are read, in all languages at once; see words.yaml for what each list means."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    simplified: dict[str, str]
    same: dict[str, str]
    stop: frozenset[str]
    learning: frozenset[str]
    joining: frozenset[str]
    generic: frozenset[str]
    everyday: frozenset[str]
    together: frozenset[str]
    without: frozenset[str]
    wanting: frozenset[str]
    besides: frozenset[str]
    also: frozenset[str]
    alternatively: frozenset[str]
    background: frozenset[str]
    purpose: frozenset[str]
    purpose_first: frozenset[str]
    for_whom: frozenset[str]
    audience: frozenset[str]
    said_with: dict[Slug, tuple[str, ...]]
    groups: tuple[Group, ...]
    elsewhere: tuple[Elsewhere, ...]

    @cached_property
    def silent(self) -> frozenset[str]:
        """The words that name nothing."""
        return self.stop.union(
            *(self.learning, self.joining, self.purpose, self.for_whom, self.besides, self.also)
        )

    @cached_property
    def plain(self) -> frozenset[str]:
        """The words of every list."""
        return self.silent.union(
            *(self.generic, self.everyday, self.together, self.without, self.wanting),
            *(self.alternatively, self.background, self.purpose_first, self.audience),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Catalog:
    """Everything above in one language. Compared by identity, so it can key a cache.

    Texts are in ``language``; names and aliases to be recognised by are in every language.
    """

    folder: Path
    version: str
    language: str
    domains: Mapping[str, str]
    clusters: Mapping[str, Cluster]
    concepts: Mapping[str, Concept]
    alternatives: Mapping[str, Alternatives]
    goals: Mapping[str, Goal]
    projects: Mapping[str, Project]
    words: Words

    def members(self, edge: Requirement) -> tuple[str, ...]:
        """The concepts of which any one will do for the edge: itself, or its alternatives."""
        return self.alternatives[edge.one_of].members if edge.one_of else (edge.id,)

    def ancestors(self, ids: Iterable[str]) -> frozenset[str]:
        """The given concepts with everything that any of them needs, directly or not."""
        return self._beneath(ids, chosen=True)

    def implied(self, ids: Iterable[str]) -> frozenset[str]:
        """The given concepts with all that who knows them must know, whatever they chose."""
        return self._beneath(ids, chosen=False)

    def _beneath(self, ids: Iterable[str], *, chosen: bool) -> frozenset[str]:
        found: set[str] = set()
        waiting = list(ids)
        while waiting:
            one = waiting.pop()
            if one not in found:
                found.add(one)
                concept = self.concepts[one]
                waiting.extend(concept.needs if chosen else concept.implies)
        return frozenset(found)

    def choosing(self, choices: Mapping[str, str]) -> Catalog:
        """The same with each of these alternatives settled on the given member."""
        return _settled(self, frozenset(choices.items()))


@lru_cache(MOST_CHOICES)
def _settled(catalog: Catalog, choices: frozenset[tuple[str, str]]) -> Catalog:
    members = dict(choices)
    concepts = {one.id: _choose(one, members) for one in catalog.concepts.values()}
    return replace(catalog, concepts=concepts)


def _choose(concept: Concept, members: Mapping[str, str]) -> Concept:
    if not any(edge.one_of in members for edge in concept.requires):
        return concept
    edges = tuple(
        replace(edge, id=members.get(edge.one_of or "", edge.id)) for edge in concept.requires
    )
    return replace(concept, requires=edges)
