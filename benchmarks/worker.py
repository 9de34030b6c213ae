"""How soon a committed task starts when all is idle, and what a worker gets done."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import datetime
from statistics import median
from typing import Any, TypeVar

import asyncpg
import redis.asyncio

from benchmarks import finishing, http_load, resuming, stock_worker
from benchmarks.report import Figure, at_most, for_orientation
from benchmarks.servers import Place, Servers
from benchmarks.tables import fill
from benchmarks.yardstick import percentile
from shared.logs import TASK_COMMITTED
from shared.settings import Settings
from waymark.processes import pick_port

BRISK, QUIET = 0.3, 3.0
"""Seconds between two tasks: while doorbells are warm, and after everything has gone to sleep."""

PATIENCE = 30.0

Done = TypeVar("Done")


async def measure(servers: Servers, long: bool) -> list[Figure]:
    times = {BRISK: 300, QUIET: 40} if long else {BRISK: 120, QUIET: 10}
    rung = await servers.place()
    brisk, quiet, stock = await _rung(rung, times)
    polled = await _polled(await servers.place(), 200 if long else 60)
    return [
        *_figures(f"a task every {BRISK:g} s", brisk),
        *_figures(f"a task every {QUIET:g} s", quiet),
        at_most(
            60,
            "start by polling alone, p50",
            1000 * median(polled),
            "ms",
            "at most 60 ms from commit to start, p50, where no doorbell is heard",
            seen=f"p99 {1000 * percentile(polled, 99):.1f} ms",
        ),
        for_orientation(
            "start beside stock Dramatiq, p50",
            median(brisk) / median(stock),
            "×",
            "from commit to start, verified, beside an unmodified Dramatiq worker's from enqueue "
            "to start, in turns",
            seen=f"{1000 * median(brisk):.1f} ms beside {1000 * median(stock):.1f} ms",
        ),
        *await finishing.measure(servers),
        *await resuming.measure(servers),
    ]


def _figures(rhythm: str, waits: list[float]) -> list[Figure]:
    return [
        at_most(
            limit,
            f"start, {rhythm}, p{percent}",
            1000 * percentile(waits, percent),
            "ms",
            f"at most {limit} ms from commit to start, p{percent}, {rhythm}, all else idle",
            seen=f"{len(waits)} tasks, longest {1000 * max(waits):.1f} ms",
        )
        for percent, limit in ((50, 10), (99, 30))
    ]


async def _rung(
    place: Place, times: dict[float, int]
) -> tuple[list[float], list[float], list[float]]:
    """Over HTTP, through all three services; after each task, one for the stock worker."""
    port = pick_port()
    async with AsyncExitStack() as stack:
        for module in ("relay_service", "worker_service", "benchmarks.stock_worker"):
            await stack.enter_async_context(place.process(module))
        await stack.enter_async_context(place.process("api_service", api_port=port))
        broker, actor = stock_worker.declare(place.redis_url)
        stack.callback(broker.close)
        sent: list[float] = []

        async def submit() -> str:
            answer = await asyncio.to_thread(http_load.post_one, port)
            return str(json.loads(answer)["id"])

        async def submit_and_send() -> str:
            task_id = await submit()
            await asyncio.sleep(BRISK / 2)
            actor.send()
            sent.append(time.time())
            return task_id

        brisk = await _repeat(submit_and_send, BRISK, times[BRISK])
        quiet = await _repeat(submit, QUIET, times[QUIET])
        connection = await place.connect()
        started = await _starts(connection, len(brisk + quiet))
        await connection.close()
        async with redis.asyncio.Redis.from_url(place.redis_url) as client:
            found = await client.lrange(stock_worker.STARTED, 0, -1)
        stock = [float(one) - before for one, before in zip(found, sent, strict=True)]
    committed = _commits(place)
    waits = {task_id: started[task_id] - committed[task_id] for task_id in started}
    # The first ones were to warm up.
    return [waits[one] for one in brisk[1:]], [waits[one] for one in quiet], stock[1:]


async def _polled(place: Place, times: int) -> list[float]:
    """Nobody rings, and the relay polls as it does where it hears no doorbell."""
    poll = Settings.model_fields["relay_poll"].default
    connection = await place.connect()

    async def insert() -> float:
        await fill(connection, 1)
        return time.time()

    async with (
        place.process("relay_service", relay_poll_listening=poll),
        place.process("worker_service"),
    ):
        committed = await _repeat(insert, BRISK, times)
        started = await _starts(connection, times)
    await connection.close()
    pairs = zip(started.values(), committed, strict=True)
    return [start - commit for start, commit in pairs][1:]


async def _repeat(one: Callable[[], Awaitable[Done]], pause: float, times: int) -> list[Done]:
    """At this rhythm, but never in step with anybody's polls."""
    done: list[Done] = []
    for _ in range(times):
        begun = time.perf_counter()
        done.append(await one())
        took = time.perf_counter() - begun
        await asyncio.sleep(random.uniform(0.9, 1.1) * pause - took)
    return done


async def _starts(connection: asyncpg.Connection, tasks: int) -> dict[str, float]:
    """When each task started, oldest first, by the clock that all on this machine share."""
    deadline = time.monotonic() + PATIENCE
    while True:
        rows = await connection.fetch("SELECT id, started_at FROM tasks ORDER BY created_at")
        if len(rows) == tasks and all(row["started_at"] for row in rows):
            return {str(row["id"]): row["started_at"].timestamp() for row in rows}
        if time.monotonic() > deadline:
            raise TimeoutError("a task did not start")
        await asyncio.sleep(0.1)


def _commits(place: Place) -> dict[str, float]:
    """When the API learned of each task's commit."""
    found = {}
    for text in (place.folder / "api_service.log").read_text().splitlines():
        line: dict[str, Any] = json.loads(text)
        if line["event"] == TASK_COMMITTED:
            found[line["task_id"]] = datetime.fromisoformat(line["timestamp"]).timestamp()
    return found
