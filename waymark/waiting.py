"""To wait for a task, one answer per change: the API holds each answer until there is news."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from waymark import calls
from waymark.calls import Id
from waymark.errors import ApiError, Document, NotFinished, RateLimited, Unreachable
from waymark.exchange import Give, Pause, T, Talk, exchange
from waymark.pages import all_events

ENDED = ("succeeded", "failed", "canceled")
HOLD = 30
"""Seconds for which the API is asked to hold an answer; proxies rarely bear much longer."""

POLL_FIRST, POLL_LAST = 0.1, 1.0
POLL_RUNNING = 0.5
"""While it runs, people watch its stages come; before that only the wait gets longer."""

Seen = Callable[[Document], object]


def wait(task_id: Id, timeout: float | None, patience: float, seen: Seen) -> Talk[Document]:
    """The task once it has ended; ``seen`` gets it whenever it has changed.

    Raises NotFinished after ``timeout`` seconds; an API that is away is waited for while
    ``patience`` lasts, one that limits the rate for as long as it says.
    """
    looking = _Looking(task_id, timeout, patience)
    while not looking.is_over:
        seen((yield from looking.look()))
    return looking.task


def watch(task_id: Id, timeout: float | None, patience: float, seen: Seen) -> Talk[None]:
    """Gives the events as they come, until the task has ended.

    ``seen`` gets a task after its events: whoever has seen it end has heard all.
    """
    looking, last, heard_all = _Looking(task_id, timeout, patience), 0, False
    while not heard_all:
        task = yield from looking.look()
        events: list[Document] | None = []
        if task["version"] != last:
            events = yield from looking.bear(all_events(task_id, last, looking.until))
        if events is None:
            continue
        for event in events:
            last = event["seq"]
            yield Give(event)
        seen(task)
        heard_all = looking.is_over


class _Looking:
    """One look after the other; with an API that does not hold answers, slower with time."""

    def __init__(self, task_id: Id, timeout: float | None, patience: float) -> None:
        if timeout is not None and not timeout >= 0:
            raise ValueError(f"timeout is a number of seconds, 0 or more, or None: not {timeout}.")
        self.task: Document = {}
        self.is_over = False
        self.until = math.inf if timeout is None else time.monotonic() + timeout
        self._task_id = task_id
        self._timeout = timeout
        self._patience = patience
        self._away_since: float | None = None
        self._known: str | None = None
        self._pause = POLL_FIRST
        self._rests = False

    def look(self) -> Talk[Document]:
        """The task as it is now, or was when the API could last be asked.

        Raises NotFinished if the time was over before; the error of the API if that lasts.
        """
        if self.task:
            yield from self._rest()
        self._rests = not (yield from self.bear(self._ask()))
        self.is_over = self.task["status"] in ENDED
        return self.task

    def bear(self, talk: Talk[T]) -> Talk[T | None]:
        """None if the API is away, and that is to be borne a while longer."""
        try:
            result = yield from talk
        except RateLimited as error:
            if not self.task:
                raise
            yield Pause(min(error.retry_after or POLL_LAST, self._left()), str(error))
            result = None
        except (Unreachable, ApiError) as error:
            now = time.monotonic()
            self._away_since = self._away_since or now
            lasting = isinstance(error, ApiError) and error.status < 500
            if not self.task or lasting or now - self._away_since >= self._patience:
                raise
            return None
        self._away_since = None
        return result

    def _ask(self) -> Talk[bool]:
        """Whether the next question may follow at once: such an API holds its answer."""
        known = self._known
        answer = yield from exchange(calls.news(self._task_id, known, self._hold(), self.until))
        if answer.status == 304:
            return False
        self.task = answer.having("id", "status", "version")
        self._known = answer.headers.get("etag")
        if known is None:
            return self._known is not None
        return "preference-applied" in answer.headers

    def _hold(self) -> int:
        """Whole seconds; none for the first look, which asks how things are."""
        if self._known is None:
            return 0
        return int(min(HOLD, self._left()))

    def _rest(self) -> Talk[None]:
        if self._timeout is not None and self._left() <= 0:
            raise NotFinished(self.task, self._timeout)
        if not self._rests:
            self._pause = POLL_FIRST
            return
        yield Pause(min(self._pause, self._left()))
        slowest = POLL_RUNNING if self.task["status"] == "running" else POLL_LAST
        self._pause = min(self._pause * 1.2, slowest)

    def _left(self) -> float:
        return max(self.until - time.monotonic(), 0)
