"""Rules of a submission that depend on the clock. They hold for new tasks: what was accepted once
stays accepted, so whoever judges by them asks first what the idempotency key stands for."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

from api_service.problems import Problem, from_validation
from api_service.schemas import TaskSubmission

FARTHEST_START = timedelta(days=5 * 365)
"""A plan that starts in 9999 would end where no calendar reaches."""

SHORTEST_PLAN = timedelta(days=6)
"""From its first day to its last."""

LONGEST_WAIT = timedelta(days=365)
"""Until a task may begin. Longer plans are their owner's to keep."""

SOMEWHERE_EARLIER = timedelta(hours=12)
"""Somewhere on Earth it is still the day that it was in UTC so long ago."""

Fault = tuple[tuple[str, ...], str]
"""Where, and what."""


def untimely(body: TaskSubmission) -> Problem | None:
    """Why it cannot be accepted now; None if it can."""
    faults = list(_faults(body, datetime.now(UTC)))
    if not faults:
        return None
    return from_validation(
        [{"type": "value_error", "loc": loc, "ctx": {"error": what}} for loc, what in faults]
    )


def first_day(now: datetime) -> date:
    """On which a plan may begin."""
    return (now - SOMEWHERE_EARLIER).date()


def _faults(body: TaskSubmission, now: datetime) -> Iterator[Fault]:
    start, until, not_before = body.input.start_date, body.input.until, body.not_before
    if start is not None and (what := _out_of_reach(start, now)):
        yield ("input", "start_date"), what
    if until is not None:
        if what := _out_of_reach(until, now):
            yield ("input", "until"), what
        elif until < (now + SHORTEST_PLAN).date():
            yield ("input", "until"), "is less than a week ahead; send a later date"
    if not_before is None:
        return
    if not_before > now + LONGEST_WAIT:
        yield ("not_before",), "lies too far ahead; send a time within the next year"
    elif body.deadline_seconds and not_before >= now + timedelta(seconds=body.deadline_seconds):
        yield ("deadline_seconds",), "ends before not_before: make it longer, or drop one"


def _out_of_reach(day: date, now: datetime) -> str | None:
    if day < first_day(now):
        return "lies in the past; send today's date or a later one"
    if day > (now + FARTHEST_START).date():
        return "lies too far ahead; send a date within the next five years"
    return None
