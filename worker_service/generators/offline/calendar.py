"""Hours of study on real days: weeks filled in order, study days within them, pauses between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from shared.errors import Permanent
from shared.roadmap import WEEK_TOLERANCE, Weekday

HAIR = 1e-9


@dataclass(frozen=True, slots=True)
class Slot:
    """When something is studied; weeks are counted from 1."""

    week_from: int
    week_to: int
    starts_on: date
    ends_on: date


class Calendar:
    """Gives out the hours of each week in order. A week is seven days from the start of the plan.

    What is taken may span weeks. Its end may run over a week's budget by WEEK_TOLERANCE, rather
    than leave a few minutes for the next week.
    """

    def __init__(self, start: date, per_week: float, days: Sequence[Weekday]) -> None:
        self._start = start
        self._per_week = per_week
        self._offsets = sorted((day.number - start.weekday()) % 7 for day in days)
        self._week, self._used = 1, 0.0

    def take(self, hours: float) -> Slot:
        """Raises Permanent when no calendar reaches so far."""
        self._turn()
        first, starts_on = self._week, self._day(self._used)
        self._spend(hours, WEEK_TOLERANCE)
        last_moment = max(self._used - HAIR * self._per_week * 10, 0.0)
        return Slot(first, self._week, starts_on, self._day(last_moment))

    def pause(self, hours: float) -> None:
        """Leave hours free."""
        if hours:
            self._turn()
            self._spend(hours, 1.0)

    def _turn(self) -> None:
        if self._used >= self._per_week - HAIR:
            self._week, self._used = self._week + 1, 0.0

    def _spend(self, hours: float, tolerance: float) -> None:
        while self._used + hours > self._per_week * tolerance + HAIR:
            hours -= self._per_week - self._used
            self._week, self._used = self._week + 1, 0.0
        self._used += hours

    def _day(self, used: float) -> date:
        """The study day on which the week's hour ``used`` falls; each has the same share."""
        share = self._per_week / len(self._offsets)
        position = min(int(used / share + HAIR), len(self._offsets) - 1)
        return day_after(self._start, (self._week - 1) * 7 + self._offsets[position])


def day_after(start: date, days: int) -> date:
    """Raises Permanent when no calendar reaches so far."""
    try:
        return start + timedelta(days=days)
    except OverflowError as error:
        raise Permanent(
            f"A plan that starts on {start} would end after the year 9999; "
            "choose an earlier start.",
            code="start_date_too_late",
        ) from error
