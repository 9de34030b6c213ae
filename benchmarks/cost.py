"""What a message costs on its way, and what an idle relay and worker cost."""

from __future__ import annotations

import asyncio
from uuid import UUID

import asyncpg
import redis.asyncio

from benchmarks.backlog import CARRIED
from benchmarks.carrying import UNLIMITED
from benchmarks.contestant import contestant
from benchmarks.proxy import proxy
from benchmarks.report import Figure, at_most, for_orientation
from benchmarks.servers import Place, Servers
from benchmarks.submitting import AT_ONCE, COUNT
from benchmarks.tables import fill
from shared.database import Database
from shared.settings import Settings
from worker_service.leases import Leases

CALM, IDLE = 6.0, 10.0
"""Seconds to come to rest after the start, and to be watched."""

BATCH = Settings.model_fields["relay_batch"].default
PATIENCE = 30.0


async def measure(servers: Servers) -> list[Figure]:
    return [
        *await _writes(await servers.place()),
        *await _round_trips(await servers.place()),
        *await _idle(await servers.place()),
    ]


async def _round_trips(place: Place) -> list[Figure]:
    connection = await place.connect()
    async with proxy(place.database_url) as postgres, proxy(place.redis_url) as valkey:
        counted = place.via(database_port=postgres.port, redis_port=valkey.port)
        async with contestant(counted, "carrying", "ours", relay_window=UNLIMITED) as relay:
            for _ in range(2):  # the first time connects, prepares, and is not counted
                postgres.round_trips = valkey.round_trips = 0
                await fill(connection, CARRIED)
                await relay.go(CARRIED)
    await connection.close()
    return [
        at_most(
            limit,
            f"round trips to {name} per message",
            wire.round_trips / CARRIED,
            "",
            f"at most {limit}, by the relay, {BATCH} messages in a batch",
            seen=f"{wire.round_trips * BATCH / CARRIED:.1f} per batch",
        )
        for name, wire, limit in (("PostgreSQL", postgres, 0.05), ("Redis", valkey, 0.02))
    ]


async def _writes(place: Place) -> list[Figure]:
    """Accept, publish, take: what all of it writes."""
    connection = await place.connect()
    await connection.execute("CREATE EXTENSION pg_walinspect")
    await connection.execute("CHECKPOINT")
    begun = await connection.fetchval("SELECT pg_current_wal_lsn()")
    async with contestant(place, "submitting", "ours") as api:
        await api.go(COUNT)
    async with contestant(place, "carrying", "ours", relay_window=UNLIMITED) as relay:
        await relay.go(COUNT)
    await _take_all(place, [row["id"] for row in await connection.fetch("SELECT id FROM tasks")])
    wal = await connection.fetchrow(WAL, begun)
    dead = await _dead_rows(connection)
    await connection.close()
    full, images = wal["full"] / COUNT / 1024, wal["images"] / COUNT / 1024
    return [
        at_most(
            2.5,
            "WAL per message",
            full,
            "KiB",
            f"at most 2.5 KiB for accept ({AT_ONCE} at once), publish and take; {COUNT:,} messages "
            "after a checkpoint",
            seen=f"{full - images:.2f} KiB without full-page images",
        ),
        for_orientation(
            "WAL per message without full-page images",
            full - images,
            "KiB",
            "for accept, publish and take; the images depend on how often there is a checkpoint",
        ),
        at_most(
            2,
            "dead rows per message",
            dead / COUNT,
            "",
            "at most 2 in outbox_messages: one when it is published, one when it is taken",
        ),
    ]


WAL = """
    SELECT CAST(sum(combined_size) AS float8) AS full, CAST(sum(fpi_size) AS float8) AS images
    FROM pg_get_wal_stats($1, pg_current_wal_lsn())
"""


async def _take_all(place: Place, task_ids: list[UUID]) -> None:
    """As workers do: one transaction for each."""
    database = Database(place.settings(), "worker")
    leases = Leases(database, owner="benchmark", seconds=600, max_takeovers=3)

    async def take(some: list[UUID]) -> None:
        for task_id in some:
            assert await leases.acquire(task_id)

    at_once = database.settings.database_pool
    await asyncio.gather(*(take(task_ids[first::at_once]) for first in range(at_once)))
    await database.close()


async def _dead_rows(connection: asyncpg.Connection) -> int:
    """PostgreSQL counts with some delay."""
    async with asyncio.timeout(PATIENCE):
        while True:
            found = await connection.fetchrow(
                "SELECT n_tup_upd, n_tup_del FROM pg_stat_user_tables"
                " WHERE relname = 'outbox_messages'"
            )
            if found["n_tup_del"] >= COUNT:
                return int(found["n_tup_upd"] + found["n_tup_del"])
            await asyncio.sleep(0.2)


async def _idle(place: Place) -> list[Figure]:
    async with (
        proxy(place.database_url) as postgres,
        proxy(place.redis_url) as valkey,
        redis.asyncio.Redis.from_url(place.redis_url) as client,
    ):
        watched = place.via(database_port=postgres.port, redis_port=valkey.port)
        async with watched.process("relay_service"), watched.process("worker_service"):
            await asyncio.sleep(CALM)
            statements, commands = postgres.round_trips, await _commands(client)
            await asyncio.sleep(IDLE)
            statements = postgres.round_trips - statements
            commands = await _commands(client) - commands - 1  # our own question
    return [
        at_most(
            2,
            "PostgreSQL statements per second when idle",
            statements / IDLE,
            "/s",
            "at most 2 by one relay and one worker; counted as round trips",
        ),
        at_most(
            6,
            "Redis commands per second when idle",
            commands / IDLE,
            "/s",
            "at most 6 by one relay and one worker, those inside scripts included",
        ),
    ]


async def _commands(client: redis.asyncio.Redis) -> int:
    stats = await client.info("commandstats")
    return sum(one["calls"] for one in stats.values())
