"""What a goal takes: its targets, what they need, and what helps enough to come along."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from graphlib import TopologicalSorter
from typing import Literal

from .catalog import MOST_CHOICES, Catalog, Concept, Goal, Mastery, Requirement
from .matching import Match

DRAG = 1.5
"""Hours that a supporting target may bring along beside itself, as a multiple of its own."""

ALLOWANCE = {"target": 2.0, "core": 1.0}
"""Hours that a soft prerequisite may take, with all it needs itself, by what it would help."""

Kind = Literal["core", "supporting", "optional"]


@dataclass(frozen=True, slots=True)
class Aim:
    """What the request comes down to. ``named`` concepts are wanted whatever the level assumes."""

    title: str
    core: frozenset[str]
    supporting: frozenset[str]
    extensions: tuple[str, ...]
    named: frozenset[str]
    fluent: frozenset[str]
    prefer: tuple[str, ...]

    def settled(self, catalog: Catalog) -> Aim:
        """Without the alternatives to what was asked for by name: "SQL with SQLite"."""
        groups = (set(group.members) for group in catalog.alternatives.values())
        replaced = {
            one for members in groups if members & self.named for one in members - self.named
        }
        return replace(
            self,
            core=self.core - replaced,
            supporting=self.supporting - replaced,
            extensions=tuple(one for one in self.extensions if one not in replaced),
            prefer=(*sorted(self.named), *self.prefer),
        )

    def within(self, catalog: Catalog) -> Aim:
        """Only with supporting targets that bring along little beside themselves.

        Nobody learns a programming language for the sake of a footnote to Git. The others are
        offered as extensions, first, for whoever has the time or knows the way already.
        """
        beneath, base = _beneath(catalog), catalog.ancestors(self.core)
        taken: set[str] = set()
        while near := {
            one
            for one in self.supporting - taken
            if _hours(catalog, beneath[one] - base - {one}) <= DRAG * _hours(catalog, {one})
        }:
            taken |= near
            base |= catalog.ancestors(near)
        far = sorted(self.supporting - taken)
        return replace(self, supporting=frozenset(taken), extensions=(*far, *self.extensions))

    def mastery(self, one: str) -> Mastery:
        return Mastery.FLUENT if one in self.fluent else Mastery.WORKING


def aim_at(match: Match) -> Aim:
    """Join the targets of all matched goals; core in one is core."""
    goals = [one for one in match.entries if isinstance(one, Goal)]
    named = frozenset(one.id for one in match.entries if isinstance(one, Concept))
    core = named.union(*(goal.targets.core for goal in goals))
    supporting = frozenset[str]().union(*(goal.targets.supporting for goal in goals)) - core
    further = dict.fromkeys(one for goal in goals for one in goal.targets.extensions)
    return Aim(
        title=" + ".join(one.name for one in match.entries),
        core=core,
        supporting=supporting,
        extensions=tuple(one for one in further if one not in core | supporting),
        named=named,
        fluent=frozenset(one for goal in goals for one in goal.fluent),
        prefer=tuple(dict.fromkeys(one for goal in goals for one in goal.prefer)),
    )


def choices(catalog: Catalog, aim: Aim, has: frozenset[str], out: frozenset[str]) -> dict[str, str]:
    """A member for each group of alternatives, so that no plan teaches two where one will do.

    First what the core takes in any case, then what the learner has, then what the goal prefers
    or supports, then the first of the group; nothing excluded while there is another.
    """
    sure = catalog.implied(aim.core) - has
    likely = catalog.implied(aim.supporting)
    settled = {}
    for group in catalog.alternatives.values():
        open_to = [one for one in group.members if one not in out] or list(group.members)
        settled[group.id] = min(
            open_to,
            key=lambda one: (
                one not in sure,
                one not in has,
                aim.prefer.index(one) if one in aim.prefer else len(aim.prefer),
                one not in likely,
            ),
        )
    return settled


class Closure:
    """The part of the catalog that a plan may take: neither what the learner has, nor what is out.

    What helps enough to come along is decided by ``usual``, the catalog with the alternatives of
    somebody who knows nothing, and never by what is known or dropped: so whoever knows more has
    less to learn. ``beneath`` is per concept itself and all it needs that the learner has not:
    what leads to something known is no way to what builds on that.
    """

    def __init__(
        self,
        catalog: Catalog,
        usual: Catalog,
        aim: Aim,
        *,
        has: frozenset[str] = frozenset(),
        out: frozenset[str] = frozenset(),
    ) -> None:
        self._catalog = catalog
        self._aim = aim
        self._has = has
        self._out = out
        self._helpers = _helpers(usual, aim)
        self.beneath = _beneath(catalog, has)

    def kinds(
        self, dropped: frozenset[str] = frozenset(), more: Iterable[str] = ()
    ) -> dict[str, Kind]:
        """What is planned, in the order of the catalog, unless ``dropped``, and ``more``."""
        core = self._needed(self._aim.core, dropped)
        supporting = self._needed(self._aim.supporting, dropped)
        both = core | supporting
        helping = (soft for one in both for soft in self._helpers.get(one, ()))
        every = both | self._needed((*helping, *more), dropped)
        return {
            one: "core" if one in core else "supporting" if one in supporting else "optional"
            for one in self._catalog.concepts
            if one in every
        }

    def _needed(self, targets: Iterable[str], dropped: frozenset[str]) -> set[str]:
        """The targets with all they need, but none that would have to do without a dropped one."""
        out = self._out | dropped
        each = (self.beneath[one] for one in targets if one not in self._has)
        return set[str]().union(*(ids for ids in each if ids.isdisjoint(out)))


@lru_cache(MOST_CHOICES)
def _beneath(catalog: Catalog, has: frozenset[str] = frozenset()) -> Mapping[str, frozenset[str]]:
    """Per concept itself and all it needs that a learner who ``has`` something has not."""
    needs = {one.id: set(one.needs) - has for one in catalog.concepts.values()}
    found: dict[str, frozenset[str]] = {}
    for one in TopologicalSorter(needs).static_order():
        found[one] = frozenset((one,)).union(*(found[need] for need in needs[one]))
    return found


def _helpers(catalog: Catalog, aim: Aim) -> Mapping[str, tuple[str, ...]]:
    """Soft prerequisites that cost little, per concept of the closure that they help."""
    beneath = _beneath(catalog)
    core = catalog.ancestors(aim.core)
    every = core | catalog.ancestors(aim.supporting)

    def helps(edge: Requirement, one: str) -> bool:
        if edge.hard or one not in core:
            return False
        allowance = ALLOWANCE["target" if one in aim.core else "core"]
        return _hours(catalog, beneath[edge.id] - every) <= allowance

    return {
        one: tuple(edge.id for edge in catalog.concepts[one].requires if helps(edge, one))
        for one in every
    }


def _hours(catalog: Catalog, ids: Iterable[str]) -> float:
    return sum(catalog.concepts[one].hours_for(Mastery.WORKING) for one in ids)
