"""What every request goes through, and every answer: one layer around the whole application.

An id that both sides' logs share, how long it took, what the caller may still ask, and headers
that leave a browser nothing to guess. Who asks too much is refused here, before anything is read.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uuid_utils.compat import uuid7

from api_service import timing
from api_service.caller import caller_of
from api_service.field_lines import Header, joined
from api_service.problems import Problem, answer
from api_service.rate import Rate
from shared.settings import Settings

log = structlog.get_logger()

REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")

PROBES = ("/livez", "/readyz")
"""Never refused: a busy process is not a dead one."""

PLACE = "waymark.place"
"""In the scope of a request: its place among those that are worked on."""

NOTHING_LOADS = b"default-src 'none'; frame-ancestors 'none'"

SAFE = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", NOTHING_LOADS),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
"""Unless the answer has its own."""


BROKEN = Problem("internal-error", "The error is logged.", headers={"Connection": "close"})


class Frame:
    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.rate = Rate(settings.api_rate) if settings.api_rate else None
        self.most = settings.api_in_flight
        self.in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        scope = _as_get(scope) if scope["method"] == "HEAD" else scope
        begun, spent = time.perf_counter(), timing.start()
        request_id = _request_id(scope["headers"])
        structlog.contextvars.bind_contextvars(request_id=request_id)
        further = [(b"request-id", request_id.encode())]
        refusal = None if scope["path"] in PROBES else self._refusal(scope, further)
        try:
            scope["headers"] = joined(scope["headers"])
        except Problem as unclear:
            refusal = refusal or unclear
        started = False

        async def framed(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                total = time.perf_counter() - begun
                took = f"db;dur={1000 * spent[0]:.1f}, total;dur={1000 * total:.1f}"
                own = [*message.get("headers", ())]
                names = {name for name, _ in own}
                safe = (header for header in SAFE if header[0] not in names)
                message["headers"] = [*own, *further, *safe, (b"server-timing", took.encode())]
            await send(message)

        if refusal:
            return await answer(refusal)(scope, receive, framed)
        with Place(self, scope):
            try:
                return await self.app(scope, receive, framed)
            except Exception:
                if started:  # the server hangs up, and the client sees that something is missing
                    raise
                log.exception("request_failed", path=scope["path"])
                return await answer(BROKEN)(scope, receive, framed)

    def _refusal(self, scope: Scope, further: list[Header]) -> Problem | None:
        if self.rate:
            allowed, left, seconds = self.rate.hit(caller_of(scope).name)
            further += [(b"ratelimit-policy", self.rate.policy), (b"ratelimit", left.encode())]
            if not allowed:
                return self.rate.refusal(seconds)
        if self.in_flight >= self.most:
            return Problem("overloaded", f"{self.in_flight} requests are being worked on.")
        return None


class Place:
    """Of one request that is worked on. Who only waits gives it back before the end."""

    def __init__(self, frame: Frame, scope: Scope) -> None:
        self.frame = frame
        self.scope = scope
        self.kept = False

    def __enter__(self) -> None:
        self.kept = True
        self.frame.in_flight += 1
        self.scope[PLACE] = self

    def __exit__(self, *_error: object) -> None:
        self.give_back()

    def give_back(self) -> None:
        if self.kept:
            self.kept = False
            self.frame.in_flight -= 1


def only_waits(scope: Scope) -> None:
    """From now on the request is not worked on: it streams, or waits for news."""
    if PLACE in scope:
        scope[PLACE].give_back()


def _as_get(scope: Scope) -> Scope:
    """Answered like a GET; the server leaves the body away (RFC 9110, section 9.3.2). Not as a
    stream, which would have no end that anybody sees."""
    headers = [header for header in scope["headers"] if header[0] != b"accept"]
    return {**scope, "method": "GET", "headers": headers}


def _request_id(headers: Iterable[Header]) -> str:
    """The caller's own, if logs and headers can hold it."""
    for name, value in headers:
        if name == b"request-id" and REQUEST_ID.fullmatch(value):
            return value.decode()
    return str(uuid7())
