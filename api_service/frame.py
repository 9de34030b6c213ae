"""What every request goes through, and every answer: one layer around the whole application.

An id that both sides' logs share, how long it took, what the caller may still ask, and headers
that leave a browser nothing to guess. Who asks too much is refused here, before anything is read.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable

import structlog
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uuid_utils.compat import uuid7

from api_service import timing
from api_service.caller import caller_of
from api_service.problems import Problem, answer
from api_service.rate import Rate
from shared.settings import Settings

log = structlog.get_logger()

REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")

PROBES = ("/livez", "/readyz")
"""Never refused: a busy process is not a dead one."""

PLACE = "waymark.place"
"""In the scope of a request: its place among those that are worked on."""

NOTHING_LOADS = "default-src 'none'; frame-ancestors 'none'"

SAFE = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": NOTHING_LOADS,
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
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
        begun, spent = time.perf_counter(), timing.start()
        request_id = _request_id(scope["headers"])
        structlog.contextvars.bind_contextvars(request_id=request_id)
        further = {"Request-Id": request_id}
        refusal = None if scope["path"] in PROBES else self._refusal(scope, further)

        started = False

        async def framed(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in further.items():
                    headers[name] = value
                for name, value in SAFE.items():
                    headers.setdefault(name, value)
                total = time.perf_counter() - begun
                headers["Server-Timing"] = f"db;dur={_ms(spent[0])}, total;dur={_ms(total)}"
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

    def _refusal(self, scope: Scope, further: dict[str, str]) -> Problem | None:
        if self.rate:
            allowed, left, seconds = self.rate.hit(caller_of(scope).name)
            further |= {"RateLimit-Policy": self.rate.policy, "RateLimit": left}
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


def _request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The caller's own, if logs and headers can hold it."""
    for name, value in headers:
        if name == b"request-id" and REQUEST_ID.fullmatch(value):
            return value.decode()
    return str(uuid7())


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.1f}"
