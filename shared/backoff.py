"""How long to wait before the next try. Pure: chance comes in as a number from 0 to 1."""

from __future__ import annotations


def linear(tries: int, step: float, jitter: float = 0, chance: float = 0) -> float:
    """Seconds after the ``tries``-th look (1, 2, …): ``step × tries`` plus up to ``jitter``."""
    return step * tries + jitter * chance


def exponential(tries: int, base: float, cap: float, chance: float = 1) -> float:
    """Seconds after the ``tries``-th failure: ``base × 2^(tries-1)``, at most ``cap``.

    "Equal jitter" (M. Brooker, AWS Architecture Blog, 2015): half is fixed, half is chance, so
    that clients which failed together do not come back together.
    """
    ceiling = min(cap, base * 2.0 ** min(tries - 1, 30))
    return ceiling / 2 + ceiling / 2 * chance
