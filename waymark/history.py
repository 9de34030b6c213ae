"""The history of a task as people read it."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from waymark.amounts import progress_of, seconds
from waymark.errors import Document
from waymark.terminal import clean

LONGEST = 120
"""Characters of one value in a line that shows several."""

HANDED_OVER = {
    "worker_stopping": "its worker stops, another one goes on with it",
    "lease_lapsed": "its worker could not keep it, another one goes on with it",
    "lease_expired": "its worker vanished, another one goes on with it",
    "replayed": "an operator has it dispatched again",
}


def event_line(event: Document) -> str:
    """One event on one line: when, what, and what it says."""
    data = "  ".join(f"{name}={_shown(value)}" for name, value in event["data"].items())
    return f"{event['created_at']}  {event['seq']:>3}  {event['type']}  {data}".rstrip()


def requeued_line(event: Document) -> str:
    """Why a task waits again, and how long from then on."""
    data = event["data"]
    if handed_over := HANDED_OVER.get(data["reason"]):
        return handed_over
    if "code" not in data:  # of an API that knows more reasons than we do
        return f"it waits again: {data['reason']}"
    return f"another attempt {_due(event)}: {data['code']}: {data['detail']}"


def _due(event: Document) -> str:
    """By the server's clock alone: this machine's may be another."""
    due, said = (
        datetime.fromisoformat(moment)
        for moment in (event["data"]["available_at"], event["created_at"])
    )
    return f"in {seconds(max((due - said).total_seconds(), 0))}"


def _shown(value: Any) -> str:  # Any: whatever JSON can hold
    match value:
        case {"completed": _, "total": _, "message": _}:
            text = progress_of(value)
        case list():
            return _listed([clean(str(one)) for one in value])
        case dict():
            text = json.dumps(value, ensure_ascii=False)
        case _:
            text = str(value)
    return _shortened(clean(text))


def _listed(names: list[str]) -> str:
    """As many as there is room for, and then how many they are in all."""
    whole = ", ".join(names)
    return whole if len(whole) <= LONGEST else f"{_shortened(whole)} ({len(names)})"


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
