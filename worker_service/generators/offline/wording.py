"""What a plan says about its parts: why each concept, and what stages and modules are called."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from .catalog import Catalog, Concept, Goal, Mastery, Requirement
from .matching import Match
from .planning import Selection
from .voices import voice_of

FORESIGHT = 2
"""Steps ahead at which a goal is still worth a mention; nobody learns loops for OAuth."""

MOST_NAMED = 2
"""Concepts that a reason names; a third convinces nobody whom two have not."""

DOMINANT = 0.6
"""A cluster with this share of a stage's hours names the stage alone."""

Reasons = Mapping[str, str]
Follower = tuple[Concept, Requirement]


def summary(catalog: Catalog, match: Match) -> str:
    """What the learner will be able to do; how long it takes is told by numbers of their own."""
    return voice_of(catalog.language).sentences(
        [one.blurb if isinstance(one, Goal) else one.description for one in match.entries]
    )


def why(selection: Selection, order: Sequence[Concept]) -> Reasons:
    """Per concept the way to a goal of the plan: what needs it, why, and where that leads.

    Of all that builds on it, the reason names what leads to a core target (else to a supporting
    one), by a hard edge if possible, and comes first in the order of study.
    """
    return _Why(selection, order).reasons()


class _Why:
    def __init__(self, selection: Selection, order: Sequence[Concept]) -> None:
        self._selection = selection
        self._core = selection.aim.core
        self._order = order
        self._place = {one.id: index for index, one in enumerate(order)}
        self._leads_to: dict[str, str] = {}
        self._steps: dict[str, int] = {}
        self._followers: dict[str, list[Follower]] = {one.id: [] for one in order}
        for one in order:
            for edge in one.requires:
                if edge.id in self._followers:
                    self._followers[edge.id].append((one, edge))

    def reasons(self) -> Reasons:
        return {one.id: self._reason(one) for one in reversed(_prerequisites_first(self._order))}

    def _reason(self, one: Concept) -> str:
        followers = sorted(self._followers[one.id], key=self._rank)
        if one.id in self._core or not followers:
            self._leads_to[one.id], self._steps[one.id] = one.id, 0
            return self._an_end(one)
        first, edge = followers[0]
        self._leads_to[one.id] = self._leads_to[first.id]
        self._steps[one.id] = self._steps[first.id] + 1
        near = 0 < self._steps[first.id] <= FORESIGHT
        goal = self._selection.catalog.concepts[self._leads_to[one.id]].name if near else None
        names = [other.name for other, link in followers if link.hard == edge.hard][:MOST_NAMED]
        voice = voice_of(self._selection.catalog.language)
        return voice.needed_for(names, edge.reason, goal, hard=edge.hard)

    def _rank(self, follower: Follower) -> tuple[bool, bool, int]:
        one, edge = follower
        return self._leads_to[one.id] not in self._core, not edge.hard, self._place[one.id]

    def _an_end(self, one: Concept) -> str:
        voice, title = voice_of(self._selection.catalog.language), self._selection.aim.title
        if one.id in self._core:
            return voice.goal_of(title)
        if one.id in self._selection.fitted.added:
            return voice.goes_beyond(title)
        return voice.rounds_off(title)


def _prerequisites_first(order: Sequence[Concept]) -> list[Concept]:
    """The order of study with soft prerequisites before their followers as well."""
    waiting = {one.id: one for one in order}
    found: dict[str, Concept] = {}

    def visit(one: Concept) -> None:
        if one.id not in found:
            for edge in one.requires:
                if edge.id in waiting:
                    visit(waiting[edge.id])
            found[one.id] = one

    for one in order:
        visit(one)
    return list(found.values())


def stage_names(catalog: Catalog, stages: Sequence[Sequence[Concept]]) -> list[str]:
    """Phase and themes: "Foundations: Python language". Themes by hours, at most two."""
    voice = voice_of(catalog.language)
    return [
        voice.stage_name(phase, _themes(catalog, part))
        for phase, part in zip(voice.phases(len(stages)), stages, strict=True)
    ]


def _themes(catalog: Catalog, part: Sequence[Concept]) -> str:
    """The largest cluster of a stage, or the two largest if neither dominates."""
    shares = _shares(part)
    first, *others = shares
    if not others or shares[first] >= DOMINANT:
        return catalog.clusters[first].name
    voice = voice_of(catalog.language)
    return voice.pair(catalog.clusters[first].name, catalog.clusters[others[0]].name)


def _shares(part: Sequence[Concept]) -> dict[str, float]:
    """Share of the hours per cluster, the largest first."""
    hours: defaultdict[str, float] = defaultdict(float)
    for one in part:
        hours[one.cluster] += one.hours_for(Mastery.WORKING)
    total = sum(hours.values())
    largest_first = sorted(hours, key=lambda cluster: -hours[cluster])
    return {cluster: hours[cluster] / total for cluster in largest_first}


def stage_description(catalog: Catalog, part: Sequence[Concept]) -> str:
    """What the stage is about, by its two largest themes."""
    summaries = [catalog.clusters[cluster].summary for cluster in _shares(part)]
    return voice_of(catalog.language).sentences(summaries[:2])


def stage_outcome(catalog: Catalog, part: Sequence[Concept]) -> str:
    """What the most demanding concept of the stage enables; the last one wins a tie."""
    hardest = max(enumerate(part), key=lambda one: (one[1].difficulty, one[1].hours[-1], one[0]))[1]
    return voice_of(catalog.language).able(hardest.outcomes[0])


def module_names(catalog: Catalog, modules: Sequence[Sequence[Concept]]) -> list[str]:
    """The clusters of each module; a name that occurs twice is told apart by its main concept."""
    voice = voice_of(catalog.language)
    plain = [_module_name(catalog, part) for part in modules]
    return [
        name
        if plain.count(name) == 1
        else voice.told_apart(catalog.clusters[_main(part).cluster].name, _main(part).name)
        for name, part in zip(plain, modules, strict=True)
    ]


def _main(part: Sequence[Concept]) -> Concept:
    return max(part, key=lambda one: one.hours_for(Mastery.WORKING))


def _module_name(catalog: Catalog, part: Sequence[Concept]) -> str:
    if len(part) == 1:
        return part[0].name
    first, *others = (catalog.clusters[cluster].name for cluster in _shares(part))
    return voice_of(catalog.language).pair(first, others[0]) if others else first


def module_description(catalog: Catalog, part: Sequence[Concept]) -> str:
    """The theme of a single-cluster module, or the names of what is inside."""
    clusters = {one.cluster for one in part}
    if len(clusters) == 1:
        return catalog.clusters[part[0].cluster].summary
    return voice_of(catalog.language).made_of([one.name for one in part])


def outcomes(catalog: Catalog, concept: Concept, mastery: Mastery) -> tuple[str, ...]:
    """The catalog's verb phrases as full sentences; the first will do for an acquaintance."""
    voice = voice_of(catalog.language)
    wanted = concept.outcomes[:1] if mastery == Mastery.ACQUAINTED else concept.outcomes
    return tuple(map(voice.able, wanted))
