"""Headers that come on several lines: one list (RFC 9110, section 5.3), or none of ours."""

from __future__ import annotations

from collections.abc import Sequence

from api_service.problems import Problem

Header = tuple[bytes, bytes]

LISTS = frozenset((b"accept", b"prefer", b"if-match", b"if-none-match"))
ONCE = {b"idempotency-key": "Idempotency-Key", b"last-event-id": "Last-Event-ID"}
"""Two of them say two things."""


def joined(headers: Sequence[Header]) -> list[Header]:
    """With each list on one line, in the order of its parts. Raises Problem for what may be said
    only once."""
    found: list[Header] = []
    places: dict[bytes, int] = {}
    for name, value in headers:
        if name in places:
            if name in ONCE:
                raise _said_twice(ONCE[name])
            place = places[name]
            found[place] = (name, found[place][1] + b", " + value)
            continue
        if name in LISTS or name in ONCE:
            places[name] = len(found)
        found.append((name, value))
    return found


def _said_twice(name: str) -> Problem:
    reason = {"pointer": f"/header/{name}", "detail": "stands there more than once; send one"}
    return Problem("invalid-header", f"{name} {reason['detail']}.", errors=[reason])
