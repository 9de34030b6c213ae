"""Two things timed in turn, and the median of their ratios."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from statistics import median

Round = Callable[[], Awaitable[int]]
"""Does its work once and says how many it did."""


@dataclass(frozen=True, slots=True)
class Comparison:
    name: str
    ours: float
    yardstick: float
    ratio: float

    def __str__(self) -> str:
        rates = f"{self.ours:,.0f}/s, yardstick {self.yardstick:,.0f}/s"
        return f"{self.name}: {rates}, × {self.ratio:.2f}"


async def compare(name: str, ours: Round, yardstick: Round, rounds: int = 5) -> Comparison:
    """Run both in turn ``rounds`` times after one round to warm up; rates are medians, too."""
    await ours()
    await yardstick()
    pairs = [(await _rate(ours), await _rate(yardstick)) for _ in range(rounds)]
    return Comparison(
        name,
        median(one for one, _ in pairs),
        median(other for _, other in pairs),
        median(one / other for one, other in pairs),
    )


async def _rate(work: Round) -> float:
    begun = time.perf_counter()
    done = await work()
    return done / (time.perf_counter() - begun)
