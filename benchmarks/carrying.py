"""``python -m benchmarks.carrying ours|by_hand|enqueue``: from the outbox to Redis, three ways."""

from __future__ import annotations

import json
import sys
import time
from uuid import UUID, uuid4

import asyncpg
import redis
import redis.asyncio
import uvloop
from dramatiq import Message
from dramatiq.brokers.redis import RedisBroker
from sqlalchemy import text

from benchmarks.contestant import compete
from relay_service.outbox import PLANNING
from relay_service.publisher import Publisher, connect
from relay_service.relay import Relay
from relay_service.wakeup import Wakeup
from shared.database import Database, wait_for_database
from shared.logs import set_up_logs
from shared.messages import ACTOR, QUEUE, Doorbell
from shared.migrate import REVISION
from shared.settings import Settings, load_settings

UNLIMITED = 1_000_000_000
"""A window that nothing fills: what is measured is the relay, not its patience."""

WAITS = text(
    "SELECT EXISTS (SELECT FROM outbox_messages"
    " WHERE dispatched_at IS NULL AND available_at <= now())"
)


async def ours(settings: Settings) -> None:
    """The relay's own unit of work, verification included, until the amount is carried over."""
    database = Database(settings, "relay", PLANNING)
    deployment_id = await wait_for_database(database, REVISION)
    publisher = Publisher(connect(settings))
    relay = Relay(settings, database, publisher, Wakeup(database), deployment_id)

    async def work(amount: int) -> int:
        done = 0
        while done < amount:
            claimed = await relay.run_once()
            done += claimed
            if not claimed and not await _something_waits(database):
                break  # the other relay has carried the rest
        return done

    await compete(work)


async def _something_waits(database: Database) -> bool:
    async with database.autocommit() as connection:
        return bool(await connection.scalar(WAITS))


async def by_hand(settings: Settings) -> None:
    """The loop that everybody writes first, by somebody who knows SKIP LOCKED and pipelines."""
    connection = await asyncpg.connect(settings.require_database())
    client = redis.asyncio.Redis.from_url(settings.require_redis())
    batch = settings.relay_batch

    async def work(amount: int) -> int:
        done = 0
        while done < amount:
            async with connection.transaction():
                rows = await connection.fetch(DELETE, batch)
                async with client.pipeline(transaction=False) as pipeline:
                    for row in rows:
                        message_id = str(row["task_id"])
                        pipeline.hset("by_hand.msgs", message_id, _message(row["task_id"]))
                        pipeline.rpush("by_hand", message_id)
                    await pipeline.execute()
            done += len(rows)
        return done

    await compete(work)


DELETE = """
    DELETE FROM outbox_messages WHERE task_id = ANY (ARRAY(
        SELECT task_id FROM outbox_messages WHERE available_at <= now()
        ORDER BY tenant_id, priority, available_at, task_id LIMIT $1 FOR UPDATE SKIP LOCKED
    ))
    RETURNING task_id
"""


def _message(task_id: UUID) -> str:
    return json.dumps(
        {
            "queue_name": QUEUE,
            "actor_name": ACTOR,
            "args": [],
            "kwargs": {"task_id": str(task_id)},
            "options": {"redis_message_id": str(task_id)},
            "message_id": str(task_id),
            "message_timestamp": int(time.time() * 1000),
        }
    )


async def enqueue(settings: Settings) -> None:
    """Dramatiq's own way, one message at a time; nothing of it comes from a table."""
    client = redis.Redis.from_url(settings.require_redis())
    broker = RedisBroker(client=client)  # type: ignore[no-untyped-call] # Dramatiq leaves it so
    deployment_id = uuid4()

    async def work(amount: int) -> int:
        for _ in range(amount):
            doorbell = Doorbell(uuid4(), 1, deployment_id)
            broker.enqueue(Message("enqueued", ACTOR, (), doorbell.as_kwargs(), {}))
        return amount

    await compete(work)


async def clear_queues(client: redis.asyncio.Redis) -> None:
    """All messages and nothing else: what Redis is trusted by has to stay, two strings."""
    keys = [key async for key in client.scan_iter() if await client.type(key) != b"string"]
    if keys:
        await client.unlink(*keys)


if __name__ == "__main__":
    settings = load_settings()
    set_up_logs(settings, "relay")
    uvloop.run({"ours": ours, "by_hand": by_hand, "enqueue": enqueue}[sys.argv[1]](settings))
