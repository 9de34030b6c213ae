"""One connection: how long a head may take, how large it may be, how fast answers are taken.

uvicorn limits none of these, and answers what it cannot parse in plain text.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, NoReturn

import httptools
import structlog
from uuid_utils.compat import uuid7
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from api_service import framing
from api_service.frame import SAFE
from api_service.problems import MEDIA_TYPE, TYPES, Problem, document_of
from shared.settings import Settings

log = structlog.get_logger()

MOST_HEADERS = 100
MOST_HEAD_BYTES = 32 * 1024
LONGEST_URL = 8 * 1024


class Connection(HttpToolsProtocol):
    """Requests are read one after the other, and answered in that order, refusals too."""

    read_timeout: float
    write_timeout: float

    def __init__(self, *given: Any, **named: Any) -> None:  # Any: what uvicorn gives
        super().__init__(*given, **named)
        self._reading = Timer(self.read_timeout, self._too_slow)
        self._lingering = Timer(self.read_timeout, self._close)
        self._taking = Timer(self.write_timeout, self._look_what_is_taken)
        self._untaken = 0
        self._in_head = self._in_body = False
        self._header_bytes = 0
        self._moved = False
        """Whether what came last has completed a head or a body, or a part of a body."""
        self._held_bytes = 0
        """Of a line that is not complete: they are counted as they come, for it may have no end."""
        self._answering: RequestResponseCycle | None = None
        self._objection = ("malformed-request", "This is not HTTP/1.1 as RFC 9112 has it.")
        self._deaf = False
        """Since a request was refused: nothing after it is read as HTTP any more."""
        self._last_words = b""
        """The refusal, while the requests before it are still answered."""

    # --- a request arrives ---

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in uvicorn
        super().connection_made(transport)
        self._reading.start()

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._unset_keepalive_if_required()
        self._moved = False
        self._feed(data)
        if self._deaf:
            return
        self._held_bytes = 0 if self._moved else self._held_bytes + len(data)
        if self._held_bytes > MOST_HEAD_BYTES:
            self._refuse("header-too-large", f"A head may have {MOST_HEAD_BYTES} bytes.")
        elif not self._in_body and not self._is_answering():
            self._reading.start()

    def _feed(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._taken_of(rest) :]
        except httptools.HttpParserError:
            self._refuse(*self._objection)

    def _taken_of(self, data: memoryview) -> int:
        """The parser stops where a client wants to speak another protocol; we speak none."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            return int(upgrade.args[0])
        return len(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._header_bytes = True, 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > LONGEST_URL:
            self._object("header-too-large", f"An address may have {LONGEST_URL} bytes.")

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # a trailer: the headers are being worked with already
        super().on_header(name, value)
        self._header_bytes += len(name) + len(value)
        if len(self.headers) > MOST_HEADERS:
            self._object("header-too-large", f"A head may have {MOST_HEADERS} headers.")
        if self._header_bytes > MOST_HEAD_BYTES:
            self._object("header-too-large", f"A head may have {MOST_HEAD_BYTES} bytes.")

    def on_headers_complete(self) -> None:
        version, upgrade = self.parser.get_http_version(), self.parser.should_upgrade()
        if sentence := framing.objection(version, self.headers, upgrade=upgrade):
            self._object("malformed-request", sentence)
        super().on_headers_complete()
        self._in_head, self._in_body, self._moved = False, True, True
        self._reading.stop()

    def on_body(self, body: bytes) -> None:
        self._moved = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_body, self._moved = False, True
        self._lingering.stop()
        super().on_message_complete()

    def _object(self, slug: str, sentence: str) -> NoReturn:
        """From a callback of the parser, which then stops and has us answer."""
        self._objection = (slug, sentence)
        raise ValueError(sentence)

    def _too_slow(self) -> None:
        if self._in_head:
            sentence = f"Its head was not complete within {self.read_timeout:g} s."
            self._refuse("request-timeout", sentence)
        else:
            self._close()

    # --- it is answered ---

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._is_open():
            self._await_taking()
        elif self._last_words and not self._is_answering():
            self._say(self._last_words)
        elif self._in_body and self.cycle.response_complete:
            # The body is not wanted any more, but may end: see _say.
            self._unset_keepalive_if_required()
            self._lingering.start()
        elif self._in_head and not self._is_answering():
            self._unset_keepalive_if_required()
            self._reading.start()

    def _refuse(self, slug: str, sentence: str) -> None:
        """Answer by hand what is being read."""
        self._deaf = True
        self._reading.stop()
        broken = self.cycle if self._in_body else None
        words = self._refusal(slug, sentence)
        if self._is_answering() and self._answering is not broken:
            self._last_words = words
            if broken:
                self.pipeline.popleft()
            return
        if broken:
            _leave(broken)
        self._say(b"" if broken and broken.response_started else words)

    def _refusal(self, slug: str, sentence: str) -> bytes:
        request_id = str(uuid7())
        log.info("request_refused", code=slug, request_id=request_id, client=self.client)
        document = document_of(Problem(slug, sentence)) | {"request_id": request_id}
        body = json.dumps(document).encode()
        status = HTTPStatus(TYPES[slug].status)
        headers = [
            *self.server_state.default_headers,
            *SAFE,
            (b"request-id", request_id.encode()),
            (b"content-type", MEDIA_TYPE.encode()),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        lines = [b"HTTP/1.1 %d %s" % (status.value, status.phrase.encode())]
        lines += [b"%s: %s" % header for header in headers]
        return b"\r\n".join([*lines, b"", body])

    def _say(self, words: bytes) -> None:
        """To close at once on who still sends would take the words away (RFC 9112, section 9.6)."""
        self.transport.write(words)
        self.transport.write_eof()
        self._lingering.start()

    def _is_answering(self) -> bool:
        return self._answering is not None and not self._answering.response_complete

    # --- the answer is taken, and the end of it ---

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await_taking()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._taking.stop()
        if not self._is_open():
            self._await_taking()

    def timeout_keep_alive_handler(self) -> None:
        self._close()

    def shutdown(self) -> None:
        super().shutdown()
        if not self._is_answering():
            self._close()

    def connection_lost(self, exc: Exception | None) -> None:
        # Of several requests on their way, uvicorn tells the last one alone that its client left.
        if self._answering and self._is_answering():
            _leave(self._answering)
        for timer in (self._reading, self._taking, self._lingering):
            timer.stop()
        super().connection_lost(exc)

    def _close(self) -> None:
        self.transport.close()
        self._await_taking()

    def _await_taking(self) -> None:
        """Without an end, a closed connection would wait for ever for what its client leaves."""
        self._untaken = self.transport.get_write_buffer_size()
        if self._untaken:
            self._taking.start()

    def _look_what_is_taken(self) -> None:
        if self.transport.get_write_buffer_size() < self._untaken:
            self._await_taking()
        else:
            self._hang_up()

    def _hang_up(self) -> None:
        if self._answering:
            _leave(self._answering)
        self.transport.abort()

    def _is_open(self) -> bool:
        return not self.transport.is_closing()


class Timer:
    """Starts once until it is stopped or has gone off."""

    def __init__(self, seconds: float, action: Callable[[], None]) -> None:
        self.seconds = seconds
        self.action = action
        self.handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        if self.handle is None:
            self.handle = asyncio.get_running_loop().call_later(self.seconds, self._go_off)

    def stop(self) -> None:
        if self.handle:
            self.handle.cancel()
            self.handle = None

    def _go_off(self) -> None:
        self.handle = None
        self.action()


def connection_of(settings: Settings) -> type[Connection]:
    """The protocol that uvicorn is to speak, with the limits of the settings."""
    limits = {
        "read_timeout": settings.api_read_timeout,
        "write_timeout": settings.api_write_timeout,
    }
    return type("Connection", (Connection,), limits)


def _leave(cycle: RequestResponseCycle) -> None:
    """Tell the application that its client is not there any more."""
    cycle.disconnected = True
    cycle.message_event.set()
