"""How a task is getting on, for people: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.status import Status

from waymark.client import Document
from waymark.complaints import say

WORDS = {
    "accepted": "accepted, waiting for a relay",
    "dispatched": "dispatched, waiting for a worker",
    "generating": "generating",
    "validating": "validating",
    "storing": "storing",
    "retry_wait": "waiting for another attempt",
}


class Dispatches:
    """Tells people that a dispatched task waits: its history has that only once it was taken."""

    def __init__(self) -> None:
        self._said: str | None = None

    def seen(self, task: Document) -> None:
        at = task["dispatched_at"]
        if task["stage"] == "dispatched" and at != self._said:
            self._said = at
            say(f"{at}       {WORDS['dispatched']}")


class Progress:
    """Speaks on stderr. ``seen`` takes the task as often as one likes; it says only news."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, markup=False)
        self._status: Status | None = None
        self._begun = time.monotonic()
        self._said: tuple[str, str, int] | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._status = self._console.status("")
            self._status.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def seen(self, task: Document) -> None:
        status, stage, attempts = str(task["status"]), str(task["stage"]), int(task["attempts"])
        news = (status, stage, attempts) != self._said
        first = self._said is None
        self._said = (status, stage, attempts)
        took = f"{time.monotonic() - self._begun:.1f} s"
        if first:
            self._console.print(f"task {task['id']}")
        if status in ("succeeded", "failed", "canceled"):
            self._console.print(f"{status} after {took}")
            return
        text = WORDS.get(stage, stage) + (f", attempt {attempts}" if attempts > 1 else "")
        if self._status is not None:
            self._status.update(f"{text} · {took}")
        elif news:
            self._console.print(f"{text} ({took})")
