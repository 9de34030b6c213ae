"""Streams of events as a bare socket hears them, and an API in the test's own process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import uvicorn
from sqlalchemy import text

from api_service.app import create_app
from api_service.caller import ServiceSet
from api_service.protocol import connection_of
from shared.database import Database
from shared.settings import Settings
from waymark.processes import LOCALHOST, pick_port

PATIENCE = 30
"""Seconds without what is waited for, after which a test has failed."""

MOVE = """
    WITH task AS (
        UPDATE tasks SET version = version + :count WHERE id = ANY (:ids) RETURNING id, version
    )
    INSERT INTO task_events (task_id, seq, type, data)
    SELECT id, version - :count + n, 'step.completed', CAST(:data AS jsonb)
    FROM task, generate_series(1, :count) AS n
"""


async def move_on(
    database: Database, *ids: UUID, count: int = 1, data: Mapping[str, Any] | None = None
) -> None:
    """In one transaction, ``count`` events for each of the tasks."""
    named = {"ids": list(ids), "count": count, "data": json.dumps(data or {})}
    async with database.begin() as session:
        await session.execute(text(MOVE), named)


@dataclass(frozen=True, slots=True)
class Heard:
    """One block of a stream: its fields, or the comment that it is."""

    id: int | None = None
    event: str | None = None
    data: Any = None  # JSON
    comment: str | None = None
    retry: int | None = None

    @classmethod
    def of(cls, block: bytes) -> Heard:
        fields = dict(line.split(": ", 1) for line in block.decode().split("\n"))
        return cls(
            id=int(fields["id"]) if "id" in fields else None,
            event=fields.get("event"),
            data=json.loads(fields["data"]) if "data" in fields else None,
            comment=fields.get(""),
            retry=int(fields["retry"]) if "retry" in fields else None,
        )


@dataclass(slots=True)
class Stream:
    """An answer of which the head was read; its body is read block by block."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    status: int
    headers: dict[str, str]
    received: bytes = b""

    @classmethod
    async def open(cls, port: int, task_id: UUID | str, query: str = "", **headers: str) -> Stream:
        """``headers``: with _ for each hyphen."""
        reader, writer = await asyncio.open_connection(LOCALHOST, port)
        further = "".join(f"{k.replace('_', '-')}: {v}\r\n" for k, v in headers.items())
        head = f"GET /v1/tasks/{task_id}/events{query} HTTP/1.1\r\nHost: x\r\n{further}"
        writer.write(f"{head}Accept: text/event-stream\r\n\r\n".encode())
        status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()[:-1]
        named = dict(line.split(": ", 1) for line in lines)
        return cls(reader, writer, int(status.split()[1]), named)

    async def hear(self) -> Heard | None:
        """The next block; None when the body ends as it should. IncompleteReadError if it breaks
        off."""
        async with asyncio.timeout(PATIENCE):
            while b"\n\n" not in self.received:
                size = int(await self.reader.readuntil(b"\r\n"), 16)
                self.received += (await self.reader.readexactly(size + 2))[:-2]
                if size == 0:
                    assert self.received == b""
                    return None
        block, _, self.received = self.received.partition(b"\n\n")
        return Heard.of(block)

    async def hear_event(self) -> Heard:
        """The next one that is an event."""
        async with asyncio.timeout(PATIENCE):
            while (heard := await self.hear()) is not None:
                if heard.event is not None:
                    return heard
        raise AssertionError("the stream has ended")

    async def hear_all(self) -> list[Heard]:
        """All events until the body ends."""
        events = []
        while (heard := await self.hear()) is not None:
            if heard.event is not None:
                events.append(heard)
        return events

    def vanish(self) -> None:
        """Without a goodbye."""
        self.writer.transport.abort()


@asynccontextmanager
async def stream(
    port: int, task_id: UUID | str, query: str = "", **headers: str
) -> AsyncIterator[Stream]:
    opened = await Stream.open(port, task_id, query, **headers)
    try:
        yield opened
    finally:
        opened.vanish()


@dataclass(frozen=True, slots=True)
class Served:
    port: int
    services: ServiceSet


@asynccontextmanager
async def served(settings: Settings) -> AsyncIterator[Served]:
    """The application behind the real server, its services within reach."""
    app, port = create_app(settings), pick_port()
    config = uvicorn.Config(
        app, host=LOCALHOST, port=port, http=connection_of(settings), log_config=None, lifespan="on"
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        assert not serving.done()
        await asyncio.sleep(0.01)
    try:
        yield Served(port, app.state.services)
    finally:
        server.should_exit = True
        app.state.services.changes.stop()
        await serving
