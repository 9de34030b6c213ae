"""What belongs in the plan: targets, what they need, minus what is known, fitted to the time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Literal

from shared.errors import Permanent
from shared.roadmap import DroppedConcept, Level, RoadmapRequest

from .amounts import schedule
from .catalog import Catalog, Concept, Goal
from .matching import Match, match_topic

LEVEL_FACTOR = {Level.BEGINNER: 1.25, Level.INTERMEDIATE: 1.0, Level.ADVANCED: 0.8}
"""Who knows the neighbourhood learns faster: hours of a concept × this factor."""

CHEAP = 2.0
"""Hours up to which a soft prerequisite comes along wherever it helps."""

VALUE = {"supporting": 3.0, "optional": 1.0}
"""Worth of what may be dropped; divided by hours it decides what goes first."""

Kind = Literal["core", "supporting", "optional"]


@dataclass(frozen=True, slots=True)
class Aim:
    """What the request comes down to. ``named`` concepts are wanted whatever the level assumes."""

    title: str
    core: frozenset[str]
    supporting: frozenset[str]
    named: frozenset[str]


@dataclass(frozen=True, slots=True)
class Borders:
    """Concepts that stay out: the learner has them (``known``) or does not want them (``out``)."""

    known: frozenset[str]
    out: frozenset[str]

    def __contains__(self, one: str) -> bool:
        return one in self.known or one in self.out


@dataclass(frozen=True, slots=True)
class Selection:
    """The chosen concepts with their kinds and hours, and what the learner should be told."""

    aim: Aim
    kinds: Mapping[str, Kind]
    hours: Mapping[str, float]
    known: frozenset[str]
    dropped: tuple[DroppedConcept, ...]
    warnings: tuple[str, ...]


def aim_at(match: Match) -> Aim:
    """Join the targets of all matched goals; core in one is core."""
    goals = [one for one in match.entries if isinstance(one, Goal)]
    named = frozenset(one.id for one in match.entries if isinstance(one, Concept))
    core = named.union(*(goal.targets.core for goal in goals))
    supporting = frozenset[str]().union(*(goal.targets.supporting for goal in goals))
    title = _join([one.name for one in match.entries])
    return Aim(title, core, supporting - core, named)


def select(catalog: Catalog, request: RoadmapRequest, match: Match) -> Selection:
    """Close over prerequisites, prune, and drop what the time does not allow.

    Raises Permanent(nothing_left_to_learn) when pruning leaves nothing.
    """
    aim = aim_at(match)
    warnings: list[str] = []
    known = catalog.ancestors(_topics(catalog, request.known_topics, "known_topics", warnings))
    assumed = _assumed(catalog, request.level) - aim.named
    has = known | assumed
    unwanted = (*request.exclude, *match.unwanted)
    out, left_out = _leave_out(catalog, aim, has, unwanted, warnings)
    borders = Borders(has, out)
    kinds = _close(catalog, aim, borders)
    if not kinds:
        raise Permanent(_nothing_left(request, known, aim), code="nothing_left_to_learn")
    hours = {one.id: scaled_hours(one.hours, request.level) for one in catalog.concepts.values()}
    kinds, dropped = _fit(catalog, aim, borders, kinds, hours, request)
    if match.ignored:
        words = ", ".join(f"“{word}”" for word in match.ignored)
        warnings.append(f"This plan is made for {aim.title}; it does not cover {words}.")
    if request.level is not Level.BEGINNER:
        warnings.extend(_assumption(catalog, aim, assumed - known, kinds, request.level))
    return Selection(aim, kinds, hours, has, (*left_out, *dropped), tuple(warnings))


def scaled_hours(hours: float, level: Level) -> float:
    """Hours for this level, rounded to half an hour (halves up), at least half an hour."""
    return max(0.5, math.floor(hours * LEVEL_FACTOR[level] * 2 + 0.5) / 2)


def _topics(
    catalog: Catalog, topics: Iterable[str], field: str, warnings: list[str]
) -> frozenset[str]:
    found: set[str] = set()
    for topic in filter(None, topics):
        concepts = match_topic(catalog, topic)
        if concepts is None:
            warnings.append(f"“{topic}” in {field} names nothing in the catalog; it was ignored.")
        found.update(concepts or ())
    return frozenset(found)


def _assumed(catalog: Catalog, level: Level) -> frozenset[str]:
    reached = {
        Level.BEGINNER: (),
        Level.INTERMEDIATE: (Level.INTERMEDIATE,),
        Level.ADVANCED: (Level.INTERMEDIATE, Level.ADVANCED),
    }[level]
    return frozenset(one.id for one in catalog.concepts.values() if one.assumed_from in reached)


def _leave_out(
    catalog: Catalog,
    aim: Aim,
    known: frozenset[str],
    topics: tuple[str, ...],
    warnings: list[str],
) -> tuple[frozenset[str], tuple[DroppedConcept, ...]]:
    """Excluded concepts with all that needs them, except what a core target cannot do without."""
    excluded = _topics(catalog, topics, "exclude", warnings) - known
    needed = _hard(catalog, (aim.core - known) - excluded, Borders(known, frozenset()))
    warnings.extend(
        f"{catalog.concepts[one].name} stays in the plan although it was excluded: "
        f"{_needing(catalog, one, needed)} needs it."
        for one in sorted(excluded & needed)
    )
    out = set(excluded - needed)
    dropped = []
    for concept in _needs_first(catalog):
        blocked = [need for need in concept.needs if need in out]
        if blocked and concept.id not in known and concept.id not in out:
            out.add(concept.id)
            if concept.id in aim.core | aim.supporting:
                reason = f"It needs {catalog.concepts[blocked[0]].name}, which was excluded."
                dropped.append(
                    DroppedConcept(concept_id=concept.id, name=concept.name, reason=reason)
                )
    return frozenset(out), tuple(dropped)


def _needing(catalog: Catalog, one: str, among: Iterable[str]) -> str:
    return next(
        catalog.concepts[other].name
        for other in sorted(among)
        if one in catalog.concepts[other].needs
    )


def _needs_first(catalog: Catalog) -> Iterator[Concept]:
    edges = {one.id: one.needs for one in catalog.concepts.values()}
    return map(catalog.concepts.__getitem__, TopologicalSorter(edges).static_order())


def _close(catalog: Catalog, aim: Aim, borders: Borders) -> dict[str, Kind]:
    """All targets with their prerequisites, in the order of the catalog, each with its kind.

    A soft prerequisite comes along if a core target asks for it or if it is cheap. The rule looks
    at the catalog only, never at what is known, so knowing more can only make the plan shorter.
    """
    core = _hard(catalog, aim.core, borders)
    supporting = _hard(catalog, aim.supporting, borders)
    every = set(core | supporting)
    waiting = sorted(every)
    while waiting:
        one = waiting.pop()
        for edge in catalog.concepts[one].requires:
            if edge.id in every or edge.id in borders:
                continue
            if edge.hard or _worthwhile(catalog, aim, one, edge.id, borders):
                every.add(edge.id)
                waiting.append(edge.id)
    return {
        one: "core" if one in core else "supporting" if one in supporting else "optional"
        for one in catalog.concepts
        if one in every
    }


def _worthwhile(catalog: Catalog, aim: Aim, one: str, soft: str, borders: Borders) -> bool:
    """Whether a soft prerequisite helps enough, and nothing that it needs was left out."""
    helpful = one in aim.core or catalog.concepts[soft].hours <= CHEAP
    return helpful and borders.out.isdisjoint(catalog.ancestors(frozenset({soft})))


def _hard(catalog: Catalog, targets: Iterable[str], borders: Borders) -> frozenset[str]:
    found: set[str] = set()
    waiting = list(targets)
    while waiting:
        one = waiting.pop()
        if one not in found and one not in borders:
            found.add(one)
            waiting.extend(catalog.concepts[one].needs)
    return frozenset(found)


def _fit(
    catalog: Catalog,
    aim: Aim,
    borders: Borders,
    kinds: dict[str, Kind],
    hours: Mapping[str, float],
    request: RoadmapRequest,
) -> tuple[dict[str, Kind], list[DroppedConcept]]:
    """Drop what is not core, the least value per hour first, until the hours fit the weeks.

    What was dropped early goes back in when there is room again after a larger drop.
    """
    if request.weeks is None:
        return kinds, []
    budget = request.hours_per_week * request.weeks + 1e-9
    dropped: list[str] = []

    def without(ids: Iterable[str]) -> dict[str, Kind]:
        return _close(catalog, aim, Borders(borders.known, borders.out | frozenset(ids)))

    kept = kinds
    while sum(hours[one] for one in kept) > budget:
        leaf = _least_valuable(catalog, kept, hours)
        if leaf is None:
            break
        dropped.append(leaf)
        kept = without(dropped)
    for one in reversed(dropped.copy()):
        fewer = [other for other in dropped if other not in catalog.ancestors(frozenset({one}))]
        fuller = without(fewer)
        if sum(hours[other] for other in fuller) <= budget:
            dropped, kept = fewer, fuller
    time = schedule(request.weeks, request.hours_per_week)
    gone = [one for one in kinds if one not in kept]
    return kept, [_dropped(catalog.concepts[one], one in dropped, time) for one in gone]


def _least_valuable(
    catalog: Catalog, kinds: Mapping[str, Kind], hours: Mapping[str, float]
) -> str | None:
    """The concept to drop next: not core, and nothing that stays needs it."""
    needed = {need for one in kinds for need in catalog.concepts[one].needs}
    leaves = [one for one, kind in kinds.items() if kind != "core" and one not in needed]
    return min(leaves, key=lambda one: (VALUE[kinds[one]] / hours[one], one), default=None)


def _dropped(concept: Concept, itself: bool, time: str) -> DroppedConcept:
    reason = (
        f"To fit {time}; not needed to reach the goal."
        if itself
        else "Only needed for something that was left out to fit the time."
    )
    return DroppedConcept(concept_id=concept.id, name=concept.name, reason=reason)


def _assumption(
    catalog: Catalog,
    aim: Aim,
    assumed: frozenset[str],
    kinds: Mapping[str, Kind],
    level: Level,
) -> list[str]:
    """Say what the level takes to be known, as far as this plan builds on it."""
    wanted = aim.core | aim.supporting | kinds.keys()
    used = {need for one in wanted for need in (one, *catalog.concepts[one].needs)} & assumed
    if not used:
        return []
    names = ", ".join(one.name for one in catalog.concepts.values() if one.id in used)
    return [f"Assumed to be known at level {level}: {names}. Choose a lower level to include it."]


def _nothing_left(request: RoadmapRequest, known: frozenset[str], aim: Aim) -> str:
    cause = (
        "what you know already" if aim.core <= known else "your level, known topics and exclusions"
    )
    advice = (
        "choose a lower level, shorten known_topics or exclude, or ask for a further goal"
        if request.level is not Level.BEGINNER
        else "shorten known_topics or exclude, or ask for a further goal"
    )
    return f"Nothing is left to learn for {aim.title} after {cause}: {advice}."


def _join(names: list[str]) -> str:
    return " + ".join(names)
