"""Rows per second through the relay, beside Dramatiq's own enqueue in a loop."""

from __future__ import annotations

from uuid import uuid4

import redis
from dramatiq import Message
from dramatiq.brokers.redis import RedisBroker
from sqlalchemy import text

from benchmarks.yardstick import Comparison, compare
from relay_service.publisher import Publisher, connect
from relay_service.relay import Relay
from relay_service.wakeup import Wakeup
from shared.database import Database, wait_for_database
from shared.logs import set_up_logs
from shared.messages import ACTOR, QUEUE, Doorbell
from shared.migrate import REVISION
from shared.settings import Settings

WAITING = 5_000
LOOPED = 2_000

FILL = """
WITH task AS (
    INSERT INTO tasks (id, request_hash, input)
    SELECT gen_random_uuid(), '', '{"goal": "Learn SQL"}' FROM generate_series(1, :waiting)
    RETURNING id
)
INSERT INTO outbox_messages (task_id) SELECT id FROM task
"""


async def measure(settings: Settings) -> list[Comparison]:
    set_up_logs(settings, "benchmark")
    database, client = Database(settings, "benchmark"), connect(settings)
    deployment_id = await wait_for_database(database, REVISION)
    relay = Relay(settings, database, Publisher(client), Wakeup(database), deployment_id)
    stock = redis.Redis.from_url(settings.require_redis())
    broker = RedisBroker(client=stock)  # type: ignore[no-untyped-call] # Dramatiq leaves it so

    async def fill_and_carry() -> int:
        async with database.begin() as session:
            await session.execute(text(FILL), {"waiting": WAITING})
        carried = 0
        while claimed := await relay.run_once():
            carried += claimed
        return carried

    async def enqueue() -> int:
        for _ in range(LOOPED):
            bell = Doorbell(uuid4(), 1, deployment_id)
            broker.enqueue(Message("yardstick", ACTOR, (), bell.as_kwargs(), {}))
        return LOOPED

    found = await compare(f"relay rows ({QUEUE}), filling included", fill_and_carry, enqueue)
    await client.aclose()
    await database.close()
    return [found]
