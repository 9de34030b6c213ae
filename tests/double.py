"""A double of an OpenAI-compatible server: the real protocol on a real socket, and a ledger."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import uvloop

from shared.process import announce_ready
from shared.settings import load_settings
from tests.double_answers import answer_to, completion, shape_asked_for
from tests.double_faults import Exchange, Fault, fault_from

PATH = "/v1/chat/completions"
NOT_FOUND = b'{"error": {"message": "there is nothing here"}}'
BACKLOG = 2048
"""A thousand calls may begin at the same moment; the usual 100 would reset some of them."""
KEPT = 1000
"""Requests that are remembered; a long run must not fill the memory."""


@dataclass(frozen=True, slots=True)
class Request:
    target: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def json(self) -> Any:  # as its client made it
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Served:
    """A line of the ledger. ``begun`` and ``ended`` are seconds since 1970."""

    key: str
    shape: str
    begun: float
    ended: float
    answered: bool
    """False if the client left before the answer was written, or the answer was never whole."""


class Double:
    """``async with Double() as double``: answers at ``double.url`` until the end of the block."""

    def __init__(
        self,
        *,
        port: int = 0,
        delay: float = 0.0,
        concepts: int = 6,
        ledger: Path | None = None,
    ) -> None:
        self.delay = delay
        self.deaf = False
        """Connections are taken, and nothing is ever read from them."""
        self.calls: list[Served] = []
        self.requests: deque[Request] = deque(maxlen=KEPT)
        self._port = port
        self._concepts = concepts
        self._ledger = ledger.open("a", encoding="utf-8") if ledger else None
        self._scripts: dict[str, deque[Fault]] = defaultdict(deque)
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    def script(self, shape: str, *faults: Fault) -> None:
        """The next calls for ``shape`` ("*": for any) meet these, one each."""
        self._scripts[shape].extend(faults)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._connected, "127.0.0.1", self._port, backlog=BACKLOG
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()
        if self._ledger:
            self._ledger.close()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.create_task(self._serve(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests: asyncio.Queue[Request | None] = asyncio.Queue()
        listening = asyncio.create_task(self._listen(reader, requests))
        try:
            while (request := await requests.get()) and not writer.is_closing():
                await self._answer(request, writer, listening)
        finally:
            listening.cancel()
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await listening
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _listen(
        self, reader: asyncio.StreamReader, requests: asyncio.Queue[Request | None]
    ) -> None:
        """Reads on while a call is answered: so it ends as soon as the client is gone."""
        try:
            while not self.deaf:
                requests.put_nowait(await read_request(reader))
            await asyncio.Event().wait()
        except (asyncio.IncompleteReadError, OSError):
            requests.put_nowait(None)

    async def _answer(
        self, request: Request, writer: asyncio.StreamWriter, listening: asyncio.Task[None]
    ) -> None:
        if not request.target.endswith(PATH):
            return await Exchange(NOT_FOUND, writer).send(NOT_FOUND, 404)
        begun = time.time()
        self.requests.append(request)
        shape = shape_asked_for(request.json)
        exchange = Exchange(self._usual(shape, request), writer)
        work = asyncio.create_task(self._play(exchange, self._fault(shape)))
        try:
            await asyncio.wait({work, listening}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            work.cancel()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await work
            key = request.headers.get("idempotency-key", "")
            self._note(Served(key, shape, begun, time.time(), exchange.answered))

    async def _play(self, exchange: Exchange, fault: Fault | None) -> None:
        await asyncio.sleep(self.delay)
        if fault is None:
            await exchange.send(exchange.usual)
        else:
            await fault.play(exchange)

    def _usual(self, shape: str, request: Request) -> bytes:
        return completion(json.dumps(answer_to(shape, request.json, self._concepts)))

    def _fault(self, shape: str) -> Fault | None:
        for scripted in (self._scripts[shape], self._scripts["*"]):
            if scripted:
                return scripted.popleft()
        return None

    def _note(self, served: Served) -> None:
        self.calls.append(served)
        if self._ledger:
            self._ledger.write(json.dumps(asdict(served)) + "\n")
            self._ledger.flush()
            os.fsync(self._ledger.fileno())


async def read_request(reader: asyncio.StreamReader) -> Request:
    """Raises IncompleteReadError at the end of the connection."""
    top, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    named = (line.partition(":") for line in lines if line)
    headers = {name.lower(): value.strip() for name, _, value in named}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(top.split(" ")[1], headers, body)


async def serve(options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    double = Double(
        port=options.port, delay=options.delay, concepts=options.concepts, ledger=options.ledger
    )
    for shape, faults in options.faults.items():
        double.script(shape, *map(fault_from, faults))
    async with double:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        announce_ready(load_settings())
        await stop.wait()


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.double", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ledger", type=Path, help="one JSON line for each call, synced")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--concepts", type=int, default=6, help="concepts of a design")
    parser.add_argument(
        "--faults",
        type=lambda path: json.loads(Path(path).read_text(encoding="utf-8")),
        default={},
        help='a file: {"Design": [{"status": 429, "headers": {"Retry-After": "1"}}]}',
    )
    return parser.parse_args()


if __name__ == "__main__":
    uvloop.run(serve(parse_options()))
