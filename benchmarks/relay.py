"""Rows per second through the relay, beside a loop by hand and beside Dramatiq's enqueue."""

from __future__ import annotations

import asyncio
import os

import redis.asyncio

from benchmarks import backlog, cost, order, soak
from benchmarks.carrying import UNLIMITED, clear_queues
from benchmarks.contestant import contestant, together
from benchmarks.report import Figure, at_least, beside, for_orientation
from benchmarks.servers import Place, Servers
from benchmarks.tables import fill, renew, settle
from benchmarks.yardstick import Rounds, in_turns

WAITING = 50_000
ENQUEUED = 5_000
CORES = os.cpu_count() or 1


async def measure(servers: Servers, long: bool) -> list[Figure]:
    # What is written is counted while nothing is there yet that a vacuum could come for.
    costs = await cost.measure(servers)
    return [
        *_figures(await _throughput(await servers.place())),
        *await backlog.measure(servers, long),
        *await order.measure(await servers.place()),
        *(await soak.measure(await servers.place()) if long else []),
        *costs,
    ]


async def _throughput(place: Place) -> Rounds:
    """The tasks are written once; each round gets fresh messages for them, unmeasured."""
    connection = await place.connect()
    await fill(connection, WAITING)
    async with (
        redis.asyncio.Redis.from_url(place.redis_url) as client,
        contestant(place, "carrying", "ours", relay_window=UNLIMITED) as one,
        contestant(place, "carrying", "ours", relay_window=UNLIMITED) as other,
        contestant(place, "carrying", "by_hand") as hand,
        contestant(place, "carrying", "enqueue") as stock,
    ):

        async def prepare() -> None:
            await clear_queues(client)
            await renew(connection)
            await settle(connection)

        async def alone() -> float:
            await prepare()
            return (await one.go(WAITING)).rate

        async def both() -> float:
            await prepare()
            return together(*await asyncio.gather(one.go(WAITING), other.go(WAITING)))

        async def by_hand() -> float:
            await prepare()
            return (await hand.go(WAITING)).rate

        async def enqueue() -> float:
            await clear_queues(client)
            return (await stock.go(ENQUEUED)).rate

        rounds = await in_turns({"one": alone, "two": both, "by_hand": by_hand, "enqueue": enqueue})
        await clear_queues(client)
    await connection.close()
    return rounds


def _figures(rounds: Rounds) -> list[Figure]:
    rate = {name: rounds.median(name) for name in rounds.reached}
    free_core = CORES > 2
    return [
        at_least(
            0.5,
            "relay beside a loop by hand",
            rounds.ratio("one", "by_hand"),
            "×",
            f"one process, {WAITING:,} waiting, at least 0.50 × a hand-written DELETE … RETURNING "
            "with a pipelined publish, which verifies nothing",
            seen=beside(rate["one"], rate["by_hand"]),
        ),
        at_least(
            3,
            "relay beside Dramatiq's enqueue",
            rounds.ratio("one", "enqueue"),
            "×",
            "at least 3 × Dramatiq's enqueue in a loop",
            seen=beside(rate["one"], rate["enqueue"]),
        ),
        at_least(
            1.5 if free_core else 1.0,
            "two relays beside one",
            rounds.ratio("two", "one"),
            "×",
            "at least 1.5 × where a third core is free"
            if free_core
            else "never slower than one; at least 1.5 × where a third core is free, "
            f"this machine has {CORES}",
            seen=beside(rate["two"], rate["one"]),
        ),
        for_orientation(
            "relay rows per second", rate["one"], "/s", "verified, one process, one Redis"
        ),
    ]
