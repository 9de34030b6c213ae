"""The events of a task as they are committed: one stream, over as many connections as it takes."""

from __future__ import annotations

import json
import math
import time

from waymark import calls
from waymark.calls import Id
from waymark.errors import Document
from waymark.exchange import (
    LONGEST_PAUSE,
    Answer,
    Give,
    HangUp,
    Hear,
    Lost,
    Open,
    Pause,
    Reply,
    Talk,
    pause_after,
)
from waymark.sse import Frame, SseReader

END = "stream.end"
RATE_LIMITED = "rate-limited"
RECONNECT = 1.0
"""Seconds before a reconnection, unless the API asks for others."""


def stream(task_id: Id, after: int, patience: float, silence: float) -> Talk[None]:
    """Gives each event after ``after`` once, in order, until the task has ended.

    A connection that breaks, or says nothing for ``silence`` seconds, is replaced by one that goes
    on where it was. One that limits the rate is asked again when it says. Raises ApiError if the
    API refuses, Unreachable if it is away for longer than ``patience``.
    """
    hearing = _Hearing(after)
    heard, failures = time.monotonic(), 0
    while True:
        reply: Reply = yield Open(calls.stream(task_id, hearing.last, silence))
        if isinstance(reply, Answer) and reply.status < 400:
            if reply.status == 204 or (yield from hearing.to_its_end(reply)):
                return
            heard, failures = time.monotonic(), 0
            yield Pause(hearing.pause)
            continue
        failures += 1
        limited = isinstance(reply, Answer) and reply.error.code == RATE_LIMITED
        pause = pause_after(reply, failures, math.inf if limited else LONGEST_PAUSE)
        if pause is None or (time.monotonic() - heard > patience and not limited):
            raise reply.error
        yield pause


class _Hearing:
    """How far the stream was heard."""

    def __init__(self, last: int) -> None:
        self.last = last
        self.pause = RECONNECT

    def to_its_end(self, answer: Answer) -> Talk[bool]:
        """Gives what one connection tells; whether that was all there will ever be."""
        if not answer.headers.get("content-type", "").startswith("text/event-stream"):
            raise answer.foreign
        reader = SseReader()
        while data := (yield from _next_bytes()):
            for frame in reader.feed(data):
                if frame.event == END:
                    yield HangUp()
                    return True
                if (event := self._new(frame)) is not None:
                    yield Give(event)
        self.pause = self.pause if reader.retry is None else reader.retry
        return False

    def _new(self, frame: Frame) -> Document | None:
        """None for what is no event, and for one that was given before."""
        if not frame.last_id.isdigit() or int(frame.last_id) <= self.last:
            return None
        event: Document = json.loads(frame.data)
        self.last = int(frame.last_id)
        return event


def _next_bytes() -> Talk[bytes]:
    """None come any more once the connection has broken, or was silent for too long."""
    heard: bytes | Lost = yield Hear()
    if isinstance(heard, Lost):
        yield HangUp()
        return b""
    return heard
