"""A connection to one API, for callers that wait: it carries out talks (see exchange.py)."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from ssl import SSLContext
from typing import Any, Self

import httpx2

from waymark.errors import Document
from waymark.exchange import (
    Call,
    Effect,
    Give,
    HangUp,
    Hear,
    Lost,
    Open,
    Pause,
    Reply,
    Send,
    T,
    Talk,
    exchange,
)
from waymark.transport import FAILURES, answer_of, is_stream, lost, options_of, request_of


class Connection:
    """Safe to share among threads. Times are in seconds.

    ``timeout`` is for a request without an answer; ``patience`` for an API that is away while a
    task is awaited or followed; ``silence`` for a stream without a sign of life: three pings.
    ``headers`` go along with each request; ``verify`` is True, or a context that knows who signed
    the API's certificate; ``pausing`` is told of each pause before another try, and why.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 10,
        patience: float = 30,
        silence: float = 45,
        headers: Mapping[str, str] | None = None,
        verify: bool | SSLContext = True,
        pausing: Callable[[Pause], object] = lambda _pause: None,
    ) -> None:
        self.url = url.rstrip("/")
        self.timeout = timeout
        self.patience = patience
        self.silence = silence
        self.pausing = pausing
        self._http = httpx2.Client(**options_of(self.url, headers, verify))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,  # Any: whatever JSON can hold
        headers: Mapping[str, str] | None = None,
    ) -> Document:
        """The document that the API answers with. Raises ApiError, Unreachable."""
        answer = self.run(exchange(Call(method, path, params or {}, json, headers or {})))
        return answer.document

    def ask(self, call: Call, read: Callable[[Document], T]) -> T:
        answer = self.run(exchange(call))
        return read(answer.document)

    def run(self, talk: Talk[T]) -> T:
        """What the talk returns. It gives nothing on the way."""
        line, reply = _Line(self._http, self), None
        while True:
            try:
                effect = talk.send(reply)
            except StopIteration as end:
                result: T = end.value
                return result
            reply = line.do(effect)

    def each(self, talk: Talk[None], read: Callable[[Any], T]) -> Generator[T, None, None]:
        """What the talk gives, as it comes. Closing the iterator hangs up."""
        line, reply = _Line(self._http, self), None
        try:
            while True:
                try:
                    effect = talk.send(reply)
                except StopIteration:
                    return
                if isinstance(effect, Give):
                    yield read(effect.item)
                    reply = None
                else:
                    reply = line.do(effect)
        finally:
            line.hang_up()


class _Line:
    """What one talk has open."""

    def __init__(self, http: httpx2.Client, connection: Connection) -> None:
        self._http = http
        self._url = connection.url
        self._timeout = connection.timeout
        self._pausing = connection.pausing
        self._response: httpx2.Response | None = None
        self._chunks: Iterator[bytes]

    def do(self, effect: Effect) -> Reply | bytes | None:
        match effect:
            case Send(call):
                return self._send(call)
            case Open(call):
                return self._open(call)
            case Hear():
                return self._hear()
            case HangUp():
                self.hang_up()
            case Pause(seconds):
                self._pausing(effect)
                time.sleep(seconds)
            case Give():
                raise AssertionError(f"{effect} is for who iterates")
        return None

    def hang_up(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None

    def _send(self, call: Call) -> Reply:
        try:
            response = self._http.send(self._request(call))
        except FAILURES as error:
            return lost(error, self._url)
        return answer_of(response, response.content)

    def _open(self, call: Call) -> Reply:
        self.hang_up()
        try:
            response = self._http.send(self._request(call), stream=True)
            if not is_stream(response):
                return answer_of(response, response.read())
        except FAILURES as error:
            return lost(error, self._url)
        self._response, self._chunks = response, response.iter_bytes()
        return answer_of(response)

    def _hear(self) -> bytes | Lost:
        try:
            return next(self._chunks, b"")
        except FAILURES as error:
            return lost(error, self._url)

    def _request(self, call: Call) -> httpx2.Request:
        return self._http.build_request(**request_of(self._url, call, self._timeout))
