"""Tasks a second through one worker, and five hundred that wait for a model side by side."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from subprocess import Popen

import asyncpg
import psutil
import redis.asyncio

from benchmarks import bare_worker
from benchmarks.carrying import UNLIMITED
from benchmarks.report import Figure, at_least, at_most, beside
from benchmarks.servers import Place, Servers
from benchmarks.tables import empty, fill
from benchmarks.until import until
from benchmarks.yardstick import Rounds, in_turns
from shared.messages import NAMESPACE, QUEUE
from waymark.processes import LOCALHOST, pick_port

TASKS = 3000
"""Of one round."""

SIDE_BY_SIDE = 500
DELAY = 5.0
"""Seconds that the double thinks about each answer."""


async def measure(servers: Servers) -> list[Figure]:
    return [
        *_rates(await _no_cost(await servers.place())),
        *await _many_at_once(await servers.place()),
    ]


def _rates(rounds: Rounds) -> list[Figure]:
    ours, bare = rounds.median("ours"), rounds.median("bare")
    return [
        at_least(
            0.25,
            "worker beside bare Dramatiq",
            rounds.ratio("ours", "bare"),
            "×",
            f"one process, {TASKS:,} tasks, each leased, one free step kept, its roadmap "
            "committed: at least 0.25 × an unmodified Dramatiq worker whose actor is empty",
            seen=beside(ours, bare),
        ),
        at_least(400, "worker tasks per second", ours, "/s", "at least 400 a second"),
    ]


async def _no_cost(place: Place) -> Rounds:
    connection = await place.connect()
    async with redis.asyncio.Redis.from_url(place.redis_url) as client:

        async def ours() -> float:
            await empty(connection)
            async with (
                published(place, connection, client, TASKS),
                place.process("benchmarks.no_cost_worker"),
            ):
                return TASKS / await _span(connection)

        async def bare() -> float:
            broker, nothing = bare_worker.declare(place.redis_url)
            await asyncio.to_thread(lambda: [nothing.send() for _ in range(TASKS)])
            broker.close()
            async with place.process("benchmarks.bare_worker"):
                return TASKS / await _drained(client)

        rounds = await in_turns({"ours": ours, "bare": bare}, rounds=3)
    await connection.close()
    return rounds


@asynccontextmanager
async def published(
    place: Place, connection: asyncpg.Connection, client: redis.asyncio.Redis, tasks: int
) -> AsyncIterator[None]:
    """With so many tasks, all in Redis, and a relay that goes on."""
    await fill(connection, tasks)

    async def in_redis() -> bool:
        return bool(await client.llen(f"{NAMESPACE}:{QUEUE}") >= tasks)

    async with place.process("relay_service", relay_window=UNLIMITED):
        await until(in_redis)
        yield


async def _span(connection: asyncpg.Connection) -> float:
    """Seconds from the first start to the last end, by PostgreSQL's clock."""

    async def all_succeeded() -> bool:
        sql = "SELECT NOT EXISTS (SELECT FROM tasks WHERE status <> 'succeeded')"
        return bool(await connection.fetchval(sql))

    await until(all_succeeded, every=0.2)
    span: float = await connection.fetchval(
        "SELECT extract(epoch FROM max(finished_at) - min(started_at))::float8 FROM tasks"
    )
    return span


async def _drained(client: redis.asyncio.Redis) -> float:
    """Seconds from the first acknowledgement that is seen to the last."""

    async def begun() -> bool:
        return bool(await client.hlen(bare_worker.BODIES) < TASKS)

    async def drained() -> bool:
        return bool(await client.hlen(bare_worker.BODIES) == 0)

    await until(begun, every=0.001)
    since = time.perf_counter()
    await until(drained, every=0.001)
    return time.perf_counter() - since


async def _many_at_once(place: Place) -> list[Figure]:
    port = pick_port()
    connection = await place.connect()
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(redis.asyncio.Redis.from_url(place.redis_url))
        await stack.enter_async_context(published(place, connection, client, SIDE_BY_SIDE))
        await stack.enter_async_context(double(place, port, DELAY))
        process = await stack.enter_async_context(
            place.process("benchmarks.asking_worker", **asking(port, SIDE_BY_SIDE, times=1))
        )
        memory = asyncio.create_task(_peak_memory(process))
        span = await _span(connection)
        memory.cancel()
        peak = await memory
    await connection.close()
    return [
        at_most(
            1.25,
            f"{SIDE_BY_SIDE} side by side beside the ideal",
            span / DELAY,
            "×",
            f"{SIDE_BY_SIDE} generations in one process, each waits {DELAY:g} s for the double "
            f"of a model: all done within 1.25 × {DELAY:g} s",
            seen=f"{span:.2f} s",
        ),
        at_most(
            400,
            f"{SIDE_BY_SIDE} side by side, memory",
            peak / 2**20,
            "MiB",
            "resident memory of that process, at its highest, under 400 MiB",
        ),
    ]


@asynccontextmanager
async def double(place: Place, port: int, delay: float) -> AsyncIterator[None]:
    """The double of a model, which thinks for ``delay`` seconds."""
    async with place.process("tests.double", "--port", str(port), "--delay", str(delay)):
        yield


def asking(port: int, concurrency: int, *, times: int) -> dict[str, object]:
    """Settings of a worker that asks the double at ``port`` so many times for each task."""
    return {
        "llm_model": "double",
        "llm_base_url": f"http://{LOCALHOST}:{port}/v1",
        "llm_side_by_side": times,
        "worker_concurrency": concurrency,
    }


async def _peak_memory(process: Popen[bytes]) -> int:
    """Bytes; the answer comes when it is canceled."""
    peak = 0
    try:
        while True:
            peak = max(peak, psutil.Process(process.pid).memory_info().rss)
            await asyncio.sleep(0.1)
    except asyncio.CancelledError:
        return peak
