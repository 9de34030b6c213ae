"""Redis holds no more than workers can use; the order in which it is filled is ours."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, cast
from uuid import UUID

import pytest
import redis

from relay_service.publisher import Publisher, connect
from relay_service.relay import Relay
from relay_service.wakeup import Wakeup
from shared.database import Database
from shared.messages import SLOTS_KEY
from shared.settings import Settings
from tests.factories import accept, carry_all, execute, fill, row, rows

QUEUE = "waymark:roadmaps"
MakeRelay = Callable[..., Relay]


@pytest.fixture
async def make_relay(
    settings: Settings, database: Database, valkey: redis.Redis, deployment_id: UUID
) -> AsyncIterator[MakeRelay]:
    client = connect(settings)

    def make(**update: Any) -> Relay:
        changed = settings.model_copy(update=update)
        return Relay(changed, database, Publisher(client), Wakeup(database), deployment_id)

    yield make
    await client.aclose()


class Taker:
    """Takes from the head of the queue and acquires, as workers do; nothing is run."""

    def __init__(self, valkey: redis.Redis, database: Database) -> None:
        self.valkey = valkey
        self.database = database
        self.started: list[str] = []

    async def take(self, count: int) -> None:
        popped = cast(list[bytes] | None, self.valkey.lpop(QUEUE, count))
        ids = [one.decode() for one in popped or []]
        if ids:
            self.valkey.hdel(f"{QUEUE}.msgs", *ids)
        tasks = [one.partition(":")[0] for one in ids]
        self.started += tasks
        await execute(
            self.database,
            "DELETE FROM outbox_messages WHERE task_id = ANY (CAST(:ids AS uuid[]))",
            ids=tasks,
        )


@pytest.fixture
def taker(valkey: redis.Redis, database: Database) -> Taker:
    return Taker(valkey, database)


async def test_without_a_live_worker_sixty_four_wait_in_redis_and_the_rest_with_us(
    make_relay: MakeRelay, database: Database, valkey: redis.Redis
) -> None:
    await fill(database, 1000)
    relay = make_relay()
    assert await carry_all(relay) == 64
    assert relay.patience < 0.05  # workers may make room at any moment
    assert valkey.llen(QUEUE) == 64


async def test_the_window_is_four_messages_for_each_slot_of_the_live_workers(
    make_relay: MakeRelay, database: Database, valkey: redis.Redis
) -> None:
    now_ms = valkey.time()[0] * 1000
    live = {"32 host:1": now_ms + 60_000, "8 host:2": now_ms + 60_000}
    valkey.zadd(SLOTS_KEY, live | {"500 gone": now_ms - 1})
    await fill(database, 1000)
    assert await carry_all(make_relay()) == 160


async def test_a_window_that_was_set_is_kept_by_any_number_of_relays(
    make_relay: MakeRelay, database: Database, valkey: redis.Redis
) -> None:
    await fill(database, 1000)
    relays = [make_relay(relay_window=100, relay_batch=70) for _ in range(3)]
    while sum([await relay.run_once() for relay in relays]):
        assert valkey.llen(QUEUE) <= 100
    assert valkey.llen(QUEUE) == 100
    found = await rows(database, "SELECT 1 FROM outbox_messages WHERE dispatched_at IS NOT NULL")
    assert len(found) == 100


async def test_what_found_no_room_after_all_stays_due_and_is_not_lost(
    make_relay: MakeRelay, database: Database, valkey: redis.Redis, taker: Taker
) -> None:
    relay = make_relay(relay_window=10)
    await relay.run_once()
    await fill(database, 10)
    valkey.rpush(QUEUE, *["foreign"] * 6)  # since the relay last knew
    assert await relay.run_once() == 10
    found = await rows(database, "SELECT 1 FROM outbox_messages WHERE dispatched_at IS NOT NULL")
    assert len(found) == 4
    valkey.delete(QUEUE)
    assert await relay.run_once() == 6


async def test_room_is_filled_a_quarter_at_a_time_not_message_by_message(
    make_relay: MakeRelay, database: Database, taker: Taker
) -> None:
    await fill(database, 1000)
    relay = make_relay()
    await carry_all(relay)
    await taker.take(15)
    assert await relay.run_once() == 0
    await taker.take(1)
    assert await relay.run_once() == 16


async def test_an_urgent_task_behind_ten_thousand_starts_within_one_window(
    make_relay: MakeRelay, database: Database, taker: Taker
) -> None:
    relay = make_relay()
    await fill(database, 10_000)
    await carry_all(relay)
    urgent = await accept(database, priority="high")
    while str(urgent) not in taker.started:
        await carry_all(relay)
        await taker.take(16)
    assert taker.started.index(str(urgent)) <= 64


async def test_ten_tasks_behind_another_tenants_ten_thousand_start_within_two_windows(
    make_relay: MakeRelay, database: Database, taker: Taker
) -> None:
    relay = make_relay()
    await fill(database, 10_000, tenant="a")
    await carry_all(relay)
    theirs = set(map(str, await fill(database, 10, tenant="b")))
    while not theirs <= set(taker.started):
        await carry_all(relay)
        await taker.take(16)
    assert max(map(taker.started.index, theirs)) < 128


async def test_no_more_tasks_of_a_tenant_run_at_once_than_allowed(
    make_relay: MakeRelay, database: Database
) -> None:
    await fill(database, 20, tenant="a")
    await fill(database, 2, tenant="b")
    relays = [make_relay(tenant_max_running=3) for _ in range(2)]
    published = "SELECT count(*) AS n FROM outbox_messages WHERE dispatched_at IS NOT NULL"
    for relay in relays:
        await carry_all(relay)
    assert (await row(database, f"{published} AND tenant_id = 'a'"))["n"] == 3
    assert (await row(database, f"{published} AND tenant_id = 'b'"))["n"] == 2

    await execute(
        database,
        """
        WITH rung AS (
            DELETE FROM outbox_messages WHERE dispatched_at IS NOT NULL AND tenant_id = 'a'
            RETURNING task_id
        )
        UPDATE tasks SET status = 'running', lease_owner = 'me', lease_expires_at = now() + '1 h'
        FROM rung WHERE id = task_id
        """,
    )
    for relay in relays:
        await carry_all(relay)
    assert (await row(database, f"{published} AND tenant_id = 'a'"))["n"] == 0

    await execute(
        database,
        """
        UPDATE tasks SET status = 'canceled', finished_at = now(),
            lease_owner = NULL, lease_expires_at = NULL
        WHERE id = (SELECT id FROM tasks WHERE status = 'running' LIMIT 1)
        """,
    )
    for relay in relays:
        await carry_all(relay)
    assert (await row(database, f"{published} AND tenant_id = 'a'"))["n"] == 1
