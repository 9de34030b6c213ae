"""Relays inside the test's own process, a taker for what they publish, and what must be true."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any, cast
from uuid import UUID

import redis

from relay_service.outbox import PLANNING
from relay_service.publisher import Publisher, connect
from relay_service.relay import Relay
from relay_service.sweeper import Sweeper
from relay_service.wakeup import Wakeup
from shared.database import Database
from shared.settings import Settings
from tests.eventually import eventually
from tests.factories import rows
from worker_service.leases import Leases

QUEUE = "waymark:roadmaps"

WAITS = "relay_waits", "sweep_waits"

Lines = list[MutableMapping[str, Any]]
"""What structlog captured."""


@asynccontextmanager
async def relay_at_work(settings: Settings, deployment_id: UUID) -> AsyncIterator[Relay]:
    """With all loops that ``python -m relay_service`` has; if one ends, the test fails."""
    database, client = Database(settings, "relay", PLANNING), connect(settings)
    wakeup = Wakeup(database)
    relay = Relay(settings, database, Publisher(client), wakeup, deployment_id)
    sweeper = Sweeper(settings, database, wakeup, relay.trust, relay.lookout.lanes)
    try:
        async with asyncio.TaskGroup() as group:
            for loop in (wakeup.listen(), sweeper.run(), relay.run(_beat)):
                group.create_task(loop)
            try:
                yield relay
            finally:
                wakeup.stop()
    finally:
        await client.aclose()
        await database.close()


def _beat() -> None:
    """A loop's sign of life, which nobody looks for here."""


class Taker:
    """Takes doorbells off the queue and their tasks by lease, as a worker does; runs nothing."""

    def __init__(self, valkey: redis.Redis, database: Database) -> None:
        self.valkey = valkey
        self.leases = Leases(database, owner="taker", seconds=600, max_takeovers=3)
        self.taken: list[UUID] = []
        self.repeats: list[UUID] = []
        """Doorbells whose task was taken before: recognised, and nothing happened."""

    async def take_until(self, number: int) -> None:
        """As many tasks as ``number`` since the beginning, as soon as they come."""

        async def taken() -> None:
            while len(self.taken) < number and await self._take():
                pass
            assert len(self.taken) >= number

        await eventually(taken, within=120)

    async def take_all(self) -> None:
        """Until nothing waits in Redis."""
        while await self._take():
            pass

    async def _take(self) -> int:
        popped = cast(list[bytes] | None, self.valkey.lpop(QUEUE, 20))
        if not popped:
            return 0
        self.valkey.hdel(f"{QUEUE}.msgs", *popped)
        ids = [UUID(one.decode().partition(":")[0]) for one in popped]
        leases = await asyncio.gather(*(self.leases.acquire(one) for one in ids))
        for task_id, lease in zip(ids, leases, strict=True):
            (self.taken if lease else self.repeats).append(task_id)
        return len(ids)


def queued(valkey: redis.Redis) -> list[UUID]:
    """The tasks that Redis holds a doorbell for, in its order."""
    found = cast(list[bytes], valkey.lrange(QUEUE, 0, -1))
    return [UUID(one.decode().partition(":")[0]) for one in found]


async def each_rings_once(valkey: redis.Redis, database: Database, accepted: list[UUID]) -> None:
    """Until all are published and noted as such; none of them twice."""

    async def published() -> None:
        assert sorted(queued(valkey)) == sorted(accepted)
        assert (
            await rows(database, "SELECT 1 FROM outbox_messages WHERE dispatched_at IS NULL") == []
        )

    await eventually(published)


async def waiting(database: Database) -> list[UUID]:
    """The tasks whose doorbell is still to ring."""
    sql = "SELECT task_id FROM outbox_messages WHERE dispatched_at IS NULL ORDER BY task_id"
    return [one["task_id"] for one in await rows(database, sql)]


async def nothing_was_charged(database: Database, accepted: list[UUID]) -> None:
    """No attempt, no dead letter, no other number on the doorbell; nobody's task was touched."""
    untouched = "status = 'queued' AND attempts = 0 AND takeovers = 0 AND version = 1"
    tasks = await rows(database, f"SELECT id, {untouched} AS untouched FROM tasks")
    assert sorted(task["id"] for task in tasks) == sorted(accepted)
    assert all(task["untouched"] for task in tasks)
    messages = await rows(database, "SELECT task_id, dispatch_no FROM outbox_messages")
    assert sorted(message["task_id"] for message in messages) == sorted(accepted)
    assert {message["dispatch_no"] for message in messages} == {1}
    assert await rows(database, "SELECT reason FROM dead_letters") == []


async def waits(lines: Lines, because: str, times: int = 2) -> None:
    """Until the relay or its sweeper has said so ``times`` times."""

    async def said() -> None:
        reasons = [line["reason"] for line in lines if line["event"] in WAITS]
        assert len([reason for reason in reasons if because in reason]) >= times, reasons

    await eventually(said)
