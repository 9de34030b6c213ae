"""Times as people type them: a date, a time, or how long ago or ahead."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from waymark.commands.options import UNITS, seconds_of
from waymark.complaints import Complaint
from waymark.exit_codes import ExitCode

PAST, AHEAD = -1, 1
DAYS = UNITS | {"d": 86_400.0}


def past(text: str | None, option: str) -> str | None:
    """As the API takes it: 2h is two hours ago."""
    return _written(moment(text, option, PAST))


def ahead(text: str | None, option: str) -> str | None:
    """The same, but 2h is two hours from now."""
    return _written(moment(text, option, AHEAD))


def moment(text: str | None, option: str, direction: int) -> datetime | None:
    """In UTC. ``direction``: that of a distance such as 2h, ``PAST`` or ``AHEAD``."""
    if text is None:
        return None
    try:
        if re.fullmatch(r"[0-9.]+[a-z]+", text):
            distance = timedelta(seconds=seconds_of(text, option, DAYS))
            return datetime.now(UTC) + direction * distance
        time = datetime.fromisoformat(text)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Complaint(
            f"“{text}” is not a time for {option}.",
            hint="it looks like 2026-11-23, 2026-11-23T10:00:00Z (without a zone it is UTC), "
            "or a distance: 30m, 2h, 3d.",
            code=ExitCode.USAGE,
        ) from None


def _written(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat().replace("+00:00", "Z")
