"""What may go wrong with a call of a model: each fault plays in place of the usual answer."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol

from tests.double_answers import USAGE, completion

JSON_BODY = {"Content-Type": "application/json"}


@dataclass(slots=True)
class Exchange:
    """One call: the usual answer to it, and the wire that an answer goes over."""

    usual: bytes
    writer: asyncio.StreamWriter
    answered: bool = False
    """Whether an answer was written to its end."""

    async def send(
        self, body: bytes, status: int = 200, headers: Mapping[str, str] = JSON_BODY
    ) -> None:
        self.writer.write(head(status, {**headers, "Content-Length": str(len(body))}) + body)
        await self.writer.drain()
        self.answered = True

    async def begin(self, headers: Mapping[str, str]) -> None:
        self.writer.write(head(200, {**JSON_BODY, **headers}))
        await self.writer.drain()

    def reset(self) -> None:
        """Hang up without a farewell: the other side sees a reset connection."""
        wire: socket.socket = self.writer.get_extra_info("socket")
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class Fault(Protocol):
    async def play(self, exchange: Exchange) -> None: ...


@dataclass(frozen=True, slots=True)
class Status:
    """Any HTTP answer."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = '{"error": {"message": "the double was told so"}}'

    async def play(self, exchange: Exchange) -> None:
        await exchange.send(self.body.encode(), self.status, {**JSON_BODY, **self.headers})


@dataclass(frozen=True, slots=True)
class Says:
    """A chat completion with this content: text as it is, anything else as JSON."""

    content: object
    finish: str = "stop"
    refusal: str | None = None
    usage: object = field(default_factory=lambda: USAGE)

    async def play(self, exchange: Exchange) -> None:
        content = self.content
        if content is not None and not isinstance(content, str):
            content = json.dumps(content)
        await exchange.send(
            completion(content, finish=self.finish, refusal=self.refusal, usage=self.usage)
        )


@dataclass(frozen=True, slots=True)
class Silence:
    """The call is taken and never answered."""

    async def play(self, exchange: Exchange) -> None:
        await asyncio.Event().wait()


@dataclass(frozen=True, slots=True)
class Drip:
    """Headers at once, then a byte each ``every`` seconds, for ever."""

    every: float = 1.0
    tenth: asyncio.Event = field(default_factory=asyncio.Event, compare=False)
    """Set when ten bytes are sent: then the answer has begun for the client too."""

    async def play(self, exchange: Exchange) -> None:
        await exchange.begin({"Transfer-Encoding": "chunked"})
        for sent in itertools.count():
            await send_chunk(exchange.writer, b" ")
            if sent == 10:
                self.tenth.set()
            await asyncio.sleep(self.every)


@dataclass(frozen=True, slots=True)
class Flood:
    """A body of so many bytes, which no header announces."""

    size: int = 100 * 1024 * 1024

    async def play(self, exchange: Exchange) -> None:
        await exchange.begin({"Transfer-Encoding": "chunked"})
        part = b" " * 65536
        for _ in range(self.size // len(part)):
            await send_chunk(exchange.writer, part)
        await send_chunk(exchange.writer, b"")
        exchange.answered = True


@dataclass(frozen=True, slots=True)
class Cut:
    """A share of the usual answer, then the end of the connection: a reset, or a plain close."""

    share: float = 0.5
    reset: bool = False

    async def play(self, exchange: Exchange) -> None:
        length = len(exchange.usual)
        await exchange.begin({"Content-Length": str(length)})
        exchange.writer.write(exchange.usual[: int(length * self.share)])
        await exchange.writer.drain()
        exchange.answered = self.share >= 1
        exchange.reset() if self.reset else exchange.writer.close()


NO_CHOICES = Status(200, body=json.dumps({"choices": [], "usage": USAGE}))
HTML = Status(200, {"Content-Type": "text/html"}, "<html><body>Bad gateway</body></html>")


def fault_from(document: Mapping[str, Any]) -> Fault:
    """A fault as a file names it: {"status": 429, "headers": {…}}, {"cut": 0.5, "reset": true}."""
    match dict(document):
        case {"status": status, **rest}:
            return Status(status, **rest)
        case {"content": content, **rest}:
            return Says(content, **rest)
        case {"silence": _}:
            return Silence()
        case {"drip": every}:
            return Drip(every)
        case {"flood": size}:
            return Flood(size)
        case {"cut": share, **rest}:
            return Cut(share, **rest)
    raise ValueError(f"no fault is named like this: {document}")


def head(status: int, headers: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


async def send_chunk(writer: asyncio.StreamWriter, part: bytes) -> None:
    writer.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
    await writer.drain()
