"""The hours of a plan against the hours there are: what is dropped, lowered, added and kept free.

A plan is the hours of its concepts, a share of them for the projects that close its stages, and a
buffer that nothing is planned in. Over the budget the extras go first, then depth, then the buffer
and the projects' time; what is core stays. Under it, reviews, extensions and larger projects come.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from shared.roadmap import Level

from .catalog import Catalog, Mastery
from .closure import Aim, Closure, Kind

LEVEL_FACTOR = {Level.BEGINNER: 1.0, Level.INTERMEDIATE: 0.85, Level.ADVANCED: 0.7}
"""The catalog's hours are a beginner's; who knows the neighbourhood learns faster."""

PROJECTS = 0.15
LARGER_PROJECTS = 0.25
REVIEWS = 0.05
"""Shares of the concepts' hours."""

BUFFER = 0.1
"""Share of all planned hours that is kept free, so that a bad week does not end the plan."""

VALUE = {"supporting": 3.0, "optional": 1.0}
"""Worth of what may be dropped; divided by hours it decides what goes first."""

HAIR = 1e-9


@dataclass(frozen=True, slots=True)
class Fitted:
    """What is planned, how well each thing is learned, and how the other hours are spent.

    ``dropped`` in the order of dropping; ``gone`` was only needed for something dropped. Hours of
    projects, reviews and buffer are whole halves; ``spare`` is what the budget still has.
    """

    kinds: Mapping[str, Kind]
    mastery: Mapping[str, Mastery]
    hours: Mapping[str, float]
    dropped: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    lowered: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    projects: float = 0.0
    reviews: float = 0.0
    buffer: float = 0.0
    spare: float = 0.0

    @property
    def planned(self) -> float:
        """Hours of study: all but the buffer."""
        return sum(self.hours.values()) + self.projects + self.reviews

    @property
    def leaves_nothing_free(self) -> bool:
        """For want of time: of a plan of few hours a tenth is less than half an hour anyway."""
        return not self.buffer and self.spare < BUFFER * self.planned


def scaled_hours(hours: float, level: Level) -> float:
    """Hours for this level, rounded to half an hour (halves up), at least half an hour."""
    return max(0.5, math.floor(hours * LEVEL_FACTOR[level] * 2 + 0.5) / 2)


def fit(
    catalog: Catalog, aim: Aim, closure: Closure, level: Level, budget: float | None
) -> Fitted | None:
    """The best use of ``budget`` hours (open if None); None if there is nothing to learn."""
    kinds = closure.kinds()
    if not kinds:
        return None
    return _Fitting(catalog, aim, closure, level, math.inf if budget is None else budget).fitted()


def halves(hours: float) -> float:
    """Rounded down to half an hour."""
    return math.floor(hours * 2 + HAIR) / 2


