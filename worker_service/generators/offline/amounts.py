"""Numbers with their nouns: 1 week, 2.5 hours."""

from __future__ import annotations


def weeks(number: int) -> str:
    return "1 week" if number == 1 else f"{number} weeks"


def hours(number: float) -> str:
    return "1 hour" if number == 1 else f"{number:g} hours"


def schedule(number_of_weeks: int, hours_per_week: float) -> str:
    """How long at which pace: "8 weeks at 1 hour a week"."""
    return f"{weeks(number_of_weeks)} at {hours(hours_per_week)} a week"
