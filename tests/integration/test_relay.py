"""The relay against a real PostgreSQL and a real Valkey."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest
import redis
from pydantic import SecretStr
from sqlalchemy import text
from structlog.testing import capture_logs

from relay_service import outbox
from relay_service.lanes import START, Lane
from relay_service.publisher import BrokerUnavailable, Publisher, connect
from relay_service.relay import Relay
from relay_service.verification import OtherDeployment
from relay_service.wakeup import Wakeup
from shared import metrics
from shared.database import Database
from shared.lifecycle import Priority
from shared.settings import Settings
from tests.eventually import eventually
from tests.factories import accept, event_types, execute, orphan_message, row, rows, task

QUEUE = "waymark:roadmaps"
DEFAULT = Lane("default", Priority.NORMAL)


@pytest.fixture
async def relay(
    settings: Settings, database: Database, valkey: redis.Redis, deployment_id: UUID
) -> AsyncIterator[Relay]:
    client = connect(settings)
    yield Relay(settings, database, Publisher(client), Wakeup(database), deployment_id)
    await client.aclose()


def beat() -> None:
    """A loop's sign of life, which nobody looks for here."""


async def waiting(database: Database) -> int:
    found = await rows(database, "SELECT 1 FROM outbox_messages WHERE dispatched_at IS NULL")
    return len(found)


async def test_a_committed_task_is_published_once_and_its_message_stays_until_taken(
    relay: Relay, database: Database, valkey: redis.Redis
) -> None:
    task_id = await accept(database)

    assert await relay.run_once() == 1
    assert await relay.run_once() == 0

    assert valkey.lrange(QUEUE, 0, -1) == [f"{task_id}:1".encode()]
    message = await row(database, "SELECT * FROM outbox_messages")
    assert message["dispatched_at"] is not None
    assert (await task(database, task_id))["status"] == "queued"


async def test_a_message_carries_ids_only_and_stays_small(
    relay: Relay, database: Database, valkey: redis.Redis, deployment_id: UUID
) -> None:
    task_id = await accept(database, goal="x" * 300)
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    await execute(database, "UPDATE tasks SET traceparent = :trace", trace=trace)
    await relay.run_once()

    body = valkey.hget(f"{QUEUE}.msgs", f"{task_id}:1")
    assert isinstance(body, bytes)
    assert len(body) < 512
    assert json.loads(body)["kwargs"] == {
        "task_id": str(task_id),
        "dispatch_no": 1,
        "deployment_id": str(deployment_id),
        "traceparent": trace,
    }


async def test_urgent_messages_go_first_then_older_ones(
    relay: Relay, database: Database, valkey: redis.Redis
) -> None:
    low = await accept(database, priority="low")
    first = await accept(database)
    second = await accept(database)
    high = await accept(database, priority="high")
    await relay.run_once()

    order = valkey.lrange(QUEUE, 0, -1)
    assert order == [f"{one}:1".encode() for one in (high, first, second, low)]


async def test_a_message_that_is_not_due_stays_where_it_is(
    relay: Relay, database: Database
) -> None:
    await accept(database)
    await execute(database, "UPDATE outbox_messages SET available_at = now() + interval '1 hour'")
    assert await relay.run_once() == 0


async def test_a_batch_costs_one_round_trip_to_redis(
    relay: Relay, database: Database, valkey: redis.Redis
) -> None:
    await accept(database)
    await relay.run_once()  # loads the script
    await asyncio.gather(*(accept(database) for _ in range(50)))
    valkey.config_resetstat()
    assert await relay.run_once() == 50
    calls = {name: one["calls"] for name, one in valkey.info("commandstats").items()}
    assert calls["cmdstat_evalsha"] == 1
    once = {"cmdstat_get": 1, "cmdstat_llen": 1}  # the trusted memory, the room in it
    inner = once | {"cmdstat_hexists": 50, "cmdstat_rpush": 50, "cmdstat_hset": 50}
    asked_by_this_test = {"cmdstat_config|resetstat", "cmdstat_info", "cmdstat_evalsha"}
    assert {name: n for name, n in calls.items() if name not in asked_by_this_test} == inner


