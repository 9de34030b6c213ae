"""``/metrics``, ``/livez``, ``/readyz`` of a process, on WAYMARK_METRICS_PORT if that is set.

Answered by a thread, so that a process whose event loop hangs can still say so.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import CancelledError
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import NamedTuple

import structlog
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, REGISTRY, generate_latest

from shared.database import reason
from shared.errors import StartupError
from shared.settings import Settings

log = structlog.get_logger()

PATIENCE = 2.0
"""Seconds that all checks of ``/readyz`` have together; who asks rarely waits longer."""

HANDOVER = 0.5
"""Seconds on top, for the event loop to take the question and give the answer back."""

Check = Callable[[], Awaitable[object]]


class Pulse:
    """A loop's sign of life: it beats in every turn."""

    def __init__(self, name: str, within: float) -> None:
        self.name = name
        self.within = within
        self.beat()

    def beat(self) -> None:
        self._beaten_at = time.monotonic()

    @property
    def silence(self) -> float:
        """Seconds since the last beat."""
        return time.monotonic() - self._beaten_at


class Probes:
    """Alive means that every loop turns; ready means that what the process needs answers."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._pulses: list[Pulse] = []
        self._server: _Server | None = None

    def pulse(self, name: str, *, within: float) -> Pulse:
        """A loop that counts as hung when it has not beaten for ``within`` seconds."""
        pulse = Pulse(name, within)
        self._pulses.append(pulse)
        return pulse

    def serve(self, *, ready: Mapping[str, Check]) -> None:
        """Call it inside the event loop that ``ready`` is asked on; the names are for people."""
        readiness = _Readiness(ready, asyncio.get_running_loop())
        self._server = _serve(
            self.settings,
            {"/metrics": _metrics, "/livez": self._livez, "/readyz": readiness.page},
        )

    def close(self) -> None:
        """Answer no more. A process that ends need not say so."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()

    def _livez(self) -> Page:
        late = [
            f"{pulse.name} has not turned for {pulse.silence:.1f} s, {pulse.within:g} are allowed"
            for pulse in tuple(self._pulses)
            if pulse.silence > pulse.within
        ]
        if late:
            return Page.of_text("\n".join(late), HTTPStatus.SERVICE_UNAVAILABLE)
        return Page.of_text("ok")


def serve_metrics(settings: Settings) -> None:
    """``/metrics`` alone, for a process that answers the other questions elsewhere."""
    _serve(settings, {"/metrics": _metrics})


class Page(NamedTuple):
    body: bytes
    content_type: str
    status: HTTPStatus = HTTPStatus.OK

    @classmethod
    def of_text(cls, said: str, status: HTTPStatus = HTTPStatus.OK) -> Page:
        return cls(f"{said}\n".encode(), "text/plain; charset=utf-8", status)


def _metrics() -> Page:
    return Page(generate_latest(REGISTRY), CONTENT_TYPE_PLAIN_0_0_4)


class _Readiness:
    """Asks on the event loop, where the connections live; answers on the caller's thread."""

    def __init__(self, checks: Mapping[str, Check], loop: asyncio.AbstractEventLoop) -> None:
        self.checks = checks
        self.loop = loop
        self._asked: dict[str, asyncio.Task[str]] = {}

    def page(self) -> Page:
        answers = self._answers()
        ready = all(answer == "ok" for answer in answers.values())
        document = {"status": "ok" if ready else "not ready", **answers}
        status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
        return Page(json.dumps(document).encode(), "application/json", status)

    def _answers(self) -> dict[str, str]:
        asking = self._ask_all()
        try:
            answers = asyncio.run_coroutine_threadsafe(asking, self.loop)
        except RuntimeError:  # the loop is closed
            asking.close()
            return {"event loop": "has ended"}
        try:
            return answers.result(PATIENCE + HANDOVER)
        except (TimeoutError, CancelledError):
            answers.cancel()
            return {"event loop": "does not answer"}

    async def _ask_all(self) -> dict[str, str]:
        asked = {name: self._ask(name) for name in self.checks}
        if asked:
            await asyncio.wait(asked.values(), timeout=PATIENCE)
        return {name: _answer(task) for name, task in asked.items()}

    def _ask(self, name: str) -> asyncio.Task[str]:
        """What still hangs is not asked a second time: probes must not pile up."""
        task = self._asked.get(name)
        if task is None or task.done():
            task = self._asked[name] = asyncio.create_task(_outcome(self.checks[name]))
        return task


async def _outcome(check: Check) -> str:
    try:
        await check()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
        return reason(error)
    return "ok"


def _answer(task: asyncio.Task[str]) -> str:
    if task.done() and not task.cancelled():
        return task.result()
    task.cancel()
    return f"does not answer within {PATIENCE:g} s"


# --- the server ---


def _serve(settings: Settings, pages: Mapping[str, Callable[[], Page]]) -> _Server | None:
    if settings.metrics_port is None:
        return None
    try:
        server = _Server(settings.metrics_host, settings.metrics_port, pages)
    except OSError as error:
        raise StartupError(
            f"cannot serve metrics on {settings.metrics_host}:{settings.metrics_port} "
            f"({error.strerror}): choose another port with WAYMARK_METRICS_PORT."
        ) from error
    threading.Thread(target=server.serve_forever, name="probes", daemon=True).start()
    return server


class _Server(ThreadingHTTPServer):
    def __init__(self, host: str, port: int, pages: Mapping[str, Callable[[], Page]]) -> None:
        self.pages = pages
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        self.address_family, _, _, _, address = found[0]
        super().__init__((str(address[0]), port), _Handler)

    def server_bind(self) -> None:
        # Not HTTPServer's: it asks the name service who we are, which may take seconds.
        TCPServer.server_bind(self)

    def handle_error(self, request: object, client_address: object) -> None:
        """The default writes a traceback between the log lines, although who asked just hung up."""
        error = sys.exception()
        if isinstance(error, OSError):
            log.debug("probe_broken_off", reason=reason(error))
        else:
            log.error("probe_failed", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 5  # who connects and says nothing holds a thread no longer

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        page = self.server.pages.get(path, _not_found)()
        self.send_response(page.status)
        self.send_header("Content-Type", page.content_type)
        self.send_header("Content-Length", str(len(page.body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(page.body)

    do_HEAD = do_GET  # noqa: N815 - http.server's word

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - inherited
        pass


def _not_found() -> Page:
    return Page.of_text("not found", HTTPStatus.NOT_FOUND)
