"""The sweeper: lost memory, unanswered doorbells, vanished workers, deadlines that passed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest
import redis

from api_service.cancellation import cancel
from relay_service import outbox
from relay_service.lanes import START, Lane
from relay_service.publisher import Publisher, connect
from relay_service.relay import Relay
from relay_service.sweeper import Sweeper
from relay_service.wakeup import Wakeup
from shared.database import Database
from shared.errors import StartupError, Transient
from shared.lifecycle import Priority
from shared.messages import DEPLOYMENT_KEY
from shared.settings import Settings
from tests.factories import (
    accept,
    carry_all,
    event_types,
    execute,
    leases_of,
    lock_is_waited_for,
    row,
    rows,
    task,
)
from worker_service.leases import Lease

QUEUE = "waymark:roadmaps"
DEFAULT = Lane("default", Priority.NORMAL)


@pytest.fixture
async def relay(
    settings: Settings, database: Database, valkey: redis.Redis, deployment_id: UUID
) -> AsyncIterator[Relay]:
    client = connect(settings)
    yield Relay(settings, database, Publisher(client), Wakeup(database), deployment_id)
    await client.aclose()


@pytest.fixture
async def sweeper(relay: Relay) -> Sweeper:
    return sweeper_of(relay)


def sweeper_of(relay: Relay) -> Sweeper:
    lanes = relay.lookout.lanes
    return Sweeper(relay.settings, relay.database, relay.wakeup, relay.trust, lanes)


async def test_a_flushed_redis_gets_every_open_doorbell_again(
    sweeper: Sweeper, relay: Relay, database: Database, valkey: redis.Redis
) -> None:
    await sweeper.check_memory()
    for _ in range(20):
        await accept(database)
    await relay.run_once()
    valkey.flushall()

    await sweeper.check_memory()
    assert await relay.run_once() == 20
    assert valkey.llen(QUEUE) == 20


async def test_a_memory_that_did_not_change_rings_nothing_again(
    sweeper: Sweeper, relay: Relay, database: Database, valkey: redis.Redis
) -> None:
    await sweeper.check_memory()
    await accept(database)
    await relay.run_once()
    await sweeper.check_memory()
    assert await relay.run_once() == 0


async def test_only_one_of_two_relays_rings_all_again(
    sweeper: Sweeper,
    relay: Relay,
    settings: Settings,
    database: Database,
    valkey: redis.Redis,
    deployment_id: UUID,
) -> None:
    publisher = Publisher(relay.publisher.client)
    wakeup = Wakeup(database)
    other = sweeper_of(Relay(settings, database, publisher, wakeup, deployment_id))
    await sweeper.check_memory()
    await other.check_memory()
    await accept(database)
    await relay.run_once()
    valkey.flushall()

    await sweeper.check_memory()
    assert await relay.run_once() == 1
    await other.check_memory()
    assert await relay.run_once() == 0


async def test_rearming_waits_for_a_relay_that_is_publishing(
    sweeper: Sweeper, relay: Relay, database: Database, valkey: redis.Redis
) -> None:
    """Else a message settled a moment after the re-arm would be missed by it."""
    await accept(database)
    async with database.begin() as session:
        claimed = await outbox.claim(session, {DEFAULT: 10}, {DEFAULT: START}, [])
        with pytest.raises(Exception, match="lock timeout"):
            await sweeper.check_memory()
        await outbox.mark_dispatched(session, [claimed[0].task_id])
    assert sweeper.trust.incarnation is None
    await sweeper.check_memory()
    assert await relay.run_once() == 1


async def test_a_redis_of_another_deployment_is_refused(
    sweeper: Sweeper, valkey: redis.Redis
) -> None:
    stranger = str(uuid4())
    valkey.set(DEPLOYMENT_KEY, stranger)
    with pytest.raises(StartupError, match=stranger):
        await sweeper.check_memory()


async def test_a_redis_that_may_evict_is_refused(sweeper: Sweeper, valkey: redis.Redis) -> None:
    valkey.config_set("maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(StartupError, match="noeviction"):
            await sweeper.check_memory()
    finally:
        valkey.config_set("maxmemory-policy", "noeviction")


async def test_a_doorbell_nobody_answers_rings_again_under_a_new_number(
    sweeper: Sweeper, relay: Relay, database: Database, valkey: redis.Redis
) -> None:
    task_id = await accept(database)
    await relay.run_once()
    await sweeper.ring_again()
    assert await relay.run_once() == 0, "it has had no time to be answered"

    await execute(
        database, "UPDATE outbox_messages SET dispatched_at = now() - interval '61 seconds'"
    )
    valkey.rpush(QUEUE, "of somebody else")
    await sweeper.ring_again()
    assert await relay.run_once() == 0, "it waits its turn in Redis"

    assert valkey.lpop(QUEUE) == f"{task_id}:1".encode()  # fetched, but the answer was lost
    await sweeper.ring_again()
    assert await relay.run_once() == 1
    assert valkey.lindex(QUEUE, -1) == f"{task_id}:2".encode()


async def test_each_repetition_waits_twice_as_long(
    sweeper: Sweeper, relay: Relay, database: Database, valkey: redis.Redis
) -> None:
    await accept(database)
    assert [await relay.run_once(), await relay.run_once()] == [1, 0]
    valkey.delete(QUEUE)
    await execute(
        database,
        "UPDATE outbox_messages SET dispatch_no = 3, dispatched_at = now() - interval '200 s'",
    )
    await sweeper.ring_again()
    assert (await row(database, "SELECT dispatch_no FROM outbox_messages"))["dispatch_no"] == 3
    await execute(
        database, "UPDATE outbox_messages SET dispatched_at = now() - interval '250 seconds'"
    )
    await sweeper.ring_again()
    assert (await row(database, "SELECT dispatch_no FROM outbox_messages"))["dispatch_no"] == 4


async def lose_worker(database: Database, task_id: UUID) -> None:
    assert await leases_of(database, max_takeovers=99).acquire(task_id, alone=True) is not None
    await execute(database, "UPDATE tasks SET lease_expires_at = now() - interval '1 second'")


async def test_a_vanished_workers_task_goes_back_uncharged(
    sweeper: Sweeper, database: Database
) -> None:
    task_id = await accept(database)
    await lose_worker(database, task_id)
    await sweeper.return_expired_leases()

    found = await task(database, task_id)
    assert (found["status"], found["attempts"], found["takeovers"]) == ("queued", 0, 1)
    message = await row(database, "SELECT * FROM outbox_messages")
    assert (message["task_id"], message["dispatch_no"]) == (task_id, 2)
    assert (await event_types(database, task_id))[-1] == "task.requeued"


async def test_a_lease_that_still_runs_is_left_alone(sweeper: Sweeper, database: Database) -> None:
    task_id = await accept(database)
    await leases_of(database).acquire(task_id)
    await sweeper.return_expired_leases()
    assert (await task(database, task_id))["status"] == "running"


async def test_a_message_that_outlives_its_acquire_costs_nothing_later(
    sweeper: Sweeper, relay: Relay, database: Database
) -> None:
    """An acquire that waits for the sweeper's statement cannot see the message it inserts."""
    task_id = await accept(database)
    leases = leases_of(database)

    async def acquire_while_sweeping() -> Lease:
        await execute(
            database,
            "UPDATE tasks SET lease_expires_at = now() - interval '1 s' WHERE id = :id",
            id=task_id,
        )
        async with database.begin() as session:
            await outbox.return_expired(session, 3, 500)
            acquiring = asyncio.create_task(leases.acquire(task_id))
            await lock_is_waited_for(database)
        lease = await acquiring
        assert lease is not None
        return lease

    await leases.acquire(task_id)
    await acquire_while_sweeping()
    left = await row(database, "SELECT dispatch_no FROM outbox_messages")
    assert left["dispatch_no"] == 2, "this test needs the leftover"

    # The worker vanishes before a relay dropped it: the sweep makes it the message it needs.
    await execute(database, "UPDATE tasks SET lease_expires_at = now() - interval '1 s'")
    await sweeper.return_expired_leases()
    assert await relay.run_once() == 1
    assert len(await rows(database, "SELECT 1 FROM outbox_messages")) == 1

    # And a worker that retries over such a leftover does not stumble.
    lease = await leases.acquire(task_id, alone=True)
    assert lease is not None
    await execute(
        database,
        "INSERT INTO outbox_messages (task_id, dispatch_no, dispatched_at) VALUES (:id, 9, now())",
        id=task_id,
    )
    assert await leases.requeue(lease, Transient("busy"), 0, charged=True) is True
    message = await row(database, "SELECT dispatch_no, dispatched_at FROM outbox_messages")
    assert dict(message) == {"dispatch_no": 10, "dispatched_at": None}


