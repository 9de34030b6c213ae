"""A wire in between that counts round trips, of whatever protocol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from waymark.processes import LOCALHOST


class Proxy:
    """A round trip begins when a client speaks after its server has spoken last."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.server_port = port
        self.port = 0
        self.round_trips = 0

    async def serve(self, near: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        far, requests = await asyncio.open_connection(self.host, self.server_port)
        waiting = False

        async def ask() -> None:
            nonlocal waiting
            while data := await near.read(65536):
                self.round_trips += not waiting
                waiting = True
                requests.write(data)
            requests.close()

        async def answer() -> None:
            nonlocal waiting
            while data := await far.read(65536):
                waiting = False
                answers.write(data)
            answers.close()

        await asyncio.gather(ask(), answer(), return_exceptions=True)


@asynccontextmanager
async def proxy(url: str) -> AsyncIterator[Proxy]:
    """Before the server of this URL."""
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    wire = Proxy(parts.hostname, parts.port)
    async with await asyncio.start_server(wire.serve, LOCALHOST) as server:
        wire.port = server.sockets[0].getsockname()[1]
        yield wire
