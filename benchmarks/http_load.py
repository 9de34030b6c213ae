"""``python -m benchmarks.http_load PORT SECONDS STATUS``: sends the request that it reads from
stdin over and over, and counts the answers, which all have to be of that status.

Bytes in, bytes out: whatever this process spends, the server beside it lacks.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import urllib.request
from typing import cast

import uvloop

from benchmarks.yardstick import percentile
from waymark.processes import LOCALHOST

CONNECTIONS = 32

BODY = json.dumps(
    {
        "input": {
            "goal": "Become a backend developer with Python",
            "level": "beginner",
            "hours_per_week": 8,
            "weeks": 26,
        }
    }
).encode()


class Client(asyncio.Protocol):
    """One connection that is kept alive: the next request goes out when the answer is in."""

    def __init__(self, request: bytes, until: float, status: str) -> None:
        self.request = request
        self.until = until
        self.expected = f"HTTP/1.1 {status} ".encode()
        self.took: list[float] = []
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, blank, body = self._received.partition(b"\r\n\r\n")
        if not blank or len(body) < _length(head):
            return
        now = time.perf_counter()
        self.took.append(now - self._sent_at)
        self._received = b""
        if not head.startswith(self.expected):
            self.ended.set_exception(RuntimeError(f"not as expected: {head!r} {body!r}"))
        elif now < self.until:
            self._send()
        else:
            self.ended.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_exception(error or RuntimeError("the server hung up"))

    def _send(self) -> None:
        self._sent_at = time.perf_counter()
        self.transport.write(self.request)


def _length(head: bytes) -> int:
    """Of the body; a 304 has none, and need not say so."""
    return int(head.partition(b"content-length: ")[2].split(b"\r", 1)[0] or b"0")


async def load(port: int, seconds: float, status: str, request: bytes) -> dict[str, float]:
    begun = time.perf_counter()
    clients = [Client(request, begun + seconds, status) for _ in range(CONNECTIONS)]
    loop = asyncio.get_running_loop()
    for client in clients:
        await loop.create_connection(lambda one=client: one, LOCALHOST, port)  # type: ignore[misc] # no types for it
    async with asyncio.timeout(seconds + 10):
        await asyncio.gather(*(client.ended for client in clients))
    took = [one for client in clients for one in client.took]
    return {
        "rate": len(took) / (time.perf_counter() - begun),
        "p99": percentile(took, 99),
    }


def post(path: str) -> bytes:
    """A submission, as bytes."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {LOCALHOST}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(BODY)}\r\n\r\n"
    )
    return head.encode() + BODY


def get(path: str, **headers: str) -> bytes:
    """A request for what is there; ``if_none_match`` stands for If-None-Match."""
    lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()]
    return f"GET {path} HTTP/1.1\r\nHost: {LOCALHOST}\r\n{''.join(lines)}\r\n".encode()


def post_one(port: int) -> bytes:
    """Submit once, without hurry; what the API answered."""
    request = urllib.request.Request(
        f"http://{LOCALHOST}:{port}/v1/tasks",
        data=BODY,
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:  # noqa: S310 - our own http URL
        body: bytes = answer.read()
        return body


if __name__ == "__main__":
    port, seconds, status = sys.argv[1:]
    print(json.dumps(uvloop.run(load(int(port), float(seconds), status, sys.stdin.buffer.read()))))
