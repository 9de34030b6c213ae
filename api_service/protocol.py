"""One connection: how long a head may take, how large it may be, how fast answers are taken.

uvicorn limits none of these, and answers what it cannot parse in plain text.
"""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import Any, NoReturn

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from api_service.problems import MEDIA_TYPE, Problem, document_of
from shared.settings import Settings

MOST_HEADERS = 100
MOST_HEAD_BYTES = 32 * 1024
LONGEST_URL = 8 * 1024


class Connection(HttpToolsProtocol):
    """The timers of a connection: it is awaited, then a head is read, then an answer is taken."""

    read_timeout: float
    write_timeout: float

    def __init__(self, *given: Any, **named: Any) -> None:  # Any: what uvicorn gives
        super().__init__(*given, **named)
        self._reading: asyncio.TimerHandle | None = None
        self._taking: asyncio.TimerHandle | None = None
        self._lingering: asyncio.TimerHandle | None = None
        self._in_head, self._in_body = True, False
        self._head_bytes = 0
        """Of a head that is not complete: as they come, for a header may have no end."""
        self._header_bytes = 0
        self._answering: RequestResponseCycle | None = None
        self._objection = ("malformed-request", "This is not HTTP/1.1 as RFC 9112 has it.")

    # --- the head of a request ---

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in uvicorn
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MOST_HEAD_BYTES and self._is_open():
                self._refuse("header-too-large", f"It may have {MOST_HEAD_BYTES} bytes.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_bytes, self._header_bytes = True, 0, 0
        if self._reading is None:
            self._await_head()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > LONGEST_URL:
            self._object("header-too-large", f"An address may have {LONGEST_URL} bytes.")

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._header_bytes += len(name) + len(value)
        if len(self.headers) > MOST_HEADERS:
            self._object("header-too-large", f"It may have {MOST_HEADERS} headers.")
        if self._header_bytes > MOST_HEAD_BYTES:
            self._object("header-too-large", f"It may have {MOST_HEAD_BYTES} bytes.")

    def on_headers_complete(self) -> None:
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (hosts == 0 and self.parser.get_http_version() == "1.1"):
            self._object("malformed-request", "A request names one host.")  # RFC 9112, section 3.2
        self._in_head, self._in_body = False, True
        _cancel(self._reading)
        self._reading = None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_body = False
        _cancel(self._lingering)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """A body that is not wanted any more may end: to hang up on who still sends it would
        take the answer away as well. But not for ever."""
        super().on_response_complete()
        if self._in_body and self._is_open():
            loop = asyncio.get_running_loop()
            self._lingering = loop.call_later(self.read_timeout, self.transport.close)

    def _object(self, slug: str, sentence: str) -> NoReturn:
        """From a callback of the parser, which then stops and has us answer."""
        self._objection = (slug, sentence)
        raise ValueError(sentence)

    def send_400_response(self, msg: str) -> None:
        self._refuse(*self._objection)

    # --- the end of it ---

    def pause_writing(self) -> None:
        super().pause_writing()
        loop = asyncio.get_running_loop()
        self._taking = loop.call_later(self.write_timeout, self._hang_up)

    def _hang_up(self) -> None:
        if self._answering:
            self._answering.disconnected = True
        self.transport.abort()

    def resume_writing(self) -> None:
        _cancel(self._taking)
        super().resume_writing()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def connection_lost(self, exc: Exception | None) -> None:
        # Of several requests on their way, uvicorn tells the last one alone that its client left.
        if self._answering and not self._answering.response_complete:
            self._answering.disconnected = True
            self._answering.message_event.set()
        for timer in (self._reading, self._taking, self._lingering):
            _cancel(timer)
        super().connection_lost(exc)

    def _await_head(self) -> None:
        loop = asyncio.get_running_loop()
        self._reading = loop.call_later(self.read_timeout, self._too_slow)

    def _too_slow(self) -> None:
        if not self._is_open():
            return
        if self._head_bytes:
            self._refuse("request-timeout", f"Its head did not within {self.read_timeout:g} s.")
        else:
            self.transport.close()

    def _is_open(self) -> bool:
        return not self.transport.is_closing()

    def _refuse(self, slug: str, sentence: str) -> None:
        """Answer by hand, for there is no request; what may follow is not read any more."""
        body = json.dumps(document_of(Problem(slug, sentence))).encode()
        status = HTTPStatus(json.loads(body)["status"])
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: {MEDIA_TYPE}\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer:
        timer.cancel()


def connection_of(settings: Settings) -> type[Connection]:
    """The protocol that uvicorn is to speak, with the limits of the settings."""
    limits = {
        "read_timeout": settings.api_read_timeout,
        "write_timeout": settings.api_write_timeout,
    }
    return type("Connection", (Connection,), limits)
