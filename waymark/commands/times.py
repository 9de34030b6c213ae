"""Times as people type them: a date, a time, or how long ago or ahead."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from waymark.commands.options import UNITS, seconds_of
from waymark.complaints import Complaint
from waymark.exit_codes import ExitCode

DAYS = UNITS | {"d": 86_400.0}


def past(text: str | None, option: str) -> str | None:
    """With its zone, as the API takes it: 2h is two hours ago."""
    return _moment(text, option, -1)


def ahead(text: str | None, option: str) -> str | None:
    """The same, but 2h is two hours from now."""
    return _moment(text, option, 1)


def _moment(text: str | None, option: str, direction: int) -> str | None:
    if text is None:
        return None
    if re.fullmatch(r"[0-9.]+[a-z]+", text):
        seconds = direction * seconds_of(text, option, DAYS)
        return _written(datetime.now(UTC) + timedelta(seconds=seconds))
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise Complaint(
            f"“{text}” is not a time for {option}.",
            hint="it looks like 2026-11-23, 2026-11-23T10:00:00Z (without a zone it is UTC), "
            "or 30m, 2h, 3d from now.",
            code=ExitCode.USAGE,
        ) from None
    return _written(time if time.tzinfo else time.replace(tzinfo=UTC))


def _written(time: datetime) -> str:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")
