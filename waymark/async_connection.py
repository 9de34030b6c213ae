"""A connection to one API, for callers that await: it carries out talks (see exchange.py)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
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


class AsyncConnection:
    """Of one event loop; safe to share among its tasks. Times are in seconds.

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
        self._loop: asyncio.AbstractEventLoop | None = None
        self._http = httpx2.AsyncClient(**options_of(self.url, headers, verify))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,  # Any: whatever JSON can hold
        headers: Mapping[str, str] | None = None,
    ) -> Document:
        """The document that the API answers with. Raises ApiError, Unreachable."""
        answer = await self.run(exchange(Call(method, path, params or {}, json, headers or {})))
        return answer.document

    async def ask(self, call: Call, read: Callable[[Document], T]) -> T:
        answer = await self.run(exchange(call))
        return read(answer.document)

    async def run(self, talk: Talk[T]) -> T:
        """What the talk returns. It gives nothing on the way."""
        line, reply = self._line(), None
        while True:
            try:
                effect = talk.send(reply)
            except StopIteration as end:
                result: T = end.value
                return result
            reply = await line.do(effect)

    async def each(self, talk: Talk[None], read: Callable[[Any], T]) -> AsyncGenerator[T, None]:
        """What the talk gives, as it comes. Closing the iterator hangs up."""
        line, reply = self._line(), None
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
                    reply = await line.do(effect)
        finally:
            await line.hang_up()

    def _line(self) -> _Line:
        """Raises RuntimeError in another event loop than the first: connections belong to one."""
        loop = asyncio.get_running_loop()
        if self._loop not in (None, loop):
            raise RuntimeError("A client is of one event loop: make one inside this one.")
        self._loop = loop
        return _Line(self._http, self)


class _Line:
    """What one talk has open."""

    def __init__(self, http: httpx2.AsyncClient, connection: AsyncConnection) -> None:
        self._http = http
        self._url = connection.url
        self._timeout = connection.timeout
        self._pausing = connection.pausing
        self._response: httpx2.Response | None = None
        self._chunks: AsyncIterator[bytes]

    async def do(self, effect: Effect) -> Reply | bytes | None:
        match effect:
            case Send(call):
                return await self._send(call)
            case Open(call):
                return await self._open(call)
            case Hear():
                return await self._hear()
            case HangUp():
                await self.hang_up()
            case Pause(seconds):
                self._pausing(effect)
                await asyncio.sleep(seconds)
            case Give():
                raise AssertionError(f"{effect} is for who iterates")
        return None

    async def hang_up(self) -> None:
        if self._response is not None:
            await self._response.aclose()
            self._response = None

    async def _send(self, call: Call) -> Reply:
        try:
            response = await self._http.send(self._request(call))
        except FAILURES as error:
            return lost(error, self._url)
        return answer_of(response, response.content)

    async def _open(self, call: Call) -> Reply:
        await self.hang_up()
        try:
            response = await self._http.send(self._request(call), stream=True)
            if not is_stream(response):
                return answer_of(response, await response.aread())
        except FAILURES as error:
            return lost(error, self._url)
        self._response, self._chunks = response, response.aiter_bytes()
        return answer_of(response)

    async def _hear(self) -> bytes | Lost:
        try:
            return await anext(self._chunks, b"")
        except FAILURES as error:
            return lost(error, self._url)

    def _request(self, call: Call) -> httpx2.Request:
        return self._http.build_request(**request_of(self._url, call, self._timeout))
