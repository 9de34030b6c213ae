"""What an HTTP status of a model's server means for the task. Nothing it says is shown."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from shared.errors import Permanent, TaskError, Transient

LONGEST_WAIT = 3600.0
"""Seconds; whoever asks for more is asked again all the same."""

PASSING = frozenset({408, 409, 425})
"""Client errors by their number, which pass by themselves: timeout, conflict, too early."""


def failure_of(status: int, retry_after: str | None) -> TaskError:
    """The error for a ``status`` that is no success, with its header ``Retry-After``."""
    if status == 429:
        return Transient(
            "The model is busy. The task is tried again when it takes calls.",
            code="model_busy",
            charged=False,
            retry_after=seconds_of(retry_after),
        )
    if status >= 500 or status in PASSING:
        return Transient(
            f"The model is not available (status {status}). The task is tried again.",
            code="model_unavailable",
            retry_after=seconds_of(retry_after),
        )
    if status in (401, 403):
        return Permanent(
            f"The model refused our credentials (status {status}). "
            "Ask whoever runs this service to check its key, then submit a new task.",
            code="model_credentials_refused",
        )
    return Permanent(
        f"The model refused the request (status {status}). "
        "Ask whoever runs this service to check the model's settings, then submit a new task.",
        code="model_refused_request",
    )


def bad_output() -> Transient:
    return Transient(
        "The model's answers could not be used. The task is tried again.", code="model_bad_output"
    )


def seconds_of(retry_after: str | None) -> float | None:
    """Seconds from now of a ``Retry-After``, a number or a date; None if it is neither."""
    if retry_after is None:
        return None
    try:
        seconds = float(retry_after)
    except ValueError:
        return _seconds_until(retry_after)
    return min(seconds, LONGEST_WAIT) if seconds >= 0 and math.isfinite(seconds) else None


def _seconds_until(date: str) -> float | None:
    try:
        then = parsedate_to_datetime(date)
    except (ValueError, IndexError, OverflowError):
        return None
    if then.tzinfo is None:
        then = then.replace(tzinfo=UTC)
    return min(max((then - datetime.now(UTC)).total_seconds(), 0.0), LONGEST_WAIT)
