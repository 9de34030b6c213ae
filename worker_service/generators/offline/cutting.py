"""Where a list of concepts is cut into stages and modules, by dynamic programming."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from .catalog import Concept

STAGE_HOURS = (80, 150, 240)
"""Upper limits of hours for three, four and five stages; beyond, there are six."""

FEWEST_STAGES = 3
CONCEPTS_PER_STAGE = 2
"""At least; a plan of five concepts has two stages."""

SPLIT_CLUSTER = 0.35
SPLIT_DOMAIN = 0.05
"""Price of a stage border inside a cluster, or inside a domain, against balanced hours."""

MODULE_SIZE = 8
GOOD_SIZE = 5
FOREIGN = 1.0
FOREIGN_DOMAIN = 0.8
LONE = 0.9
SIZE = 0.05
"""Prices of a module: a change of cluster inside it, of domain as well, a lone concept, and the
square of what it is off the good size."""

Hours = Mapping[str, float]


def stages(order: Sequence[Concept], hours: Hours) -> list[Sequence[Concept]]:
    """Contiguous stages: squared imbalance of hours plus the price of each border, minimised."""
    total = sum(hours[one.id] for one in order)
    wanted = FEWEST_STAGES + sum(total > limit for limit in STAGE_HOURS)
    count = max(1, min(wanted, len(order) // CONCEPTS_PER_STAGE))
    until = [0.0]
    for one in order:
        until.append(until[-1] + hours[one.id])
    even = total / count

    def cost(start: int, end: int) -> float:
        imbalance = (until[end] - until[start]) / even - 1
        border = _border(order[end - 1], order[end]) if end < len(order) else 0.0
        return imbalance**2 + border

    return _cut(order, cost, shortest=CONCEPTS_PER_STAGE, longest=len(order), count=count)


def modules(stage: Sequence[Concept]) -> list[Sequence[Concept]]:
    """Contiguous modules of one theme each as far as possible, neither lone nor long."""

    def cost(start: int, end: int) -> float:
        changes = sum(
            FOREIGN * (one.cluster != other.cluster) + FOREIGN_DOMAIN * (one.domain != other.domain)
            for one, other in pairwise(stage[start:end])
        )
        size = end - start
        return changes + LONE * (size == 1) + SIZE * (size - GOOD_SIZE) ** 2

    return _cut(stage, cost, shortest=1, longest=MODULE_SIZE)


def _border(before: Concept, after: Concept) -> float:
    if before.cluster == after.cluster:
        return SPLIT_CLUSTER
    return SPLIT_DOMAIN if before.domain == after.domain else 0.0


def _cut(
    order: Sequence[Concept],
    cost: Callable[[int, int], float],
    *,
    shortest: int,
    longest: int,
    count: int | None = None,
) -> list[Sequence[Concept]]:
    """The cheapest contiguous pieces, ``count`` of them if given; the cost is of [start, end).

    ``best[end]`` is the cheapest cut of the first ``end``, with the start of its last piece; with
    a count there is one such row per number of pieces.
    """
    size = len(order)
    rows: list[list[tuple[float, int]]] = [[(0.0, 0)] + [(math.inf, 0)] * size]
    for _ in range(count or 1):
        before, row = rows[-1], [(math.inf, 0)] * (size + 1)
        if count is None:
            before = row
            row[0] = (0.0, 0)
        for end in range(1, size + 1):
            row[end] = min(
                (
                    (before[start][0] + cost(start, end), start)
                    for start in range(max(0, end - longest), end - shortest + 1)
                ),
                default=(math.inf, 0),
            )
        rows.append(row)
    return _pieces(order, rows, count)


def _pieces(
    order: Sequence[Concept], rows: list[list[tuple[float, int]]], count: int | None
) -> list[Sequence[Concept]]:
    pieces: list[Sequence[Concept]] = []
    end, row = len(order), len(rows) - 1
    while end > 0:
        start = rows[row][end][1]
        pieces.append(order[start:end])
        end, row = start, row - 1 if count else row
    return pieces[::-1]
