"""Ten minutes of steady load on one relay: what grows by the minute would end it by the week."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import asyncpg
import redis.asyncio

from benchmarks.carrying import UNLIMITED, clear_queues
from benchmarks.report import Figure, at_most
from benchmarks.servers import Place
from benchmarks.tables import fill, take
from shared.messages import OUTBOX_CHANNEL

MINUTES = 10
MINUTE = 60.0
PAUSE = 0.25
PORTION = 250
"""Messages that come in after each pause, and are taken as workers would."""

STATE = """
    SELECT pg_relation_size('outbox_messages') + pg_indexes_size('outbox_messages') AS bytes,
           coalesce(extract(epoch FROM clock_timestamp() - min(available_at)), 0)::float8 AS oldest
    FROM outbox_messages WHERE dispatched_at IS NULL
"""


@dataclass(frozen=True, slots=True)
class Minute:
    memory: float
    """Of the relay, in KiB."""

    outbox: float
    """Table and indexes, in bytes, dead rows included."""

    oldest: float
    """Age of the oldest message that waited, in seconds; the median of all looks."""


async def measure(place: Place) -> list[Figure]:
    connection = await place.connect()
    async with (
        redis.asyncio.Redis.from_url(place.redis_url) as client,
        place.process("relay_service", relay_window=UNLIMITED) as relay,
    ):
        came = taken = 0
        minutes = []
        for _ in range(MINUTES):
            minute, in_, out = await _one_minute(connection, client, relay.pid)
            minutes.append(minute)
            came, taken = came + in_, taken + out
        while await connection.fetchval("SELECT EXISTS (SELECT FROM outbox_messages)"):
            taken += await take(connection)
            await asyncio.sleep(PAUSE)
    await connection.close()
    return _figures(minutes, came - taken)


async def _one_minute(
    connection: asyncpg.Connection, client: redis.asyncio.Redis, pid: int
) -> tuple[Minute, int, int]:
    came = taken = 0
    ages = []
    until = time.monotonic() + MINUTE
    while time.monotonic() < until:
        await fill(connection, PORTION)
        await connection.execute(f"NOTIFY {OUTBOX_CHANNEL}")
        came += PORTION
        await asyncio.sleep(PAUSE)
        ages.append((await connection.fetchrow(STATE))["oldest"])
        taken += await take(connection)
        await clear_queues(client)
    size = float((await connection.fetchrow(STATE))["bytes"])
    return Minute(_resident(pid), size, median(ages)), came, taken


def _resident(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return float(status.partition("VmRSS:")[2].split()[0])


def _figures(minutes: list[Minute], missing: int) -> list[Figure]:
    second, last = minutes[1], minutes[-1]  # in the first, everything is loaded
    return [
        at_most(
            1.25,
            "relay's memory after a soak",
            last.memory / second.memory,
            "×",
            f"at most 1.25 × after {MINUTES} minutes what it was after two, steady load",
            seen=f"{last.memory / 1024:.0f} MiB beside {second.memory / 1024:.0f} MiB",
        ),
        at_most(
            2,
            "outbox after a soak",
            last.outbox / second.outbox,
            "×",
            "at most 2 × in bytes, dead rows and indexes included; autovacuum keeps up",
            seen=f"{last.outbox / 2**20:.1f} MiB beside {second.outbox / 2**20:.1f} MiB",
        ),
        at_most(
            1,
            "oldest message in a soak",
            last.oldest,
            "s",
            "at most 1 s in the last minute, median of all looks",
        ),
        at_most(0, "messages missing after a soak", missing, "", "none"),
    ]
