"""Tasks in lists: a line for each, and one for each of its attempts and steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from waymark.amounts import seconds, usage_of
from waymark.errors import Document
from waymark.tables import Clock, print_table
from waymark.terminal import clean


def print_tasks(tasks: Sequence[Document], clock: Clock) -> None:
    headings = ("task", "status", "priority", "accepted", "goal")
    print_table(headings, [row_of(task, clock) for task in tasks])


def row_of(task: Document, clock: Clock) -> tuple[str, str, str, str, str]:
    goal = str(task["input"].get("goal", ""))
    return task["id"], standing(task), task["priority"], clock.said(task["created_at"]), goal


def standing(task: Document) -> str:
    """Its status, and of one that is open how far it has come."""
    match task["status"]:
        case "running":
            done = task["progress"]
            return f"running, {100 * done['completed'] / done['total']:.0f} %"
        case "queued" if task["stage"] != "accepted":
            return f"queued, {task['stage']}"
        case "failed":
            return f"failed: {(task['error'] or {}).get('code', 'unknown')}"
        case status:
            return str(status)


def print_attempts(attempts: Sequence[Document], clock: Clock) -> None:
    headings = ("attempt", "started", "outcome", "took", "worker", "used", "because")
    print_table(headings, [_attempt_row(one, clock) for one in attempts])
    steps = [(attempt["number"], step) for attempt in attempts for step in attempt["steps"]]
    if steps:
        print()
        headings = ("attempt", "step", "state", "took", "tries", "calls", "because")
        print_table(headings, [_step_row(number, step) for number, step in steps])


def estimate_lines(document: Document) -> Iterator[str]:
    """What a submission would come to."""
    estimate, problem = document["estimate"], document.get("problem")
    if problem:
        yield clean(f"{problem['code']}: {problem['detail']}")
        yield from (f"  {clean(goal)}" for goal in problem.get("nearest", ()))
    if estimate is None:
        return
    yield clean(f"goal      {estimate['goal']}")
    yield f"plan      {_plan(estimate)}"
    yield f"fits      {'yes' if estimate['feasible'] else 'not into the time you have'}"
    if model := estimate["model"]:
        yield clean(f"model     {model['name']}: about {usage_of(_priced(model))}")
        yield clean(f"based on  {model['based_on']}")


def _attempt_row(attempt: Document, clock: Clock) -> tuple[str, ...]:
    number = str(attempt["number"])
    if attempt["takeover"]:
        number += f", takeover {attempt['takeover']}"
    used = usage_of(attempt["usage"]) if attempt["usage"] else ""
    return (
        *(number, clock.said(attempt["started_at"]), attempt["outcome"]),
        *(_took(attempt["duration_seconds"]), attempt["worker"], used, _error(attempt["error"])),
    )


def _step_row(number: int, step: Document) -> tuple[str, ...]:
    return (
        *(str(number), step["step"], step["state"], _took(step["duration_seconds"])),
        *(str(step["tries"]), str(step["calls"]), _error(step["error"])),
    )


def _took(duration: float | None) -> str:
    return "" if duration is None else seconds(duration)


def _error(error: Any) -> str:  # Any: null, or an object of a kind that is open
    return f"{error['code']}: {error.get('detail', '')}" if error else ""


def _plan(estimate: Document) -> str:
    return (
        f"{estimate['stages']} stages, {estimate['concepts']} concepts, "
        f"{estimate['hours']:g} h in {estimate['weeks']} weeks"
    )


def _priced(model: Document) -> Document:
    """Without prices there is no money to tell of."""
    return model | {"cost_usd": model["cost_usd"] or 0}