async def test_a_task_that_loses_every_worker_ends_as_worker_lost(
    sweeper: Sweeper, database: Database
) -> None:
    task_id = await accept(database)
    for _ in range(sweeper.settings.max_takeovers + 1):
        await lose_worker(database, task_id)
        await sweeper.return_expired_leases()

    found = await task(database, task_id)
    assert (found["status"], found["error"]["code"]) == ("failed", "worker_lost")
    assert (await row(database, "SELECT reason FROM dead_letters"))["reason"] == "worker_lost"
    assert await rows(database, "SELECT 1 FROM outbox_messages") == []
    assert (await event_types(database, task_id))[-1] == "task.failed"


async def test_a_task_whose_last_worker_vanished_while_being_canceled_is_canceled(
    sweeper: Sweeper, database: Database
) -> None:
    task_id = await accept(database)
    spent = sweeper.settings.max_takeovers
    await execute(database, "UPDATE tasks SET takeovers = :spent", spent=spent)
    assert await leases_of(database, max_takeovers=99).acquire(task_id, alone=True) is not None
    assert (await cancel(database, "default", task_id)).requested
    await sweeper.return_expired_leases()
    assert (await task(database, task_id))["status"] == "running", "its worker may live"

    await execute(database, "UPDATE tasks SET lease_expires_at = now() - interval '1 s'")
    await sweeper.return_expired_leases()
    found = await task(database, task_id)
    assert (found["status"], found["error"], found["takeovers"]) == ("canceled", None, spent)
    assert await rows(database, "SELECT 1 FROM outbox_messages") == []
    assert await rows(database, "SELECT 1 FROM dead_letters") == []
    assert (await event_types(database, task_id))[-1] == "task.canceled"


