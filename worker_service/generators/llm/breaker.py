"""Lets an endpoint rest that keeps failing, and then asks it with one call whether it is back."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from shared.backoff import exponential

FAILURES = 5
"""In a row: fewer are bad luck, and a burst of calls soon brings so many."""
FIRST_REST = 1.0
LONGEST_REST = 30.0


@dataclass(frozen=True, slots=True, eq=False)
class Admission:
    """One call that may be made. Its end is reported once, with the method that fits."""


class Breaker:
    """Closed, it lets every call through; open, none; half-open, one at a time.

    ``clock`` gives seconds that never go back, ``chance`` a number from 0 to 1.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self._chance = chance
        self._failures = 0
        self._rests = 0
        self._rests_until = 0.0
        self._probe: Admission | None = None

    def resting(self) -> float:
        """Seconds until a call may be tried; 0.0 if one may be admitted now."""
        left = self._rests_until - self._clock()
        if self._probe is not None:
            return max(left, FIRST_REST)  # what the probe learns is not known sooner
        return max(left, 0.0)

    def admit(self) -> Admission:
        """For whoever was just told that nothing rests."""
        admission = Admission()
        if self._rests:
            self._probe = admission
        return admission

    def answered(self, _admission: Admission) -> None:
        """Whatever the answer says, the endpoint is there; it is no matter how old the call is."""
        self._failures = self._rests = 0
        self._rests_until = 0.0
        self._probe = None

    def failed(self, admission: Admission) -> None:
        if self._probe is admission:
            self._rest()
        elif not self._rests:  # else it began before the rest, and tells nothing new
            self._failures += 1
            if self._failures >= FAILURES:
                self._rest()

    def withdrew(self, admission: Admission) -> None:
        """The call was given up for reasons of our own: another one may ask instead."""
        if self._probe is admission:
            self._probe = None

    def _rest(self) -> None:
        self._rests += 1
        self._probe = None
        pause = exponential(self._rests, FIRST_REST, LONGEST_REST, self._chance())
        self._rests_until = self._clock() + pause
