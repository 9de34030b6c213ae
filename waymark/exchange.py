"""A request and its answer, without a network: what is sent, what comes back, when to repeat.

A talk is a generator. It yields what is to be done and is sent what came of it, so that it is
written once, for clients that await and for those that do not:

    def ask_twice(call):                 # run by waymark/connection.py, waymark/async_connection.py
        first = yield from exchange(call)
        yield Pause(1)
        return (yield from exchange(call))
"""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import count
from typing import Any, TypeVar

from shared.backoff import exponential
from waymark.errors import ApiError, Document, Unreachable, refusal

TRIES = 5
PAUSE_FIRST, PAUSE_LAST = 0.1, 2.0
LONGEST_PAUSE = 30.0
"""Seconds. Whoever is told to come back later than that decides on it themselves."""

BUSY = (408, 429, 502, 503, 504)
"""Answers that may be others in a moment."""

NOT_BEGUN = (408, 429)
"""Of them, those that say for sure that nothing was done."""

HELD = re.compile(r"\bwait=([0-9]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Call:
    """One request. ``silence``: seconds without a byte after which a stream counts as lost;
    ``until``: the ``time.monotonic()`` after which nobody waits for the answer any more."""

    method: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)  # Any: what a query string can hold
    json: Any = None  # Any: whatever JSON can hold
    headers: Mapping[str, str] = field(default_factory=dict)
    silence: float | None = None
    until: float | None = None
    repeatable: bool = False
    """Whether it may be sent again although it may have been carried out."""

    @property
    def may_repeat(self) -> bool:
        named = any(name.lower() == "idempotency-key" for name in self.headers)
        return self.repeatable or named or self.method in ("GET", "PUT", "DELETE")

    @property
    def patience(self) -> float:
        """Seconds for which its answer may be held back on purpose: ``Prefer: wait``."""
        told = (value for name, value in self.headers.items() if name.lower() == "prefer")
        held = HELD.search(",".join(told))
        return float(held[1]) if held else 0

    def time_left(self) -> float | None:
        """Seconds; None for as long as it takes."""
        return None if self.until is None else max(self.until - time.monotonic(), 0)


@dataclass(frozen=True, slots=True)
class Answer:
    url: str
    status: int
    headers: Mapping[str, str]
    """Their names in any case."""
    body: bytes

    @property
    def document(self) -> Document:
        """Raises ApiError if this is no answer of Waymark."""
        if not self.body and self.status in (204, 304):
            return {}
        try:
            document = json.loads(self.body)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise self.foreign
        return document

    def having(self, *names: str) -> Document:
        """The document. Raises ApiError if it is none, or has not all of these members."""
        document = self.document
        if not all(name in document for name in names):
            raise self.foreign
        return document

    @property
    def retry_after(self) -> float | None:
        """Seconds. They may be told as a number, or as the time when they are over."""
        asked = self.headers.get("retry-after", "")
        if asked.isascii() and asked.isdigit():
            return float(asked)
        try:
            then = parsedate_to_datetime(asked)
        except ValueError:
            return None
        if then.tzinfo is None:  # "-0000", or no word of it
            then = then.replace(tzinfo=UTC)
        return max((then - datetime.now(UTC)).total_seconds(), 0)

    @property
    def error(self) -> ApiError:
        try:
            problem = self.having("code")
        except ApiError as foreign:
            return foreign
        return refusal(problem, self.status, self.retry_after)

    @property
    def foreign(self) -> ApiError:
        """For an answer that Waymark would not give. Who stands before it may be busy, too; but
        that something is not there is for Waymark to say."""
        place = f" and points to {at}" if (at := self.headers.get("location")) else ""
        told = {
            "title": "Not an answer of Waymark",
            "detail": f"{self.url} answered {self.status}{place}, but not as Waymark does: "
            "is the URL right?",
        }
        if self.status in BUSY:
            return refusal(told, self.status, self.retry_after)
        return ApiError(told, self.status if self.status >= 400 else 502, self.retry_after)


@dataclass(frozen=True, slots=True)
class Lost:
    """No answer. ``heard``: the request may have arrived. ``lasting``: it will never be better."""

    url: str
    reason: str
    heard: bool
    lasting: bool

    @property
    def error(self) -> Unreachable:
        return Unreachable(self.url, self.reason, heard=self.heard)


Reply = Answer | Lost


@dataclass(frozen=True, slots=True)
class Send:
    """Gives a Reply, whole."""

    call: Call


@dataclass(frozen=True, slots=True)
class Open:
    """Gives a Reply; the body of a stream is left to be heard. One is open at a time."""

    call: Call


@dataclass(frozen=True, slots=True)
class Hear:
    """Gives the next bytes of what is open; Lost when it broke off, b"" when it ended."""


@dataclass(frozen=True, slots=True)
class HangUp:
    """Gives nothing, and closes what is open."""


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: float
    why: str = ""
    """Empty where a pause is nothing to speak of."""


@dataclass(frozen=True, slots=True)
class Give:
    """Something for who iterates over the talk."""

    item: Any


Effect = Send | Open | Hear | HangUp | Pause | Give
T = TypeVar("T")
Talk = Generator[Effect, Any, T]
"""Any: each effect has a reply of its own."""


def exchange(call: Call) -> Talk[Answer]:
    """The answer, after as many tries as it takes, and as make sense.

    Raises ApiError if it is a problem, Unreachable if there is none.
    """
    heard = False
    for tries in count(1):
        reply: Reply = yield Send(call)
        heard = heard or isinstance(reply, Answer) or reply.heard
        if isinstance(reply, Answer) and reply.status < 400:
            return reply
        pause = pause_after(reply, tries, _longest_pause(call, reply))
        if pause is None or tries == TRIES or not (call.may_repeat or _untouched(reply)):
            if isinstance(reply, Lost):
                raise Unreachable(reply.url, reply.reason, heard=heard)
            raise reply.error
        yield pause
    raise AssertionError("count has no end")


def pause_after(reply: Reply, tries: int, longest: float) -> Pause | None:
    """Until it makes sense to try again; None if it never does, or not within ``longest``."""
    pause = exponential(tries, PAUSE_FIRST, PAUSE_LAST, random.random())  # noqa: S311 - jitter
    if isinstance(reply, Lost):
        never, asked, why = reply.lasting, 0.0, str(reply.error)
    else:
        never = reply.status not in BUSY and reply.error.code != "idempotency-in-progress"
        asked, why = reply.retry_after or 0, str(reply.error)
    return None if never or asked > longest or longest <= 0 else Pause(asked + pause, why)


def _longest_pause(call: Call, reply: Reply) -> float:
    """Seconds. Who waits for a task comes back whenever the rate allows it; an API that is away
    is a matter of patience."""
    left = call.time_left()
    if left is None:
        return LONGEST_PAUSE
    limited = isinstance(reply, Answer) and reply.status == 429
    return left if limited else min(left, LONGEST_PAUSE)


def _untouched(reply: Reply) -> bool:
    """Whether the request was surely not carried out."""
    return not reply.heard if isinstance(reply, Lost) else reply.status in NOT_BEGUN
