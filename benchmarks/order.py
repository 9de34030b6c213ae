"""What real relays put into Redis first, and how soon again after Redis has forgotten all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import redis.asyncio

from benchmarks.report import Figure, at_most
from benchmarks.servers import Place
from benchmarks.tables import empty, fill
from benchmarks.yardstick import in_turns
from relay_service.window import AT_LEAST as WINDOW
from shared.lifecycle import Priority
from shared.messages import NAMESPACE, QUEUE

QUEUE_KEY = f"{NAMESPACE}:{QUEUE}"
BACKLOG = 10_000
LATE = 10
"""Tasks that come when the backlog is already there."""

PATIENCE = 60.0


async def measure(place: Place) -> list[Figure]:
    async with _bench(place) as bench:
        async with place.process("relay_service"):
            turns = await in_turns({"tenant": bench.late_tenant, "high": bench.late_high})
        async with place.process("relay_service", relay_window=2 * BACKLOG):
            flushed = await in_turns({"again": bench.flush})
    return [
        at_most(
            2 * WINDOW,
            "others before a late tenant's tasks",
            turns.median("tenant"),
            "tasks",
            f"{LATE} tasks behind another tenant's {BACKLOG:,} all start within two windows",
        ),
        at_most(
            WINDOW,
            "others before late high tasks",
            turns.median("high"),
            "tasks",
            f"{LATE} tasks of high priority behind {BACKLOG:,} of normal all start within one "
            "window",
        ),
        at_most(
            5,
            "all published again after FLUSHALL",
            flushed.median("again"),
            "s",
            f"at most 5 s, {BACKLOG:,} in flight",
        ),
    ]


class Bench:
    def __init__(self, connection: asyncpg.Connection, client: redis.asyncio.Redis) -> None:
        self.connection = connection
        self.client = client

    async def late_tenant(self) -> float:
        await self._fill_up()
        await fill(self.connection, LATE, tenant="late")
        return await self._others_before("tenant_id = 'late'")

    async def late_high(self) -> float:
        await self._fill_up()
        await fill(self.connection, LATE, priority=Priority.HIGH)
        return await self._others_before(f"priority = {Priority.HIGH}")

    async def flush(self) -> float:
        """Seconds from the loss to the last message's return."""
        await self._start_over()
        await fill(self.connection, BACKLOG)
        await self._wait_for(BACKLOG)
        begun = time.perf_counter()
        await self.client.flushall()
        await self._wait_for(BACKLOG)
        return time.perf_counter() - begun

    async def _fill_up(self) -> None:
        await self._start_over()
        await fill(self.connection, BACKLOG)
        await self._wait_for(WINDOW)

    async def _start_over(self) -> None:
        await empty(self.connection)
        await self.client.delete(QUEUE_KEY, f"{QUEUE_KEY}.msgs")

    async def _wait_for(self, depth: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while True:
                if await self.client.llen(QUEUE_KEY) >= depth:
                    return
                await asyncio.sleep(0.01)

    async def _others_before(self, late: str) -> int:
        """Take like a worker, one by one, until all the late ones have come."""
        rows = await self.connection.fetch(f"SELECT id FROM tasks WHERE {late}")  # noqa: S608 - fixed text
        awaited = {str(row["id"]) for row in rows}
        others = 0
        while awaited:
            message_id = await self._pop()
            task_id = message_id.partition(":")[0]
            others += task_id not in awaited
            awaited.discard(task_id)
            await self.connection.execute(TAKE, task_id)
        return others

    async def _pop(self) -> str:
        found = await self.client.blpop([QUEUE_KEY], timeout=PATIENCE)
        if found is None:
            raise TimeoutError("the relay publishes nothing")
        message_id = found[1]
        assert isinstance(message_id, str)
        await self.client.hdel(f"{QUEUE_KEY}.msgs", message_id)
        return message_id


TAKE = "DELETE FROM outbox_messages WHERE task_id = CAST($1::text AS uuid)"


@asynccontextmanager
async def _bench(place: Place) -> AsyncIterator[Bench]:
    connection = await place.connect()
    async with redis.asyncio.Redis.from_url(place.redis_url, decode_responses=True) as client:
        yield Bench(connection, client)
    await connection.close()
