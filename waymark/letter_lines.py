"""Dead letters as the API tells of them, for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from waymark import outbox_printing
from waymark.errors import Document
from waymark.outbox_printing import decision
from waymark.tables import Clock, print_facts, print_table

GROUP_HEADINGS = (
    *("fingerprint", "open", "all", "first", "last", "example"),
    *("source", "reason", "error"),
)
LETTER_HEADINGS = ("letter", "since", "task", "task is", "letter is", "source", "reason", "error")


def print_groups(groups: Sequence[Document], clock: Clock) -> None:
    rows = (
        (
            *(one["fingerprint"], str(one["open"]), str(one["count"])),
            *(clock.said(one["first"]), clock.said(one["last"]), str(one["example"])),
            *(one["source"], one["reason"], one["error"]),
        )
        for one in groups
    )
    print_table(GROUP_HEADINGS, rows)


def print_letters(letters: Sequence[Document], clock: Clock) -> None:
    rows = (
        (
            *(str(one["id"]), clock.said(one["created_at"]), one["task_id"] or "none"),
            *(one["task_status"] or "missing", _standing(one)),
            *(one["source"], one["reason"], one["text"] or one["error"]),
        )
        for one in letters
    )
    print_table(LETTER_HEADINGS, rows)


def print_story(story: Document, clock: Clock) -> None:
    print_facts({"task": story["task_id"] or "none", **dict(_task_facts(story, clock))})
    print()
    print_letters(story["dead_letters"], clock)
    if story["acts"]:
        print()
        rows = (
            (
                *(str(one["id"]), clock.said(one["created_at"]), one["act"]),
                *(one["actor"], one["reason"]),
            )
            for one in story["acts"]
        )
        print_table(("act", "at", "", "by", "because"), rows)


def preview_lines(preview: Document) -> Iterator[str]:
    """What would be done to which dead letters."""
    named = {"dead_letters": preview["matched"], "first": preview["sample"]}
    yield from outbox_printing.preview_lines(preview | named)


def _standing(letter: Document) -> str:
    return "open" if letter["resolution"] is None else decision(letter)


def _task_facts(story: Document, clock: Clock) -> Iterator[tuple[str, Any]]:
    """Any: whatever can be written."""
    task = story["task"]
    if task is None:
        yield "status", "missing: this database has no such task"
        return
    yield "goal", task["goal"]
    yield "status", f"{task['status']}, {task['stage']}"
    yield "attempts", f"{task['attempts']}, takeovers {task['takeovers']}"
    for name in ("created_at", "dispatched_at", "started_at", "finished_at"):
        if task[name]:
            yield name.removesuffix("_at"), clock.said(task[name])
    if task["error"]:
        yield "error", f"{task['error']['code']}: {task['error']['detail']}"
    if message := story["message"]:
        yield "message", f"{message['state']}, dispatch {message['dispatch_no']}"
