"""A TCP proxy between a role and its server: what a network, a pooler or a failover may do."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Literal
from urllib.parse import urlsplit

Strike = Literal["lose the request", "lose the reply", "hold"]


class Wire:
    """It can refuse calls, lead them elsewhere, and strike when a request has its cue in it."""

    def __init__(self, url: str, cue: bytes = b"COMMIT;", confirmed_by: bytes = b"COMMIT") -> None:
        self._url = urlsplit(url)
        self._target = self._url
        self._cue = cue
        self._confirmed_by = confirmed_by
        self._server: asyncio.Server | None = None
        self._calls: set[asyncio.Task[None]] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self.refusals = 0
        self.strikes: list[Strike] = []
        self.frozen = False
        self.holding = asyncio.Event()
        self.released = asyncio.Event()
        self.swallows: bytes | None = None
        """A kind of PostgreSQL's messages that never arrives; the client must not ask for TLS."""

    @property
    def url(self) -> str:
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        return self._url.geturl().replace(f":{self._url.port}/", f":{port}/")

    async def open(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._call, "127.0.0.1", port)

    def lead_to(self, url: str) -> None:
        """Where new connections go; open ones stay where they are."""
        self._target = urlsplit(url)

    async def cut(self) -> None:
        """Break all open connections; new ones are taken."""
        open_now = set(self._calls)
        while open_now := open_now & self._calls:
            for pump in self._pumps:
                pump.cancel()
            await asyncio.wait(open_now, timeout=0.02)  # one may still be on its way through

    async def close(self) -> None:
        """As if the server were gone: new connections are refused, open ones break."""
        assert self._server is not None
        self._server.close()
        await self.cut()

    async def _call(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._calls.add(task)
        try:
            await self._carry(client, to_client)
        finally:
            to_client.close()
            with contextlib.suppress(OSError):
                await to_client.wait_closed()
            self._calls.discard(task)

    async def _carry(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        if self.refusals:
            self.refusals -= 1
            return
        server, to_server = await asyncio.open_connection(self._target.hostname, self._target.port)
        answers = asyncio.create_task(self._answer(server, to_client))
        requests = asyncio.create_task(self._listen_for_cue(client, server, to_server, answers))
        self._pumps |= {answers, requests}
        await asyncio.wait({answers, requests}, return_when=asyncio.FIRST_COMPLETED)
        if not answers.cancelled():
            requests.cancel()
        await asyncio.wait({requests})
        answers.cancel()
        await asyncio.wait({answers})
        self._pumps -= {answers, requests}
        to_server.close()
        with contextlib.suppress(OSError):
            await to_server.wait_closed()

    async def _listen_for_cue(
        self,
        client: asyncio.StreamReader,
        server: asyncio.StreamReader,
        to_server: asyncio.StreamWriter,
        answers: asyncio.Task[None],
    ) -> None:
        while data := await client.read(65536):
            if self.frozen:
                continue
            strike = self.strikes.pop(0) if self._cue in data and self.strikes else None
            if strike == "lose the request":
                return
            if strike == "hold":
                self.holding.set()
                await self.released.wait()
            if strike == "lose the reply":
                answers.cancel()
                await asyncio.wait({answers})
                to_server.write(data)
                assert self._confirmed_by in await server.read(65536)
                return
            to_server.write(data)
            await to_server.drain()

    async def _answer(self, server: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            if self.swallows:
                await self._answer_but(self.swallows, server, to_client)
            while data := await server.read(65536):
                to_client.write(data)
                await to_client.drain()

    async def _answer_but(
        self, swallowed: bytes, server: asyncio.StreamReader, to_client: asyncio.StreamWriter
    ) -> None:
        """Message by message, each a letter and its length; the letter is its kind."""
        while True:
            head = await server.readexactly(5)
            body = await server.readexactly(int.from_bytes(head[1:]) - 4)
            if head[:1] != swallowed:
                to_client.write(head + body)
                await to_client.drain()
