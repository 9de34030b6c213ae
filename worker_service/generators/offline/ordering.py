"""In which order to study: nothing before what it needs, themes together, difficulty rising."""

from __future__ import annotations

from collections.abc import Mapping

from .catalog import Catalog, Concept

RISE = 0.5
LEAP = 3.0
OTHER_CLUSTER = 1.5
OTHER_DOMAIN = 2.0
MISSING_SOFT = 3.0
URGENCY = 6.0
"""Weights in steps of difficulty: a step above the hardest so far, each further one of the same
rise, a change of theme, a soft prerequisite that is still to come, being on the longest path."""


def arrange(catalog: Catalog, hours: Mapping[str, float]) -> list[Concept]:
    """Order the concepts whose ids are the keys of ``hours``.

    Of all concepts whose hard prerequisites are placed, the next is the one that costs least:
    difficulty + rise above the hardest so far + change of theme + missing soft prerequisites
    − URGENCY × (hours of the longest path that begins here ÷ hours of the longest path at all);
    ids settle ties.
    """
    ahead = _hours_ahead(catalog, hours)
    longest = max(ahead.values())
    waiting = {one: catalog.concepts[one] for one in sorted(hours)}
    placed: list[Concept] = []
    height = 1
    while waiting:
        here = placed[-1] if placed else None
        ready = [one for one in waiting.values() if not any(need in waiting for need in one.needs)]
        best = min(
            ready,
            key=lambda one: (
                _cost(one, here, height, waiting) - URGENCY * ahead[one.id] / longest,
                one.id,
            ),
        )
        placed.append(waiting.pop(best.id))
        height = max(height, best.difficulty)
    return placed


def _cost(one: Concept, here: Concept | None, height: int, waiting: Mapping[str, Concept]) -> float:
    rise = max(0, one.difficulty - height)
    cost = one.difficulty + RISE * min(rise, 1) + LEAP * max(0, rise - 1)
    if here is not None:
        cost += OTHER_CLUSTER * (one.cluster != here.cluster)
        cost += OTHER_DOMAIN * (one.domain != here.domain)
    return cost + MISSING_SOFT * any(edge.id in waiting for edge in one.requires)


def _hours_ahead(catalog: Catalog, hours: Mapping[str, float]) -> dict[str, float]:
    """Per concept, the hours of the longest chain of hard edges that begins with it."""
    followers: dict[str, list[str]] = {one: [] for one in hours}
    for one in hours:
        for need in catalog.concepts[one].needs:
            if need in followers:
                followers[need].append(one)
    ahead: dict[str, float] = {}

    def measure(one: str) -> float:
        if one not in ahead:
            ahead[one] = hours[one] + max(map(measure, followers[one]), default=0.0)
        return ahead[one]

    for one in hours:
        measure(one)
    return ahead
