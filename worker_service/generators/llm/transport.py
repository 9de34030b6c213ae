"""The transport under the SDK: spreads calls over pools, and bounds the time and size of each."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import cast
from urllib.request import getproxies, proxy_bypass

import httpx2

POOLS = 16
"""A pool looks at all of its connections for each request: small pools keep that cheap."""

LIMITS = httpx2.Limits(
    max_connections=None,  # a call that waits for a connection would seem to wait for the model
    # None is used twice. A server that sends more than it announced would answer the next call,
    # of another task, with the rest; and beside what a model takes, to connect costs nothing.
    max_keepalive_connections=0,
)


class Unacceptable(Exception):
    """The server sends what was not asked for, so the rest of its answer is not read."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Seconds from the start of a call to its headers and to its end; bytes of its body."""

    first_byte: float
    total: float
    max_bytes: int


@dataclass(frozen=True, slots=True)
class Pool:
    transport: httpx2.AsyncHTTPTransport
    calls: set[httpx2.Request] = field(default_factory=set)

    def busy(self) -> int:
        return len(self.calls)


class BoundedTransport(httpx2.AsyncBaseTransport):
    """Raises httpx2.ReadTimeout and Unacceptable for its bounds, else what httpx2 raises."""

    def __init__(self, url: str, bounds: Bounds) -> None:
        self._bounds = bounds
        tls = httpx2.create_ssl_context()  # one for all: each would hold all certificates
        proxy = proxy_for(httpx2.URL(url))
        self._pools = [
            Pool(httpx2.AsyncHTTPTransport(verify=tls, limits=LIMITS, proxy=proxy))
            for _ in range(POOLS)
        ]

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        deadline = asyncio.get_running_loop().time() + self._bounds.total
        pool = min(self._pools, key=Pool.busy)
        pool.calls.add(request)
        try:
            response = await self._headers(pool, request)
            await _refuse_compressed(response)
        except BaseException:
            pool.calls.discard(request)
            raise
        body = BoundedBody(
            cast(httpx2.AsyncByteStream, response.stream),
            deadline=deadline,
            max_bytes=self._bounds.max_bytes,
            on_close=partial(pool.calls.discard, request),
        )
        return httpx2.Response(
            response.status_code,
            headers=response.headers,
            stream=body,
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        for pool in self._pools:
            await pool.transport.aclose()

    async def _headers(self, pool: Pool, request: httpx2.Request) -> httpx2.Response:
        try:
            async with asyncio.timeout(min(self._bounds.first_byte, self._bounds.total)):
                return await pool.transport.handle_async_request(request)
        except TimeoutError:
            raise httpx2.ReadTimeout("no first byte in time", request=request) from None


class BoundedBody(httpx2.AsyncByteStream):
    """A body up to its deadline and size, whatever its headers promised."""

    def __init__(
        self,
        body: httpx2.AsyncByteStream,
        *,
        deadline: float,
        max_bytes: int,
        on_close: Callable[[], None],
    ) -> None:
        self._body = body
        self._deadline = deadline
        self._max_bytes = max_bytes
        self._on_close = on_close

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = self._max_bytes
        # httpx2 calls it an iterator; it is a generator, which is ended here and not by chance
        async with contextlib.aclosing(cast(AsyncGenerator[bytes], aiter(self._body))) as chunks:
            while (chunk := await self._next(chunks)) is not None:
                left -= len(chunk)
                if left < 0:
                    raise Unacceptable(f"an answer over {self._max_bytes} bytes")
                yield chunk

    async def aclose(self) -> None:
        self._on_close()
        await self._body.aclose()

    async def _next(self, chunks: AsyncGenerator[bytes]) -> bytes | None:
        try:
            async with asyncio.timeout_at(self._deadline):
                return await anext(chunks, None)
        except TimeoutError:
            raise httpx2.ReadTimeout("the answer took too long") from None


async def _refuse_compressed(response: httpx2.Response) -> None:
    """We ask for none: a small compressed body may hold gigabytes, which no cap of bytes sees."""
    if response.headers.get("content-encoding", "identity") != "identity":
        await response.aclose()
        raise Unacceptable("a compressed answer")


def proxy_for(url: httpx2.URL) -> str | None:
    """The proxy that the environment names for ``url``; none for this machine itself."""
    if _is_loopback(url.host) or proxy_bypass(url.host):
        return None
    proxies = getproxies()
    return proxies.get(url.scheme) or proxies.get("all")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