async def test_while_redis_is_away_nothing_is_settled_and_nothing_is_charged(
    settings: Settings, database: Database, deployment_id: UUID
) -> None:
    task_id = await accept(database)
    nobody = connect(settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1")}))
    relay = Relay(settings, database, Publisher(nobody), Wakeup(database), deployment_id)

    with pytest.raises(BrokerUnavailable):
        await relay.run_once()

    await nobody.aclose()
    assert await waiting(database) == 1
    found = await task(database, task_id)
    assert (found["attempts"], found["version"], found["status"]) == (0, 1, "queued")


async def test_publishing_again_what_redis_still_holds_adds_nothing(
    relay: Relay, database: Database, valkey: redis.Redis
) -> None:
    await accept(database)
    await relay.run_once()
    await execute(database, "UPDATE outbox_messages SET dispatched_at = NULL")
    await relay.run_once()
    assert valkey.llen(QUEUE) == 1


async def test_a_message_of_an_ended_task_is_dropped_unpublished(
    relay: Relay, database: Database, valkey: redis.Redis
) -> None:
    await accept(database)
    await execute(database, "UPDATE tasks SET status = 'canceled', finished_at = now()")
    await relay.run_once()
    assert await rows(database, "SELECT 1 FROM outbox_messages") == []
    assert valkey.llen(QUEUE) == 0


async def test_a_message_without_a_task_is_looked_at_five_times_then_buried_while_others_flow(
    relay: Relay, database: Database, valkey: redis.Redis
) -> None:
    before = metrics.TASK_MISSING._value.get()
    missing = await orphan_message(database)
    present = await accept(database)

    await relay.run_once()
    assert valkey.lrange(QUEUE, 0, -1) == [f"{present}:1".encode()]
    assert await rows(database, "SELECT 1 FROM dead_letters") == []

    looks = 1
    while not await rows(database, "SELECT 1 FROM dead_letters"):
        looks += await relay.run_once()
    assert looks == relay.settings.verify_tries == 5
    letter = await row(database, "SELECT * FROM dead_letters")
    assert (letter["task_id"], letter["reason"], letter["source"]) == (
        missing,
        "task_missing",
        "relay",
    )
    assert await waiting(database) == 0
    assert metrics.TASK_MISSING._value.get() == before + 1


async def test_a_task_that_appears_while_in_doubt_is_delivered(
    relay: Relay, database: Database, valkey: redis.Redis
) -> None:
    late = await accept(database)
    hidden = await row(database, "SELECT request_hash, input FROM tasks")
    await execute(database, "DELETE FROM tasks")
    await relay.run_once()
    assert valkey.llen(QUEUE) == 0

    await execute(
        database,
        "INSERT INTO tasks (id, request_hash, input) VALUES (:id, :hash, CAST(:input AS jsonb))",
        id=late,
        hash=hidden["request_hash"],
        input=json.dumps({"goal": "Learn SQL"}),
    )

    async def delivered() -> None:
        await relay.run_once()
        assert valkey.llen(QUEUE) == 1

    await eventually(delivered)


async def test_burying_a_message_ends_its_task_as_failed(
    database: Database,
) -> None:
    task_id = await accept(database)
    async with database.begin() as session:
        await outbox.bury(session, outbox.Claimed(task_id, 1), "impossible")
    found = await task(database, task_id)
    assert (found["status"], found["error"]["code"]) == ("failed", "dispatch_failed")
    assert await event_types(database, task_id) == ["task.accepted", "task.failed"]


async def test_two_relays_never_claim_the_same_message(
    relay: Relay, database: Database, valkey: redis.Redis, settings: Settings
) -> None:
    accepted = {await accept(database) for _ in range(40)}
    async with database.begin() as one, database.begin() as other:
        first = await outbox.claim(one, {DEFAULT: 25}, {DEFAULT: START}, [])
        second = await outbox.claim(other, {DEFAULT: 25}, {DEFAULT: START}, [])
    ids = [message.task_id for message in (*first, *second)]
    assert len(ids) == len(set(ids)) == 40
    assert set(ids) == accepted


async def test_a_doorbell_wakes_a_relay_that_would_sleep_for_long(
    settings: Settings, database: Database, valkey: redis.Redis, deployment_id: UUID
) -> None:
    patient = settings.model_copy(update={"relay_poll": 3600.0})
    client = connect(patient)
    wakeup = Wakeup(database)
    relay = Relay(patient, database, Publisher(client), wakeup, deployment_id)
    running = asyncio.gather(relay.run(beat), wakeup.listen())

    async def listening() -> None:
        sql = "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND state = 'idle'"
        assert await rows(database, sql)

    await eventually(listening)
    await accept(database)
    await execute(database, "NOTIFY waymark_outbox")

    async def published() -> None:
        assert valkey.llen(QUEUE) == 1

    await eventually(published)
    wakeup.stop()
    await running
    await client.aclose()


async def test_a_statement_that_takes_too_long_delays_the_relay_and_does_not_end_it(
    settings: Settings, database: Database, valkey: redis.Redis, deployment_id: UUID
) -> None:
    hasty = Database(settings.model_copy(update={"database_command_timeout": 0.2}), "relay")
    client = connect(settings)
    wakeup = Wakeup(hasty)
    relay = Relay(settings, hasty, Publisher(client), wakeup, deployment_id)
    await accept(database)
    async with database.begin() as session:
        await session.execute(text("LOCK TABLE outbox_messages IN ACCESS EXCLUSIVE MODE"))
        running = asyncio.create_task(relay.run(beat))

        async def waits() -> None:
            assert any("statement timeout" in line.get("reason", "") for line in lines)

        with capture_logs() as lines:
            await eventually(waits)

    async def published() -> None:
        assert valkey.llen(QUEUE) == 1

    await eventually(published)
    wakeup.stop()
    await running
    await client.aclose()
    await hasty.close()


async def test_a_batch_that_failed_half_way_is_completed_by_its_repetition(
    relay: Relay, database: Database, valkey: redis.Redis
) -> None:
    task_id = await accept(database)
    valkey.set(QUEUE, "not a list")
    with pytest.raises(BrokerUnavailable):
        await relay.run_once()
    valkey.delete(QUEUE)
    await relay.run_once()
    assert valkey.lrange(QUEUE, 0, -1) == [f"{task_id}:1".encode()]


async def test_a_relay_whose_database_became_another_deployment_stops_and_settles_nothing(
    relay: Relay, database: Database, valkey: redis.Redis, deployment_id: UUID
) -> None:
    await accept(database)
    relay.deployment_id = uuid4()
    with pytest.raises(OtherDeployment, match=str(deployment_id)):
        await relay.run(beat)
    assert await waiting(database) == 1
    assert valkey.llen(QUEUE) == 0


async def test_a_migration_beside_us_costs_no_submission_and_no_batch(
    relay: Relay, database: Database, valkey: redis.Redis
) -> None:
    await accept(database)
    await relay.run_once()
    await execute(database, "ALTER TABLE tasks ADD COLUMN later integer")
    try:
        await accept(database)
        assert await relay.run_once() == 1
    finally:
        await execute(database, "ALTER TABLE tasks DROP COLUMN later")
    await accept(database)