async def test_what_is_canceled_while_it_is_returned_is_canceled_and_never_rung(
    sweeper: Sweeper, relay: Relay, database: Database, valkey: redis.Redis
) -> None:
    leases = leases_of(database)
    for number in range(100):
        task_id = await accept(database)
        assert await leases.acquire(task_id) is not None
        await execute(
            database,
            "UPDATE tasks SET lease_expires_at = now() - interval '1 s' WHERE id = :id",
            id=task_id,
        )
        rivals = [cancel(database, "default", task_id), sweeper.return_expired_leases()]
        await asyncio.gather(*(rivals if number % 2 else reversed(rivals)))
        await sweeper.return_expired_leases()  # the first may have skipped a row that was locked
        assert (await task(database, task_id))["status"] == "canceled"
        assert (await event_types(database, task_id))[-1] == "task.canceled"
    await carry_all(relay)
    assert await rows(database, "SELECT 1 FROM outbox_messages") == []
    assert valkey.llen(QUEUE) == 0


async def test_what_waits_past_its_deadline_is_ended_and_nobody_is_rung_for_it(
    sweeper: Sweeper, relay: Relay, database: Database, valkey: redis.Redis
) -> None:
    late, in_time = [await accept(database, deadline_seconds=seconds) for seconds in (60, 3600)]
    await execute(
        database, "UPDATE tasks SET deadline_at = now() - interval '1 s' WHERE id = :id", id=late
    )
    await sweeper.end_overdue()
    found = await task(database, late)
    assert (found["status"], found["error"]["code"]) == ("failed", "deadline_exceeded")
    assert await relay.run_once() == 1
    assert valkey.lindex(QUEUE, 0) == f"{in_time}:1".encode()


async def test_a_vanished_workers_task_past_its_deadline_fails_for_that(
    sweeper: Sweeper, database: Database
) -> None:
    task_id = await accept(database, deadline_seconds=60)
    await lose_worker(database, task_id)
    await execute(database, "UPDATE tasks SET deadline_at = now() - interval '1 s'")
    await sweeper.return_expired_leases()
    await sweeper.end_overdue()
    assert (await task(database, task_id))["error"]["code"] == "deadline_exceeded"
    assert await rows(database, "SELECT 1 FROM outbox_messages") == []
    assert (await event_types(database, task_id))[-2:] == ["task.requeued", "task.failed"]