class _Fitting:
    """One plan while it is made to fit: its kinds, and the masteries that were lowered."""

    def __init__(
        self, catalog: Catalog, aim: Aim, closure: Closure, level: Level, budget: float
    ) -> None:
        self._catalog = catalog
        self._aim = aim
        self._closure = closure
        self._level = level
        self._budget = budget
        self._all = closure.kinds()
        self._kinds = self._all
        self._dropped: list[str] = []
        self._usual: dict[str, float] = {}
        self._lowered: dict[str, Mastery] = {}
        self._added: list[str] = []

    def fitted(self) -> Fitted:
        self._drop()
        self._take_back()
        self._lower()
        if self._over:  # the buffer and then the projects' time are all that is left to give
            left = max(self._budget - self._concepts, 0)
            return self._result(halves(min(PROJECTS * self._concepts, left)), 0)
        if self._budget == math.inf:
            return self._result(halves(PROJECTS * self._concepts), 0)
        return self._with_more()

    def _with_more(self) -> Fitted:
        """Reviews, what the goal offers beyond itself, and larger projects, as far as time goes."""
        room, concepts = self._budget / (1 + BUFFER), self._concepts
        reviews = halves(min(REVIEWS * concepts, max(room - concepts * (1 + PROJECTS), 0)))
        room -= reviews
        if not self._dropped and not self._lowered:  # else it would take the place of these
            self._extend(room)
        return self._result(
            halves(min(LARGER_PROJECTS * self._concepts, room - self._concepts)), reviews
        )

    def _result(self, projects: float, reviews: float) -> Fitted:
        planned = self._concepts + projects + reviews
        buffer = halves(min(BUFFER * planned, max(self._budget - planned, 0)))
        gone = [one for one in self._all if one not in self._kinds and one not in self._dropped]
        left = self._budget - planned - buffer
        return Fitted(
            kinds=self._kinds,
            mastery={one: self._mastery(one) for one in self._kinds},
            hours={one: self._hours(one) for one in self._kinds},
            dropped=tuple(self._dropped),
            gone=tuple(gone),
            lowered=tuple(one for one in self._kinds if one in self._lowered),
            added=tuple(self._added),
            projects=projects,
            reviews=reviews,
            buffer=buffer,
            spare=left if 0 < left < math.inf else 0.0,
        )

    @property
    def _concepts(self) -> float:
        return sum(map(self._hours, self._kinds))

    @property
    def _over(self) -> bool:
        return self._concepts * (1 + PROJECTS) * (1 + BUFFER) > self._budget + HAIR

    def _hours(self, one: str) -> float:
        if one in self._lowered:
            return self._hours_for(one, self._lowered[one])
        if one not in self._usual:
            self._usual[one] = self._hours_for(one, self._aim.mastery(one))
        return self._usual[one]

    def _hours_for(self, one: str, mastery: Mastery) -> float:
        return scaled_hours(self._catalog.concepts[one].hours_for(mastery), self._level)

    def _mastery(self, one: str) -> Mastery:
        return self._lowered.get(one) or self._aim.mastery(one)

    def _drop(self) -> None:
        """Whatever is not core, the least value per hour first, until the rest fits.

        What is left of a goal whose core is known stays: a plan of nothing is none.
        """
        while self._over and (leaf := self._least_valuable()):
            kinds = self._closure.kinds(frozenset((*self._dropped, leaf)))
            if not kinds:
                return
            self._dropped.append(leaf)
            self._kinds = kinds

    def _least_valuable(self) -> str | None:
        """The concept to drop next: not core, and nothing that stays needs it."""
        needed = {need for one in self._kinds for need in self._catalog.concepts[one].needs}
        leaves = [one for one, kind in self._kinds.items() if kind != "core" and one not in needed]
        return min(leaves, key=lambda one: (self._worth(one), one), default=None)

    def _worth(self, one: str) -> float:
        return VALUE[self._kinds[one]] / self._hours(one)

    def _take_back(self) -> None:
        """What was dropped early, where there is room again after a larger drop."""
        for one in reversed(self._dropped.copy()):
            fewer = [other for other in self._dropped if other not in self._closure.beneath[one]]
            before, self._kinds = self._kinds, self._closure.kinds(frozenset(fewer))
            if self._over:
                self._kinds = before
            else:
                self._dropped = fewer

    def _lower(self) -> None:
        """Less mastery: of fluent targets, then of what is no target, the least built upon first.

        No target is left at less than working mastery: that would not be the goal.
        """
        fluent = self._aim.fluent & self._kinds.keys()
        self._lower_to(Mastery.WORKING, sorted(fluent, key=self._rank))
        means = [one for one in self._kinds if one not in self._aim.core]
        self._lower_to(Mastery.ACQUAINTED, sorted(means, key=self._rank))

    def _lower_to(self, mastery: Mastery, ids: Sequence[str]) -> None:
        for one in ids:
            if not self._over:
                return
            if self._hours_for(one, mastery) < self._hours(one):
                self._lowered[one] = mastery

    def _rank(self, one: str) -> tuple[int, float, str]:
        return self._builders[one], -self._hours(one), one

    @cached_property
    def _builders(self) -> Mapping[str, int]:
        """How many concepts of the plan build on each, directly or not."""
        counts = dict.fromkeys(self._kinds, 0)
        for one in self._kinds:
            for beneath in self._closure.beneath[one] & counts.keys():
                counts[beneath] += beneath != one
        return counts

    def _extend(self, room: float) -> None:
        """Add what the goal offers beyond itself while all concepts fit with their projects."""
        for one in self._aim.extensions:
            more = self._closure.kinds(more=(*self._added, one))
            hours = sum(map(self._hours, more)) * (1 + PROJECTS)
            if one in more.keys() - self._kinds.keys() and hours <= room:
                self._added.append(one)
                self._kinds = more


def shares(total: float, weights: Sequence[float]) -> list[float]:
    """``total`` half-hours by weight, in whole halves: the largest remainders are rounded up."""
    pieces = round(total * 2)
    exact = [pieces * weight / sum(weights) for weight in weights]
    whole = [math.floor(one + HAIR) for one in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: (whole[i] - exact[i], i))
    for i in by_remainder[: pieces - sum(whole)]:
        whole[i] += 1
    return [one / 2 for one in whole]
