"""Whether the relay's pace depends on what lies in the table: it must not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg
import redis.asyncio

from benchmarks.carrying import UNLIMITED, clear_queues
from benchmarks.contestant import Contestant, contestant
from benchmarks.report import Figure, at_least, beside
from benchmarks.servers import Place, Servers
from benchmarks.tables import fill, settle, take
from benchmarks.yardstick import Rounds, in_turns

CARRIED = 10_000
"""Rows of one round."""

DELAYED = 100_000
DEPTH_ROUNDS = 9
"""More than elsewhere: the bar is close, and a round is short."""

HELD_ROUNDS, LAST = 30, 5


async def measure(servers: Servers, long: bool) -> list[Figure]:
    deep = 1_000_000 if long else 200_000
    figures = _depth_figures(await _depths(servers, deep), deep)
    return [*figures, _held_figure(await _held(servers))] if long else figures


class Lab:
    """A database with one relay, which carries a round at a time."""

    def __init__(
        self, connection: asyncpg.Connection, client: redis.asyncio.Redis, relay: Contestant
    ) -> None:
        self.connection = connection
        self.client = client
        self.relay = relay

    async def round(self) -> float:
        """As many come in as will go out, and a vacuum has been there: autovacuum comes once a
        minute, too seldom for a round. Under a held snapshot it can do nothing, elsewhere it must
        not be missed: without it, the yardstick would drown in dead rows as well."""
        await fill(self.connection, CARRIED)
        await settle(self.connection)
        return await self._carry()

    async def _carry(self) -> float:
        run = await self.relay.go(CARRIED)
        assert run.done == CARRIED, run
        assert await take(self.connection) == CARRIED
        await clear_queues(self.client)
        return run.rate


@asynccontextmanager
async def _lab(place: Place) -> AsyncIterator[Lab]:
    connection = await place.connect()
    async with (
        redis.asyncio.Redis.from_url(place.redis_url) as client,
        contestant(place, "carrying", "ours", relay_window=UNLIMITED) as relay,
    ):
        yield Lab(connection, client, relay)
    await connection.close()


async def _depths(servers: Servers, deep: int) -> Rounds:
    async with AsyncExitStack() as stack:
        labs = {
            name: await stack.enter_async_context(_lab(await servers.place()))
            for name in ("shallow", "deep", "delayed")
        }
        await fill(labs["deep"].connection, deep - CARRIED)
        await fill(labs["delayed"].connection, DELAYED, delay=3600)
        rounds = {name: lab.round for name, lab in labs.items()}
        return await in_turns(rounds, DEPTH_ROUNDS)


async def _held(servers: Servers) -> Rounds:
    """A snapshot keeps the dead rows of its own database only: the other one is the yardstick."""
    held, free = await servers.place(), await servers.place()
    holder = await held.connect()
    async with (
        holder.transaction(isolation="repeatable_read", readonly=True),
        _lab(held) as with_it,
        _lab(free) as without,
    ):
        await holder.fetch("SELECT count(*) FROM outbox_messages")
        rounds = await in_turns({"held": with_it.round, "free": without.round}, HELD_ROUNDS)
    await holder.close()
    return rounds


def _depth_figures(rounds: Rounds, deep: int) -> list[Figure]:
    return [
        at_least(
            0.9,
            f"relay with a {what}",
            rounds.ratio(name, "shallow"),
            "×",
            f"at least 0.9 × the rows per second with {CARRIED:,} waiting, {detail}",
            seen=beside(rounds.median(name), rounds.median("shallow")),
        )
        for name, what, detail in (
            ("deep", "deep backlog", f"with {deep:,} waiting"),
            ("delayed", "delayed backlog", f"behind {DELAYED:,} delayed messages"),
        )
    ]


def _held_figure(rounds: Rounds) -> Figure:
    return at_least(
        0.9,
        "relay under a held snapshot",
        rounds.ratio("held", "free", LAST),
        "×",
        f"at least 0.90 × the same round without it, in the last {LAST} of {HELD_ROUNDS} rounds of "
        f"{CARRIED:,}, while a REPEATABLE READ transaction is open",
        seen=beside(rounds.median("held", LAST), rounds.median("free", LAST)),
    )
