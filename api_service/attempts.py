"""The attempts of a task, read from its history: each start, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import RowMapping

from shared.views import AttemptList, AttemptView, StepView, TaskUsage

ENDS = {
    "task.succeeded": "succeeded",
    "task.failed": "failed",
    "task.canceled": "canceled",
}


def attempts(rows: Sequence[RowMapping]) -> AttemptList:
    """From rows of ``queries.ATTEMPTS``. A start right after another one took its task over."""
    turns = [row for row in rows if row["seq"] is not None]
    found = []
    for place, turn in enumerate(turns):
        if turn["type"] == "task.started":
            following = turns[place + 1] if place + 1 < len(turns) else None
            found.append(_attempt(turn, following))
    return AttemptList(data=found)


def _attempt(start: RowMapping, end: RowMapping | None) -> AttemptView:
    steps = [StepView.model_validate(step) for step in start["steps"] or ()]
    finished_at = None if end is None else end["created_at"]
    duration = None if finished_at is None else (finished_at - start["created_at"]).total_seconds()
    return AttemptView(
        number=start["number"],
        takeover=start["data"].get("takeover", 0),
        worker=start["data"].get("worker", ""),
        outcome="running" if end is None else _outcome(end),
        error=None if end is None else _error(end),
        started_at=start["created_at"],
        finished_at=finished_at,
        duration_seconds=duration,
        steps=steps,
        usage=_usage(steps),
    )


def _outcome(end: RowMapping) -> str:
    match end["type"]:
        case "task.started":
            return "lease_expired"
        case "task.requeued":
            return "failed" if "code" in end["data"] else str(end["data"].get("reason", "requeued"))
        case kind:
            return ENDS[kind]


def _error(end: RowMapping) -> dict[str, Any] | None:
    if end["type"] in ("task.failed", "task.requeued") and "code" in end["data"]:
        return dict(end["data"])
    return None


def _usage(steps: Sequence[StepView]) -> TaskUsage | None:
    if not any(step.calls for step in steps):
        return None
    return TaskUsage(
        calls=sum(step.calls for step in steps),
        tokens_in=sum(step.tokens_in for step in steps),
        tokens_out=sum(step.tokens_out for step in steps),
        cost_usd=sum(step.cost_usd for step in steps),
    )
