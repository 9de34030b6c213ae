"""Rounds in turn: what is measured and its yardsticks share the good moments and the bad ones."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

Contender = Callable[[], Awaitable[float]]
"""Prepares what it needs, does its work once, and says how it did: a rate, or seconds."""

ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Rounds:
    """What each contender reached in each round, after one round to warm up."""

    reached: Mapping[str, Sequence[float]]

    def median(self, name: str, last: int | None = None) -> float:
        """Of all rounds, or of the ``last`` ones."""
        return median(self.reached[name][-(last or 0) :])

    def ratio(self, name: str, yardstick: str, last: int | None = None) -> float:
        """The median of the rounds' ratios."""
        pairs = list(zip(self.reached[name], self.reached[yardstick], strict=True))
        return median(one / other for one, other in pairs[-(last or 0) :])


async def in_turns(contenders: Mapping[str, Contender], rounds: int = ROUNDS) -> Rounds:
    """Every second round goes backwards: what is always first may find a cooler machine."""
    reached: dict[str, list[float]] = {name: [] for name in contenders}
    order = list(contenders)
    for name in order:
        await contenders[name]()
    for _ in range(rounds):
        for name in order:
            reached[name].append(await contenders[name]())
        order.reverse()
    return Rounds(reached)


async def rate(work: Callable[[], Awaitable[int]]) -> float:
    """How many a second of what ``work`` says that it did."""
    begun = time.perf_counter()
    done = await work()
    return done / (time.perf_counter() - begun)


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that ``percent`` of all do not exceed."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]
