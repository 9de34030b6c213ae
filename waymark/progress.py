"""How a task is getting on, for people: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.status import Status
from rich.text import Text

from waymark.amounts import progress_of, usage_of
from waymark.complaints import say
from waymark.errors import Document
from waymark.terminal import clean
from waymark.waiting import ENDED

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

    STAGES_SEEN: tuple[str, ...] | None = None
    """Stages that get a line where there is no live one; None for all."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, markup=False)
        self._status: Status | None = None
        self._begun = time.monotonic()
        self._said: str | None = None
        self._stands = ""

    def __enter__(self) -> Self:
        # Not is_terminal alone: FORCE_COLOR asks for colours, and makes no terminal.
        if self._console.is_terminal and sys.stderr.isatty():
            self._status = self._console.status(LiveLine(self))
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

    @property
    def is_live(self) -> bool:
        return self._status is not None

    def tell(self, line: str) -> None:
        """Above the live line, if there is one."""
        self._console.print(clean(line), soft_wrap=True)

    def seen(self, task: Document) -> None:
        if self._said is None:
            self.tell(f"task {task['id']}")
            self._said = ""
        if task["status"] in ENDED:
            return
        stage, text = str(task["stage"]), _stage_of(task)
        if self._status is not None:
            parts = (text, progress_of(task["progress"]))
            self._stands = " · ".join(part for part in parts if part)
        elif text != self._said and (self.STAGES_SEEN is None or stage in self.STAGES_SEEN):
            self.tell(f"{text} ({self.took()})")
        self._said = text

    def ended(self, task: Document) -> None:
        """How it ended, and what it took."""
        usage = f" · {usage_of(task['usage'])}" if task["usage"] else ""
        self.tell(f"{task['status']} after {self.took()}{usage}")

    def stands(self) -> str:
        """How it is now."""
        return " · ".join(part for part in (self._stands, self.took()) if part)

    def took(self) -> str:
        return f"{time.monotonic() - self._begun:.1f} s"


class LiveLine:
    """Drawn anew many times a second: its time goes on though nothing is heard."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def __rich__(self) -> Text:
        return Text(clean(self._progress.stands()))


def generating(attempt: int) -> str:
    return _numbered(WORDS["generating"], attempt)


def _stage_of(task: Document) -> str:
    if task["cancel_requested_at"]:
        return "asked to stop, waiting for its worker"
    stage = str(task["stage"])
    delayed = (task.get("delivery") or {}).get("state") == "delayed"
    if stage == "accepted" and delayed and (begins := task.get("not_before")):
        return f"accepted, to begin at {begins}"
    return _numbered(WORDS.get(stage, stage), task["attempts"])


def _numbered(text: str, attempt: int) -> str:
    return f"{text}, attempt {attempt}" if attempt > 1 else text
