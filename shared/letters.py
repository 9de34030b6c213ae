"""What a decision on dead letters would come to: shown to whoever decides, before they do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from shared.operating import Document

FIRST = 5
"""Numbers that a preview names."""

REPLAYABLE = ("new_task", "dispatch_again", "succeeded")
"""Fates that a replay can bring about."""


def fate(letter: Document) -> str:
    """What a replay makes of a dead letter, by how its task is."""
    match letter["task_status"]:
        case None:
            return "missing"
        case "running":
            return "running"
        case "queued":
            return "dispatch_again"
        case "succeeded":
            return "succeeded"
        case _:
            return "new_task"


def preview(letters: Sequence[Document], *, replaying: bool) -> Document:
    groups: dict[str, Document] = {}
    for one in letters:
        names = ("fingerprint", "source", "reason", "error")
        entry = groups.setdefault(
            one["fingerprint"], {name: one[name] for name in names} | {"count": 0}
        )
        entry["count"] += 1
    tasks = {one["task_id"] or one["id"]: fate(one) for one in letters}
    return {
        "dead_letters": len(letters),
        "tasks": len(tasks),
        "groups": sorted(groups.values(), key=lambda one: -int(one["count"])),
        "fates": dict(Counter(tasks.values())) if replaying else {},
        "first": [one["id"] for one in letters[:FIRST]],
    }
