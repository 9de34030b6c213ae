"""The breaker of an endpoint, on a clock that the test winds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker_service.generators.llm.breaker import (
    FAILURES,
    FIRST_REST,
    LONGEST_REST,
    Admission,
    Breaker,
)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_it_rests_after_failures_in_a_row_and_not_before() -> None:
    clock = Clock()
    breaker = breaker_on(clock)
    fail(breaker, FAILURES - 1)
    assert breaker.resting() == 0
    fail(breaker, 1)
    assert breaker.resting() == FIRST_REST


def test_an_answer_in_between_starts_the_count_anew() -> None:
    breaker = breaker_on(Clock())
    fail(breaker, FAILURES - 1)
    breaker.answered(breaker.admit())
    fail(breaker, FAILURES - 1)
    assert breaker.resting() == 0


def test_after_the_rest_one_call_asks_and_the_others_wait_for_its_end() -> None:
    clock = Clock()
    breaker = rested(clock)
    probe = breaker.admit()
    assert breaker.resting() > 0
    breaker.answered(probe)
    assert breaker.resting() == 0
    breaker.admit()
    assert breaker.resting() == 0


def test_a_probe_that_fails_doubles_the_rest_until_the_longest() -> None:
    clock = Clock()
    breaker = rested(clock)
    rests = []
    for _ in range(7):
        breaker.failed(breaker.admit())
        rests.append(breaker.resting())
        clock.now += breaker.resting()
    assert rests == pytest.approx([2, 4, 8, 16, LONGEST_REST, LONGEST_REST, LONGEST_REST])


def test_a_probe_that_is_given_up_lets_another_ask() -> None:
    breaker = rested(Clock())
    breaker.withdrew(breaker.admit())
    assert breaker.resting() == 0


def test_calls_that_began_before_the_rest_neither_lengthen_it_nor_count_as_the_probe() -> None:
    clock = Clock()
    breaker = breaker_on(clock)
    old = [breaker.admit() for _ in range(1000)]
    for admission in old[:-1]:
        breaker.failed(admission)
    assert breaker.resting() == FIRST_REST
    clock.now += FIRST_REST
    breaker.admit()
    breaker.failed(old[-1])
    assert breaker.resting() == FIRST_REST, "the probe still runs"


def test_after_a_recovery_the_first_rest_is_short_again() -> None:
    clock = Clock()
    breaker = rested(clock)
    breaker.failed(breaker.admit())
    clock.now += breaker.resting()
    breaker.answered(breaker.admit())
    fail(breaker, FAILURES)
    assert breaker.resting() == FIRST_REST


@given(st.lists(st.sampled_from(["admit", "answer", "fail", "withdraw", "wait"])), st.floats(0, 1))
def test_whatever_happens_a_rest_is_bounded_and_one_probe_runs_at_a_time(
    happenings: list[str], chance: float
) -> None:
    clock = Clock()
    breaker = Breaker(clock, lambda: chance)
    running: list[Admission] = []
    probes: list[Admission] = []
    rested_since_answer = False
    for happening in happenings:
        match happening:
            case "admit" if breaker.resting() == 0:
                running.append(breaker.admit())
                if rested_since_answer:
                    probes.append(running[-1])
            case "answer" if running:
                breaker.answered(running.pop())
                rested_since_answer, probes = False, []
            case "fail" if running:
                breaker.failed(ended := running.pop(0))
                probes = [probe for probe in probes if probe is not ended]
            case "withdraw" if running:
                breaker.withdrew(ended := running.pop(0))
                probes = [probe for probe in probes if probe is not ended]
            case "wait":
                clock.now += breaker.resting()
        rested_since_answer = rested_since_answer or (breaker.resting() > 0)
        assert 0 <= breaker.resting() <= LONGEST_REST
        assert len(probes) <= 1


def breaker_on(clock: Clock) -> Breaker:
    return Breaker(clock, chance=lambda: 1.0)


def fail(breaker: Breaker, times: int) -> None:
    for _ in range(times):
        breaker.failed(breaker.admit())


def rested(clock: Clock) -> Breaker:
    """One that has just had its first rest."""
    breaker = breaker_on(clock)
    fail(breaker, FAILURES)
    clock.now += FIRST_REST
    return breaker
