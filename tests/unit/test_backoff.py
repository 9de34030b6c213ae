"""Pauses between tries: within their bounds, and never shorter for a later try."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.backoff import exponential, linear

tries = st.integers(min_value=1, max_value=10_000)
chance = st.floats(min_value=0, max_value=1)
seconds = st.floats(min_value=0.001, max_value=1000)


@given(tries, seconds, seconds, chance)
def test_an_exponential_pause_lies_between_half_its_ceiling_and_its_ceiling(
    tries: int, base: float, cap: float, chance: float
) -> None:
    ceiling = exponential(tries, base, cap, chance=1)
    pause = exponential(tries, base, cap, chance)
    assert 0 < ceiling / 2 <= pause <= ceiling <= cap


@given(tries, seconds, seconds)
def test_ceilings_never_fall_and_double_until_the_cap(tries: int, base: float, cap: float) -> None:
    now, then = exponential(tries, base, cap), exponential(tries + 1, base, cap)
    assert now <= then
    assert then == pytest.approx(min(cap, now * 2)) or tries > 30


def test_the_first_exponential_pause_is_the_base_and_a_thousand_failures_reach_the_cap() -> None:
    assert exponential(1, 2, 300) == 2
    assert [exponential(n, 2, 300) for n in (2, 3, 9, 1000)] == [4, 8, 300, 300]


@given(tries, seconds, seconds, chance)
def test_a_linear_pause_lies_between_its_step_and_its_jitter(
    tries: int, step: float, jitter: float, chance: float
) -> None:
    floor = step * tries
    assert floor <= linear(tries, step, jitter, chance) <= floor + jitter
    assert linear(tries + 1, step) > linear(tries, step)


def test_the_relay_looks_after_50_100_150_and_200_milliseconds() -> None:
    assert [linear(n, 0.05) for n in (1, 2, 3, 4)] == pytest.approx([0.05, 0.1, 0.15, 0.2])
