"""Both clients behind one face, so that each scenario is told once; and peers they may meet."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from waymark import AsyncClient, Client

Kind = Literal["sync", "async"]
KINDS: tuple[Kind, ...] = ("sync", "async")
ITERATORS = ("tasks", "stream")


@asynccontextmanager
async def a_client(kind: Kind, url: str, **options: Any) -> AsyncIterator[AsyncClient]:
    """The client of that kind; the one that waits does so in threads, and looks like the other."""
    if kind == "async":
        async with AsyncClient(url, **options) as client:
            yield client
        return
    with Client(url, **options) as waiting:
        yield cast(AsyncClient, _Threaded(waiting))


class _Threaded:
    def __init__(self, client: Client) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Callable[..., Any]:  # Any: whatever the client has
        method = getattr(self._client, name)
        if name in ITERATORS:
            return lambda *args, **more: _threaded(method(*args, **more))
        return lambda *args, **more: asyncio.to_thread(method, *args, **more)


async def _threaded(iterator: Iterator[Any]) -> AsyncIterator[Any]:
    with contextlib.closing(iterator):  # type: ignore[type-var]  # a generator
        while (item := await asyncio.to_thread(next, iterator, None)) is not None:
            yield item


@dataclass
class Peer:
    """A server that gives one prepared answer a connection, as it is, and then falls silent or
    hangs up."""

    answers: list[bytes]
    falls_silent: bool = False
    heard: list[bytes] = field(default_factory=list)
    url: str = ""

    @classmethod
    @asynccontextmanager
    async def giving(cls, *answers: bytes, falls_silent: bool = False) -> AsyncIterator[Peer]:
        peer = cls(list(answers), falls_silent)
        server = await asyncio.start_server(peer._serve, "127.0.0.1", 0)
        peer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server:
            yield peer

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        try:
            self.heard.append(await client.readuntil(b"\r\n\r\n"))
            last = len(self.answers) == 1
            to_client.write(self.answers[0] if last else self.answers.pop(0))
            await to_client.drain()
            if self.falls_silent:
                await client.read()
        finally:
            to_client.close()
            with contextlib.suppress(OSError):
                await to_client.wait_closed()


def answering(status: str, body: str = "", **headers: str) -> bytes:
    """An HTTP answer, after which the connection ends. ``Retry_After`` is Retry-After."""
    head = [f"HTTP/1.1 {status}", "Connection: close"]
    head += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(head) + "\r\n\r\n" + body).encode()
