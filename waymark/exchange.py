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
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
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


@dataclass(frozen=True, slots=True)
class Call:
    """One request. ``patience``: seconds for which its answer may be held back on purpose;
    ``silence``: seconds without a byte after which a stream counts as lost."""

    method: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)  # Any: what a query string can hold
    json: Any = None  # Any: whatever JSON can hold
    headers: Mapping[str, str] = field(default_factory=dict)
    patience: float = 0
    silence: float | None = None
    repeatable: bool = False
    """Whether it may be sent again although it may have been carried out."""

    @property
    def may_repeat(self) -> bool:
        named = any(name.lower() == "idempotency-key" for name in self.headers)
        return self.repeatable or named or self.method in ("GET", "HEAD", "PUT", "DELETE")


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

    @property
    def retry_after(self) -> float | None:
        asked = self.headers.get("retry-after", "")
        return float(asked) if asked.isascii() and asked.isdigit() else None

    @property
    def error(self) -> ApiError:
        try:
            return refusal(self.document, self.status, self.retry_after)
        except ApiError as foreign:
            return foreign

    @property
    def foreign(self) -> ApiError:
        """For an answer that Waymark would not give."""
        told = {
            "title": "Not an answer of Waymark",
            "detail": f"{self.url} answered {self.status}, but not as Waymark does: "
            "is the URL right?",
        }
        return refusal(told, self.status if self.status >= 400 else 502, self.retry_after)


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
        pause = pause_after(reply, tries)
        if pause is None or tries == TRIES or not (call.may_repeat or _untouched(reply)):
            if isinstance(reply, Lost):
                raise Unreachable(reply.url, reply.reason, heard=heard)
            raise reply.error
        yield Pause(pause)
    raise AssertionError("count has no end")


def pause_after(reply: Reply, tries: int) -> float | None:
    """Seconds until it makes sense to try again; None if it never does, or not for long."""
    pause = exponential(tries, PAUSE_FIRST, PAUSE_LAST, random.random())  # noqa: S311 - jitter
    if isinstance(reply, Lost):
        return None if reply.lasting else pause
    if reply.status not in BUSY and reply.error.code != "idempotency-in-progress":
        return None
    asked = reply.retry_after or 0
    return asked + pause if asked <= LONGEST_PAUSE else None


def _untouched(reply: Reply) -> bool:
    """Whether the request was surely not carried out."""
    return not reply.heard if isinstance(reply, Lost) else reply.status in NOT_BEGUN
