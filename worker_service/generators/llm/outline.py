"""The server's own form of a design: every part has an id, and needs are ids."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import count
from typing import Any, Literal

from pydantic import TypeAdapter

from shared.errors import GoalNotCovered
from shared.roadmap import Milestone
from worker_service.generators.offline.catalog import Catalog
from worker_service.generators.offline.matching import match_goal, normalise

from .shapes import Design, DesignedConcept, DesignedModule, DesignedStage

LONGEST_SLUG = 60
REPEATED = "~"
"""Begins the tail of an id that is there already; no slug has it."""

SPOKEN = {"+": "-plus-", "#": "-sharp-", "&": "-and-"}
"""C, C++ and C# are three things."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedConcept:
    """``needs`` are ids; whether the plan has them, and earlier, is for the checks to say."""

    id: str
    name: str
    description: str
    why: str
    kind: Literal["core", "supporting", "optional"]
    difficulty: int
    hours: float
    needs: tuple[str, ...]
    outcomes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedModule:
    name: str
    description: str
    concepts: tuple[PlannedConcept, ...]

    @property
    def id(self) -> str:
        """From the first concept: unique as that is, and not by position."""
        return f"m-{self.concepts[0].id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStage:
    name: str
    description: str
    outcome: str
    modules: tuple[PlannedModule, ...]
    milestone: Milestone | None = None

    @property
    def id(self) -> str:
        return f"s-{self.modules[0].concepts[0].id}"

    @property
    def concepts(self) -> tuple[PlannedConcept, ...]:
        return tuple(one for module in self.modules for one in module.concepts)


@dataclass(frozen=True, slots=True)
class Outline:
    """No module and no stage of it is empty, and no id is there twice."""

    stages: tuple[PlannedStage, ...]

    def concepts(self) -> Iterator[PlannedConcept]:
        """Every concept, in the order of study."""
        for stage in self.stages:
            yield from stage.concepts

    def modules(self) -> Iterator[PlannedModule]:
        for stage in self.stages:
            yield from stage.modules

    def as_json(self) -> Any:  # Any: JSON
        return TypeAdapter(Outline).dump_python(self, mode="json")


class Ids:
    """Ids by name, the same in every process: those of ``shelf`` where it has the name."""

    def __init__(self, shelf: Catalog | None) -> None:
        self._shelf = shelf

    def of(self, name: str) -> str:
        known = self._shelf and _known_names(self._shelf).get(normalise(self._shelf, name))
        return known or slug(name)


def shelf_for(catalog: Catalog, goal: str) -> Catalog | None:
    """The catalog if it covers the goal: what it says of "Functions" is true of Python alone."""
    try:
        match_goal(catalog, goal)
    except GoalNotCovered:
        return None
    return catalog


def outline_of(design: Design, ids: Ids) -> Outline:
    """Nothing is mended here: what repeats an id is told apart by its tail, and kept."""
    taken: set[str] = set()
    return Outline(tuple(_stage(stage, ids, taken) for stage in design.stages))


def concept_of(designed: DesignedConcept, ids: Ids, taken: Container[str]) -> PlannedConcept:
    return PlannedConcept(
        id=unused(ids.of(designed.name), taken),
        name=designed.name,
        description=designed.description,
        why=designed.why,
        kind=designed.kind,
        difficulty=designed.difficulty,
        hours=designed.hours,
        needs=tuple(dict.fromkeys(map(ids.of, designed.needs))),
        outcomes=designed.outcomes,
    )


def unused(wanted: str, taken: Container[str]) -> str:
    if wanted not in taken:
        return wanted
    tailed = (f"{wanted}{REPEATED}{number}" for number in count(2))
    return next(one for one in tailed if one not in taken)


def slug(name: str) -> str:
    """Lower case ASCII words; where that loses letters, a digest of the name stands in for them."""
    decomposed = unicodedata.normalize("NFKD", name).casefold()
    plain = "".join(char for char in decomposed if not unicodedata.combining(char))
    for symbol, word in SPOKEN.items():
        plain = plain.replace(symbol, word)
    words = "-".join(re.findall("[a-z0-9]+", plain))
    lossless = all(char.isascii() for char in plain if char.isalnum())
    if words and lossless and len(words) <= LONGEST_SLUG:
        return words
    digest = hashlib.sha256(" ".join(plain.split()).encode()).hexdigest()[:10]
    return f"{words[: LONGEST_SLUG - 11].rstrip('-') or 'c'}-{digest}"


@cache
def _known_names(catalog: Catalog) -> Mapping[str, str]:
    """Ids by name or alias; what two concepts are called is left out, for it names neither."""
    ids: defaultdict[str, set[str]] = defaultdict(set)
    for one in catalog.concepts.values():
        for name in (one.name, one.id, *one.aliases):
            ids[normalise(catalog, name)].add(one.id)
    return {name: found.pop() for name, found in ids.items() if len(found) == 1}


def _stage(stage: DesignedStage, ids: Ids, taken: set[str]) -> PlannedStage:
    milestone = stage.milestone
    return PlannedStage(
        name=stage.name,
        description=stage.description,
        outcome=stage.outcome,
        modules=tuple(_module(module, ids, taken) for module in stage.modules),
        milestone=Milestone(**milestone.model_dump()) if milestone else None,
    )


def _module(module: DesignedModule, ids: Ids, taken: set[str]) -> PlannedModule:
    concepts = []
    for designed in module.concepts:
        concepts.append(concept_of(designed, ids, taken))
        taken.add(concepts[-1].id)
    return PlannedModule(name=module.name, description=module.description, concepts=tuple(concepts))
