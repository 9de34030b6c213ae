"""A task on a terminal: a line for each stage that it has passed, and a live one below them."""

from __future__ import annotations

from datetime import datetime

from waymark.amounts import usage_of
from waymark.errors import Document
from waymark.following import Following
from waymark.tables import span

PASSED, FAILED = "✔", "✖"
NAMES = 10
"""Columns for the name of a stage."""


class Stages(Following):
    """As Following; each stage of the task itself is told as well, once."""

    STAGES_SEEN = ()

    def __init__(self) -> None:
        super().__init__()
        self._passed: set[tuple[str, str]] = set()
        self._due = ""
        """Since when it could be dispatched."""

    def seen(self, task: Document) -> None:
        delivery = task.get("delivery") or {"outbox_id": "", "published_at": None}
        message = str(delivery["outbox_id"])
        self._pass("accepted", f"{task['id']}  committed with outbox message {message}")
        if delivery["published_at"]:
            self._dispatched(message.rpartition(":")[2], (delivery["lag_ms"] or 0) / 1000)
        self._due = self._due or task.get("not_before") or task["created_at"]
        self._said = self._said or ""  # the task's id has been told
        super().seen(task)

    def heard(self, event: Document) -> None:
        data = event["data"]
        match event["type"]:
            case "task.dispatched":
                late = _between(self._due, event["created_at"])
                self._dispatched(str(data["dispatch_no"]), max(late, 0))
            case "task.started":
                again = f", attempt {data['attempt']}" if data["attempt"] > 1 else ""
                self._pass("started", f"by {data['worker']}{again}", str(event["seq"]))
            case "task.requeued":
                self._due = data.get("available_at", event["created_at"])
        super().heard(event)

    def ended(self, task: Document) -> None:
        """How it ended, and what it took since it was accepted."""
        mark = PASSED if task["status"] == "succeeded" else FAILED
        took = _between(task["created_at"], task["finished_at"])
        usage = f" · {usage_of(task['usage'])}" if task["usage"] else ""
        self.tell(_line(task["status"], f"after {_briefly(took)}{usage}", mark))

    def _dispatched(self, number: str, late: float) -> None:
        self._pass("dispatched", f"{_briefly(late)} after it was due", number)

    def _pass(self, stage: str, told: str, which: str = "") -> None:
        """``which``: a task may be dispatched, and started, more than once."""
        if (stage, which) not in self._passed:
            self._passed.add((stage, which))
            self.tell(_line(stage, told.rstrip()))


def _line(stage: str, told: str, mark: str = PASSED) -> str:
    return f"{mark} {stage:<{NAMES}}  {told}"


def _between(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def _briefly(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else span(seconds)
