"""Outbox and dead letters as an operator reads them: plain lines, one fact or one row each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from shared.lifecycle import Priority
from waymark.amounts import number_of
from waymark.tables import print_facts, print_table, span, table

if TYPE_CHECKING:  # whoever asks over HTTP does not wait for SQLAlchemy
    from shared.operating import Document

GROUP_HEADINGS = (
    *("fingerprint", "open", "all", "first", "last", "example"),
    *("source", "reason", ""),
)

FATES = {
    "new_task": "{} ended: replayed as new",
    "succeeded": "{} succeeded after all: replayed as new all the same",
    "dispatch_again": "{} still queued: dispatched again",
    "running": "{} running: left alone",
    "missing": "{} not in this database: cannot be replayed",
}
"""What a replay does to the tasks of dead letters, by how they are."""


def print_status(status: Document) -> None:
    oldest = status["oldest_waiting_seconds"]
    letters = status["dead_letters"]
    print_facts(
        {
            "oldest": "nothing waits" if oldest is None else f"waits for {span(oldest)}",
            "waiting": status["waiting"],
            "delayed": status["delayed"],
            "in flight": status["in_flight"],
            "running": status["running"],
            "dead letters": _in_groups(letters["open"], letters["groups"]),
            "relays": _held(status["paused"]),
            "redis": _redis(status["redis"]),
        }
    )


def print_messages(messages: Sequence[Document]) -> None:
    phrases = {"waiting": "for {}", "delayed": "due in {}", "dispatched": "{} ago"}
    rows = (
        (
            str(one["task_id"]),
            one["tenant_id"],
            priority_name(one["priority"]),
            str(one["dispatch_no"]),
            one["state"],
            phrases[one["state"]].format(span(one["seconds"])),
        )
        for one in messages
    )
    print_table(("task", "tenant", "priority", "dispatch", "state", ""), rows)


def print_groups(groups: Sequence[Document]) -> None:
    print_table(GROUP_HEADINGS, map(_group_row, groups))


def print_letters(letters: Sequence[Document]) -> None:
    rows = (
        (
            str(one["id"]),
            moment(one["created_at"]),
            str(one["task_id"] or "none"),
            one["task_status"] or "missing",
            _resolution(one),
            one["source"],
            one["reason"],
            one["text"] or "",
        )
        for one in letters
    )
    print_table(("letter", "since", "task", "task is", "letter is", "source", "reason", ""), rows)


def print_story(story: Document) -> None:
    print_facts({"task": story["task_id"] or "none", **dict(_task_facts(story))})
    if story["dead_letters"]:
        print()
        print_letters(story["dead_letters"])
    if story["acts"]:
        print()
        rows = (
            (str(one["id"]), moment(one["created_at"]), one["act"], one["actor"], one["reason"])
            for one in story["acts"]
        )
        print_table(("act", "at", "", "by", "because"), rows)


def preview_lines(preview: Document) -> Iterator[str]:
    """What would be done to which dead letters."""
    yield f"{_letters(preview['dead_letters'])} of {_tasks(preview['tasks'])}"
    for fate, number in preview["fates"].items():
        if number:
            yield f"  {FATES[fate].format(_tasks(number))}"
    rows = [
        (one["fingerprint"], str(one["count"]), one["source"], one["reason"], one["error"])
        for one in preview["groups"]
    ]
    yield from table(("fingerprint", "count", "source", "reason", ""), rows)
    if preview["first"]:
        yield f"first: {', '.join(map(str, preview['first']))}"


def moment(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def priority_name(priority: int) -> str:
    return Priority(priority).name.lower()


def _group_row(group: Document) -> tuple[str, ...]:
    return (
        group["fingerprint"],
        str(group["open"]),
        str(group["count"]),
        moment(group["first"]),
        moment(group["last"]),
        str(group["example"]),
        group["source"],
        group["reason"],
        group["error"],
    )


def _task_facts(story: Document) -> Iterator[tuple[str, Any]]:  # Any: whatever can be written
    task, message = story["task"], story["message"]
    if task is None:
        yield "status", "missing: this database has no such task"
    else:
        yield "tenant", task["tenant_id"]
        yield "priority", priority_name(task["priority"])
        yield "goal", task["goal"]
        yield "status", f"{task['status']}, {task['stage']}"
        yield "attempts", f"{task['attempts']}, takeovers {task['takeovers']}"
        for name in ("created_at", "dispatched_at", "started_at", "finished_at"):
            if task[name]:
                yield name.removesuffix("_at"), moment(task[name])
        if task["parent_id"]:
            yield "parent", task["parent_id"]
        if task["roadmap_id"]:
            yield "roadmap", task["roadmap_id"]
        if task["error"]:
            yield "error", f"{task['error']['code']}: {task['error']['detail']}"
    if message:
        since = message["dispatched_at"] or message["available_at"]
        state = f"{message['state']} since {moment(since)}"
        if message["state"] == "delayed":
            state = f"delayed until {moment(since)}"
        yield "message", f"{state}, dispatch {message['dispatch_no']}"


def _resolution(letter: Document) -> str:
    return "open" if letter["resolution"] is None else decision(letter)


def decision(letter: Document) -> str:
    """What was decided about a dead letter, and by which act."""
    if letter["resolution"] == "discarded":
        return f"discarded (act {letter['act_id']})"
    if letter["replayed_as"] == letter["task_id"]:
        return f"dispatched again (act {letter['act_id']})"
    return f"replayed as {letter['replayed_as']} (act {letter['act_id']})"


def _held(paused: Document | None) -> str:
    if paused is None:
        return "not paused"
    return f"paused since {moment(paused['at'])} by {paused['by']}: {paused['reason']}"


def _redis(redis: Document) -> str:
    if redis["answers"] is None:
        return f"not asked: {redis['reason']}"
    if not redis["answers"]:
        return f"does not answer: {redis['reason']}"
    waits = "1 message waits" if redis["depth"] == 1 else f"{redis['depth']} messages wait"
    return f"answers: {waits}, {number_of(redis['workers'], 'worker')} with " + number_of(
        redis["slots"], "slot"
    )


def _in_groups(number: int, groups: int) -> str:
    return f"{number} in {number_of(groups, 'group')}" if number else "none"


def _letters(number: int) -> str:
    return number_of(number, "dead letter")


def _tasks(number: int) -> str:
    return number_of(number, "task")
