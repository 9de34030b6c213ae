"""What is wrong with an outline, in sentences that a model can mend it by."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from typing import Literal

from shared.roadmap import Level, RoadmapRequest
from worker_service.generators.offline.catalog import Catalog
from worker_service.generators.offline.matching import match_topic

from .outline import REPEATED, Outline, PlannedConcept
from .shapes import Design, Understanding

MOST_CONCEPTS = 120
MOST_STAGES = 6
FEWEST_HOURS, MOST_HOURS = 0.5, 40.0
"""Of one concept: below it is no subject, above it is several."""

OVER_TIME = 1.25
"""Hours may exceed the learner's time by so much before the model is asked to shorten the plan."""

STEEPEST = 2
GROUND = {Level.BEGINNER: 1, Level.INTERMEDIATE: 2, Level.ADVANCED: 3}
"""The difficulty that each level stands on before the plan begins."""

MOST_CIRCLES = 10

WORD = re.compile(r"[\w+#]+")

Severity = Literal["critical", "mend", "note"]
"""No plan while it stands; worth asking the model once; worth a word if it is asked anyway."""


@dataclass(frozen=True, slots=True)
class Finding:
    """``sentence`` is for the model; it names parts by their ids."""

    code: str
    sentence: str
    severity: Severity = "critical"

    @property
    def critical(self) -> bool:
        return self.severity == "critical"


def oversized(design: Design) -> Sequence[str]:
    """What the model had better mend by answering again: no edit makes 300 concepts a plan."""
    concepts = sum(len(module.concepts) for stage in design.stages for module in stage.modules)
    return [one.sentence for one in _size(concepts, len(design.stages))]


def findings(
    outline: Outline,
    request: RoadmapRequest,
    understanding: Understanding,
    shelf: Catalog | None = None,
) -> tuple[Finding, ...]:
    """In an order that is the same in every process. Without a critical one it is a plan."""
    concepts = tuple(outline.concepts())
    return (
        *_size(len(concepts), len(outline.stages)),
        *_repeated(concepts),
        *_needs(concepts),
        *_hours(concepts),
        *_too_long(concepts, request),
        *_steep(concepts, request.level),
        *_without_outcome(concepts),
        *(
            Finding("excluded", _excluded(topic, one), "mend")
            for topic, one in excluded(outline, request, shelf)
        ),
        *_uncovered(outline, understanding),
    )


def excluded(
    outline: Outline, request: RoadmapRequest, shelf: Catalog | None
) -> Iterator[tuple[str, PlannedConcept]]:
    """Each topic that is to be left out, with each concept that is there all the same."""
    for topic in request.exclude:
        known = (shelf and match_topic(shelf, topic)) or frozenset()
        for one in outline.concepts():
            if one.id in known or _says(one.name, topic):
                yield topic, one


def _size(concepts: int, stages: int) -> Iterator[Finding]:
    if not concepts:
        yield Finding("empty", "The plan has no concepts left: add what the goal needs.")
    if concepts > MOST_CONCEPTS:
        sentence = f"The plan has {concepts} concepts: keep the {MOST_CONCEPTS} that matter most."
        yield Finding("too_many_concepts", sentence)
    if stages > MOST_STAGES:
        sentence = f"The plan has {stages} stages: spread it over at most {MOST_STAGES}."
        yield Finding("too_many_stages", sentence)


def _repeated(concepts: Sequence[PlannedConcept]) -> Iterator[Finding]:
    for one in concepts:
        first, tail, _ = one.id.partition(REPEATED)
        if tail:
            sentence = f"{_named(one)} is the same as {first}: remove it, or give it another name."
            yield Finding("repeated", sentence)


def _needs(concepts: Sequence[PlannedConcept]) -> Iterator[Finding]:
    by_id = {one.id: one for one in concepts}
    needs = {one.id: [need for need in one.needs if need in by_id] for one in concepts}
    round_trips = circles(needs)
    circular = {edge for circle in round_trips for edge in pairwise(circle)}
    for circle in round_trips:
        path = " → ".join(circle)
        yield Finding(
            "circle", f"These need each other in a circle: {path}. Drop one of the needs."
        )
    seen: set[str] = set()
    for one in concepts:
        seen.add(one.id)
        for need in one.needs:
            if need not in by_id:
                sentence = f"{_named(one)} needs {need}, which is not in the plan: add or drop it."
                yield Finding("unknown_need", sentence)
            elif need not in seen and (need, one.id) not in circular:
                sentence = f"{_named(one)} needs {_named(by_id[need])}, which comes later."
                yield Finding("need_comes_later", f"{sentence} Move one of them, or drop the need.")


def circles(needs: Mapping[str, Collection[str]]) -> list[tuple[str, ...]]:
    """Circles without an edge in common, each from one id to the same again, some at most."""
    left = {one: list(those) for one, those in needs.items()}
    found: list[tuple[str, ...]] = []
    while len(found) < MOST_CIRCLES:
        try:
            TopologicalSorter(left).prepare()
        except CycleError as error:
            found.append(tuple(error.args[1]))
            for need, one in pairwise(found[-1]):
                left[one].remove(need)
        else:
            break
    return found


def _hours(concepts: Sequence[PlannedConcept]) -> Iterator[Finding]:
    for one in concepts:
        if not FEWEST_HOURS <= one.hours <= MOST_HOURS:
            span = f"{FEWEST_HOURS:g} to {MOST_HOURS:g} hours"
            sentence = f"{_named(one)} takes {one.hours:g} hours: let it take {span}."
            yield Finding("hours", sentence)


def _too_long(concepts: Sequence[PlannedConcept], request: RoadmapRequest) -> Iterator[Finding]:
    if request.weeks is None:
        return
    hours = sum(one.hours for one in concepts)
    budget = request.hours_per_week * request.weeks
    if hours > budget * OVER_TIME:
        sentence = f"The plan takes {hours:g} hours, the learner has {budget:g}"
        yield Finding("too_long", f"{sentence}: remove what the goal can do without.", "mend")


def _steep(concepts: Sequence[PlannedConcept], level: Level) -> Iterator[Finding]:
    height = GROUND[level]
    for one in concepts:
        if one.difficulty > height + STEEPEST:
            sentence = f"{_named(one)} has difficulty {one.difficulty}, {height} is the most before"
            yield Finding("steep", f"{sentence} it: add a step between, or move it.", "mend")
        height = max(height, one.difficulty)


def _without_outcome(concepts: Sequence[PlannedConcept]) -> Iterator[Finding]:
    for one in concepts:
        if not any(outcome.strip() for outcome in one.outcomes):
            sentence = f"{_named(one)} has no outcome: remove it, or add it again with one."
            yield Finding("no_outcome", sentence)


def _excluded(topic: str, one: PlannedConcept) -> str:
    return (
        f"The learner wants no “{topic}”: remove {_named(one)}, unless the goal cannot do without."
    )


def _uncovered(outline: Outline, understanding: Understanding) -> Iterator[Finding]:
    parts = [
        part for one in outline.concepts() for part in (one.name, one.description, *one.outcomes)
    ]
    text = _spaced("\n".join(parts))
    for topic in understanding.topics:
        if _spaced(topic) not in text:
            yield Finding("uncovered", f"The plan does not mention “{topic}”.", "note")


def _says(text: str, topic: str) -> bool:
    """Whether the words of the topic follow one another in the text: JavaScript is not Java."""
    return _spaced(topic) in _spaced(text)


def _spaced(text: str) -> str:
    return f" {' '.join(WORD.findall(text.casefold()))} "


def _named(one: PlannedConcept) -> str:
    return f"“{one.name}” ({one.id})"
