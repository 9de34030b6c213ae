"""What belongs in the plan: targets, what they need, minus what is known, fitted to the time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from graphlib import TopologicalSorter

from shared.errors import Permanent
from shared.roadmap import DroppedConcept, Level, LoweredConcept, RoadmapRequest

from .catalog import Catalog, Concept
from .closure import Aim, Closure, aim_at, choices
from .fitting import Fitted, fit
from .matching import Match, match_topic
from .voices import Voice, voice_of


@dataclass(frozen=True, slots=True)
class Selection:
    """The chosen concepts and how their hours are spent, and what the learner should be told.

    ``catalog`` has its alternatives settled for this plan; ``closed`` is what the goal takes of a
    learner who knows and excludes nothing.
    """

    catalog: Catalog
    aim: Aim
    chosen: Mapping[str, str]
    closed: frozenset[str]
    known: frozenset[str]
    assumed: frozenset[str]
    excluded: frozenset[str]
    weeks: int | None
    fitted: Fitted
    dropped: tuple[DroppedConcept, ...]
    lowered: tuple[LoweredConcept, ...]
    warnings: tuple[str, ...]

    @property
    def has(self) -> frozenset[str]:
        return self.known | self.assumed


def select(catalog: Catalog, request: RoadmapRequest, match: Match, *, start: date) -> Selection:
    """Close over prerequisites, prune, and fit to the time.

    Raises Permanent: nothing_left_to_learn when pruning leaves nothing, until_too_soon when the
    plan would have less than a week.
    """
    return _Selecting(catalog, request, match, start).selection()


class _Selecting:
    def __init__(
        self, catalog: Catalog, request: RoadmapRequest, match: Match, start: date
    ) -> None:
        self._request = request
        self._match = match
        self._voice: Voice = voice_of(catalog.language)
        self._warnings: list[str] = []
        self._weeks = self._weeks_until(start)
        aim = aim_at(match).settled(catalog)
        known = catalog.implied(self._topics(catalog, request.known_topics, "known_topics"))
        assumed = _assumed(catalog, request.level) - aim.named
        self._known, self._assumed = known, assumed
        self._has = known | assumed
        unwanted = self._topics(catalog, (*request.exclude, *match.unwanted), "exclude")
        self._excluded = unwanted - self._has
        usual = choices(catalog, aim, frozenset(), self._excluded)
        self._usual = catalog.choosing(usual)
        self._aim = aim = aim.within(self._usual)
        self._chosen = choices(catalog, aim, self._has, self._excluded)
        self._catalog = catalog.choosing(self._chosen)

    def selection(self) -> Selection:
        out, blocked = self._leave_out()
        closure = Closure(self._catalog, self._usual, self._aim, has=self._has, out=out)
        request = self._request
        budget = None if self._weeks is None else self._weeks * request.hours_per_week
        fitted = fit(self._catalog, self._aim, closure, request.level, budget)
        if fitted is None:
            raise self._nothing_left()
        everything = Closure(self._usual, self._usual, self._aim)
        self._warn(fitted)
        return Selection(
            catalog=self._catalog,
            aim=self._aim,
            chosen=self._chosen,
            closed=frozenset(everything.kinds()),
            known=self._known,
            assumed=self._assumed,
            excluded=self._excluded,
            weeks=self._weeks,
            fitted=fitted,
            dropped=(*blocked, *self._dropped(fitted)),
            lowered=tuple(self._lowered(fitted)),
            warnings=tuple(self._warnings),
        )

    def _weeks_until(self, start: date) -> int | None:
        weeks, until = self._request.weeks_from(start), self._request.until
        if weeks == 0 and until is not None:
            raise Permanent(self._voice.too_soon(until, start), code="until_too_soon")
        return weeks

    def _topics(self, catalog: Catalog, topics: Iterable[str], field: str) -> frozenset[str]:
        found: set[str] = set()
        for topic in filter(None, topics):
            concepts = match_topic(catalog, topic, known=field == "known_topics")
            if concepts is None:
                self._warnings.append(self._voice.unknown_topic(topic, field))
            found.update(concepts or ())
        return frozenset(found)

    def _leave_out(self) -> tuple[frozenset[str], list[DroppedConcept]]:
        """Excluded concepts with all that needs them, except what a core target cannot miss."""
        catalog, aim = self._catalog, self._aim
        needed = self._hard((aim.core - self._has) - self._excluded)
        self._warnings.extend(
            self._voice.kept_in_spite(catalog.concepts[one].name, self._needing(one, needed))
            for one in sorted(self._excluded & needed)
        )
        out = set(self._excluded - needed)
        blocked = []
        for concept in _needs_first(catalog):
            missing = [need for need in concept.needs if need in out]
            if missing and concept.id not in self._has and concept.id not in out:
                out.add(concept.id)
                if concept.id in aim.core | aim.supporting:
                    name = catalog.concepts[missing[0]].name
                    blocked.append(_left(concept, self._voice.needs_excluded(name)))
        return frozenset(out), blocked

    def _hard(self, targets: Iterable[str]) -> frozenset[str]:
        """The targets with what they need and the learner has not."""
        found: set[str] = set()
        waiting = list(targets)
        while waiting:
            one = waiting.pop()
            if one not in found and one not in self._has:
                found.add(one)
                waiting.extend(self._catalog.concepts[one].needs)
        return frozenset(found)

    def _needing(self, one: str, among: Iterable[str]) -> str:
        concepts = map(self._catalog.concepts.__getitem__, sorted(among))
        return next(other.name for other in concepts if one in other.needs)

    def _dropped(self, fitted: Fitted) -> Iterator[DroppedConcept]:
        time = self._voice.schedule(self._weeks or 0, self._request.hours_per_week)
        for one in self._catalog.concepts.values():
            if one.id in fitted.dropped:
                yield _left(one, self._voice.left_out(time))
            elif one.id in fitted.gone:
                yield _left(one, self._voice.only_for_left_out())

    def _lowered(self, fitted: Fitted) -> Iterator[LoweredConcept]:
        time = self._voice.schedule(self._weeks or 0, self._request.hours_per_week)
        for one in fitted.lowered:
            yield LoweredConcept(
                concept_id=one,
                name=self._catalog.concepts[one].name,
                mastery=fitted.mastery[one],
                reason=self._voice.less_deep(time),
            )

    def _warn(self, fitted: Fitted) -> None:
        if self._match.ignored:
            self._warnings.append(self._voice.does_not_cover(self._aim.title, self._match.ignored))
        if self._weeks is not None and fitted.leaves_nothing_free:
            self._warnings.append(self._voice.no_buffer())
        used = self._used(fitted) & (self._assumed - self._known)
        if used:
            names = [one.name for one in self._catalog.concepts.values() if one.id in used]
            self._warnings.append(self._voice.assumed(self._request.level, names))

    def _used(self, fitted: Fitted) -> frozenset[str]:
        """The plan with its targets, and what these need directly."""
        wanted = self._aim.core | self._aim.supporting | fitted.kinds.keys()
        needs = (need for one in wanted for need in self._catalog.concepts[one].needs)
        return frozenset((*wanted, *needs))

    def _nothing_left(self) -> Permanent:
        detail = self._voice.nothing_left(
            self._aim.title,
            all_known=self._aim.core <= self._known,
            lower_level=self._request.level is not Level.BEGINNER,
        )
        return Permanent(detail, code="nothing_left_to_learn")


def _assumed(catalog: Catalog, level: Level) -> frozenset[str]:
    reached = {
        Level.BEGINNER: (),
        Level.INTERMEDIATE: (Level.INTERMEDIATE,),
        Level.ADVANCED: (Level.INTERMEDIATE, Level.ADVANCED),
    }[level]
    return frozenset(one.id for one in catalog.concepts.values() if one.assumed_from in reached)


def _needs_first(catalog: Catalog) -> Iterator[Concept]:
    edges = {one.id: one.needs for one in catalog.concepts.values()}
    return map(catalog.concepts.__getitem__, TopologicalSorter(edges).static_order())


def _left(concept: Concept, reason: str) -> DroppedConcept:
    return DroppedConcept(concept_id=concept.id, name=concept.name, reason=reason)
