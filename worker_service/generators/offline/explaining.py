"""How a plan came about, step by step, in the words of its language."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from shared.roadmap import RoadmapRequest, Shape

from .catalog import Alternatives, Mastery
from .fitting import LEVEL_FACTOR
from .matching import Match
from .planning import Selection
from .voices import voice_of


class Explanation(Shape):
    """Sentences on each step from the goal to the plan."""

    matching: tuple[str, ...]
    closure: tuple[str, ...]
    pruning: tuple[str, ...]
    fit: tuple[str, ...]


def explain(request: RoadmapRequest, match: Match, selection: Selection) -> Explanation:
    return _Explaining(request, match, selection).explanation()


class _Explaining:
    def __init__(self, request: RoadmapRequest, match: Match, selection: Selection) -> None:
        self._request = request
        self._match = match
        self._selection = selection
        self._catalog = selection.catalog
        self._voice = voice_of(selection.catalog.language)

    def explanation(self) -> Explanation:
        return Explanation(
            matching=tuple(self._matching()),
            closure=tuple(self._closure()),
            pruning=tuple(self._pruning()),
            fit=tuple(self._fit()),
        )

    def _matching(self) -> Iterator[str]:
        names = {entry.id: entry.name for entry in self._match.entries}
        for heard in self._match.heard:
            yield self._voice.heard(heard.alias, names[heard.entry_id], heard.score)
        if self._match.ignored:
            yield self._voice.not_heard(self._match.ignored)
        if self._match.unwanted:
            yield self._voice.not_wanted(self._match.unwanted)

    def _closure(self) -> Iterator[str]:
        aim, closed = self._selection.aim, self._selection.closed
        yield self._voice.targets(len(aim.core), len(aim.supporting), len(aim.extensions))
        hours = (self._catalog.concepts[one].hours_for(Mastery.WORKING) for one in closed)
        yield self._voice.closed(len(closed), sum(hours))
        for group in self._catalog.alternatives.values():
            if self._matters(group):
                chosen = self._selection.chosen[group.id]
                others = (one for one in group.members if one != chosen)
                yield self._voice.one_of(group.name, self._name(chosen), self._names(others))

    def _matters(self, group: Alternatives) -> bool:
        return any(
            edge.one_of == group.id
            for one in self._selection.fitted.kinds
            for edge in self._catalog.concepts[one].requires
        )

    def _pruning(self) -> Iterator[str]:
        selection, level = self._selection, self._request.level
        granted = selection.closed & (selection.assumed - selection.known)
        if LEVEL_FACTOR[level] != 1 or granted:
            yield self._voice.level_is(level, LEVEL_FACTOR[level], len(granted))
        if known := selection.closed & selection.known:
            yield self._voice.known_is(len(known), self._in_order(known))
        if out := selection.closed & selection.excluded - selection.fitted.kinds.keys():
            yield self._voice.excluded_is(self._in_order(out))
        if not granted and not known and not out:
            yield self._voice.nothing_pruned()

    def _fit(self) -> Iterator[str]:
        weeks, fitted = self._selection.weeks, self._selection.fitted
        pace = self._request.hours_per_week
        if weeks is None:
            yield self._voice.open_time()
        else:
            yield self._voice.budget(weeks * pace, self._voice.schedule(weeks, pace))
        if fitted.dropped:
            yield self._voice.dropped(self._names((*fitted.dropped, *fitted.gone)))
        if fitted.lowered:
            yield self._voice.lowered(self._names(fitted.lowered))
        if fitted.added:
            yield self._voice.added(self._names(fitted.added))
        concepts = sum(fitted.hours.values())
        yield self._voice.spent(concepts, fitted.projects, fitted.reviews, fitted.buffer)

    def _name(self, one: str) -> str:
        return self._catalog.concepts[one].name

    def _names(self, ids: Iterable[str]) -> list[str]:
        return list(map(self._name, ids))

    def _in_order(self, ids: frozenset[str]) -> list[str]:
        return [one.name for one in self._catalog.concepts.values() if one.id in ids]
