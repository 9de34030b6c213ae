"""How soon another worker goes on with what one left: killed without a word, and told to stop."""

from __future__ import annotations

import os
import signal
from contextlib import AsyncExitStack
from datetime import datetime

import asyncpg

from benchmarks.finishing import asking, double
from benchmarks.report import Figure, at_most
from benchmarks.servers import Place, Servers
from benchmarks.tables import empty, fill
from benchmarks.until import until
from benchmarks.yardstick import percentile
from waymark.processes import pick_port

LEASE, HEARTBEAT = 5.0, 1.0
TASKS = 64
STEPS = 30
"""Of each task: more than are done by the time that its worker ends."""

THINKS = 0.3
"""Seconds of the double for each step."""

ROUNDS = 3


async def measure(servers: Servers) -> list[Figure]:
    killed, stopped = [], []
    for _ in range(ROUNDS):
        killed += await _left_by(await servers.place(), signal.SIGKILL)
        stopped += await _left_by(await servers.place(), signal.SIGTERM)
    return [
        _figure("kill -9 → resumed elsewhere, p99", killed, LEASE + 5, f"lease {LEASE:g} s + 5 s"),
        _figure("SIGTERM → resumed elsewhere, p99", stopped, 2, "2 s"),
    ]


def _figure(name: str, waits: list[float], limit: float, bar: str) -> Figure:
    return at_most(
        limit,
        name,
        percentile(waits, 99),
        "s",
        f"from the signal to the next start of each of the tasks that the worker had, p99 within "
        f"{bar}",
        seen=f"{len(waits)} tasks, p50 {percentile(waits, 50):.2f} s",
    )


async def _left_by(place: Place, how: signal.Signals) -> list[float]:
    """Seconds from the signal to the next start, for each task that the worker had."""
    port = pick_port()
    connection = await place.connect()
    await empty(connection)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(place.process("relay_service"))
        await stack.enter_async_context(double(place, port, THINKS))
        settings = asking(port, TASKS, times=STEPS) | {"lease": LEASE, "heartbeat": HEARTBEAT}
        first = await stack.enter_async_context(
            place.process("benchmarks.asking_worker", **settings)
        )
        await fill(connection, TASKS)
        await _all_have_steps(connection)
        await stack.enter_async_context(place.process("benchmarks.asking_worker", **settings))
        signaled_at: datetime = await connection.fetchval("SELECT clock_timestamp()")
        os.kill(first.pid, how)
        waits = await _resumed(connection, signaled_at)
    await connection.close()
    return waits


async def _all_have_steps(connection: asyncpg.Connection) -> None:
    sql = "SELECT count(DISTINCT task_id) FROM task_steps WHERE output IS NOT NULL"

    async def have() -> bool:
        return bool(await connection.fetchval(sql) == TASKS)

    await until(have)


async def _resumed(connection: asyncpg.Connection, signaled_at: datetime) -> list[float]:
    sql = """
        SELECT extract(epoch FROM min(created_at) - $1)::float8 AS wait FROM task_events
        WHERE type = 'task.started' AND created_at > $1 GROUP BY task_id
    """

    async def all_are() -> bool:
        return len(await connection.fetch(sql, signaled_at)) == TASKS

    await until(all_are)
    return [row["wait"] for row in await connection.fetch(sql, signaled_at)]
