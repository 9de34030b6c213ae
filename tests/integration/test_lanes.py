"""How the relay finds what waits: by index, flat under a held snapshot, and nothing is missed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import redis
from sqlalchemy import TextClause, event, text

from relay_service import outbox
from relay_service.lanes import START, Lane
from relay_service.outbox import PLANNING
from relay_service.publisher import Publisher, connect
from relay_service.relay import Relay
from relay_service.wakeup import Wakeup
from shared.database import Database
from shared.lifecycle import Priority
from shared.settings import Settings
from tests.factories import accept, carry_all, execute, fill, leases_of
from worker_service.statements import REQUEUE

DEFAULT = Lane("default", Priority.NORMAL)
QUEUE = "waymark:roadmaps"


@pytest.fixture
async def relay(
    settings: Settings, database: Database, valkey: redis.Redis, deployment_id: UUID
) -> AsyncIterator[Relay]:
    """One that looks at the very beginning only once: what it finds, it finds by its marks."""
    steady = settings.model_copy(update={"relay_full_look": 3600.0, "relay_window": 100_000})
    planned, client = Database(steady, "relay", PLANNING), connect(steady)
    relay = Relay(steady, planned, Publisher(client), Wakeup(planned), deployment_id)
    assert await relay.run_once() == 0
    yield relay
    await client.aclose()
    await planned.close()


# --- the plan ---


async def plan_of(database: Database, statement: TextClause, **parameters: Any) -> dict[str, Any]:
    async with database.begin() as session:
        explain = text(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement.text}")
        found = (await session.execute(explain, parameters)).scalar_one()
    plan: dict[str, Any] = (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]
    return plan


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", []):
        yield from nodes(below)


LANE = {"tenants": ["default"], "priorities": [2], "times": [START[0]], "ids": [START[1]]}


@pytest.mark.parametrize(
    ("statement", "further"),
    [
        (outbox.LOOK, {"limit": 200, "resting": []}),
        (outbox.CLAIM, {"quotas": [200], "resting": [], "trust_lock": outbox.TRUST_LOCK}),
    ],
    ids=["look", "claim"],
)
@pytest.mark.parametrize("waiting", [10, 20_000])
async def test_a_look_and_a_claim_read_their_lane_by_its_index_and_no_further_than_they_need(
    relay: Relay, database: Database, statement: TextClause, further: dict[str, Any], waiting: int
) -> None:
    await fill(database, waiting)
    plan = await plan_of(relay.database, statement, **LANE, **further)
    read = [node for node in nodes(plan) if node.get("Relation Name") == "outbox_messages"]
    assert read
    assert {node.get("Index Name") for node in read} == {"outbox_messages_lane_idx"}
    lanes = [node for node in read if "tenant_id = " in node["Index Cond"]]
    assert all("available_at" in node["Index Cond"] for node in lanes)
    assert max(node["Actual Rows"] for node in read) <= 200


async def test_what_a_look_reads_does_not_grow_with_what_died_while_somebody_holds_a_snapshot(
    relay: Relay, database: Database
) -> None:
    async with database.begin() as holder:
        await holder.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        await holder.execute(text("SELECT count(*) FROM outbox_messages"))
        read = []
        for _ in range(3):
            await fill(database, 3000)
            assert await carry_all(relay) == 3000
            await execute(database, "DELETE FROM outbox_messages")
            await accept(database)
            assert await carry_all(relay) == 1
            assert await relay.run_once() == 0
            read.append(await buffers_of_a_look(relay))
        from_the_start = await plan_of(relay.database, outbox.LOOK, **LANE, limit=200, resting=[])
    assert from_the_start["Shared Hit Blocks"] > 200  # so much would be crawled over
    assert max(read) < 60


async def buffers_of_a_look(relay: Relay) -> int:
    floors = relay.lookout.lanes.floors(full=False)
    columns = outbox._columns(floors)
    plan = await plan_of(relay.database, outbox.LOOK, **columns, limit=200, resting=[])
    return int(plan["Shared Hit Blocks"])


# --- nothing is missed ---


async def insert_late(session: Any, task_id: UUID) -> None:
    await session.execute(
        text("INSERT INTO outbox_messages (task_id) VALUES (:id)"), {"id": task_id}
    )


async def test_a_commit_that_comes_late_is_found_below_what_was_carried_since(
    relay: Relay, database: Database, valkey: redis.Redis
) -> None:
    late = await accept(database)
    await execute(database, "DELETE FROM outbox_messages")
    async with database.begin() as session:
        await insert_late(session, late)
        for _ in range(5):
            await accept(database)
            assert await relay.run_once() == 1
            assert await relay.run_once() == 0
    assert await relay.run_once() == 1
    assert valkey.lindex(QUEUE, -1) == f"{late}:1".encode()


async def test_a_commit_that_comes_late_is_found_also_if_nothing_else_was_committed_since(
    relay: Relay, database: Database
) -> None:
    """A snapshot's xmax is the id after the last that *ended*: younger ones may be under way."""
    late = await accept(database)
    assert await carry_all(relay) == 1  # the lane is known
    await execute(database, "DELETE FROM outbox_messages")
    async with database.begin() as session:
        await insert_late(session, late)
        for _ in range(5):
            assert await relay.run_once() == 0
    assert await relay.run_once() == 1


async def test_a_task_given_back_is_found_however_long_ago_its_transaction_began(
    relay: Relay, database: Database
) -> None:
    lease = await leases_of(database).acquire(await accept(database))
    assert lease is not None
    parameters = ([lease.task_id], [lease.token], [timedelta(0)], [1], ["{}"])
    async with database.begin() as session:
        await session.execute(text("SELECT now()"))
        for _ in range(5):
            await accept(database)
            assert await carry_all(relay) == 1
        connection = await session.connection()
        await connection.exec_driver_sql(REQUEUE, parameters)
    assert await relay.run_once() == 1


async def test_what_another_relay_claimed_and_gave_back_is_found_below_the_mark(
    relay: Relay, database: Database
) -> None:
    await fill(database, 20)
    async with database.begin() as other:
        claimed = await outbox.claim(other, {DEFAULT: 10}, {DEFAULT: START}, [])
        assert len(claimed) == 10
        assert await relay.run_once() == 10
        for _ in range(5):
            await accept(database)
            assert await relay.run_once() == 1
        await other.rollback()
    assert await relay.run_once() == 10


async def test_doorbells_rung_again_by_another_relay_are_found_below_the_mark(
    relay: Relay, database: Database
) -> None:
    await fill(database, 10)
    await carry_all(relay)
    await accept(database)
    await carry_all(relay)
    rearmed = await outbox.rearm_all(database, "another memory")
    assert rearmed == 11
    assert await carry_all(relay) == 11


async def test_a_portion_at_a_time_rings_all_again(
    relay: Relay, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "PORTION", 7)
    await fill(database, 50)
    await carry_all(relay)
    assert await outbox.rearm_all(database, "another memory") == 50
    assert await outbox.rearm_all(database, "another memory") is None


async def test_tenants_and_priorities_nobody_announced_are_found_by_the_next_look(
    relay: Relay, database: Database
) -> None:
    for tenant in ("zebra", "acme", "midway", "äther", "default"):
        for priority in (3, 1, 2):
            await fill(database, 2, tenant=tenant, priority=priority)
    assert await carry_all(relay) == 30
    await fill(database, 1, tenant="acme corp", priority=2)
    assert await carry_all(relay) == 1
    assert len(relay.lookout.lanes.marks) == 16


async def test_delayed_messages_stand_in_nobodys_way_and_say_when_to_look_again(
    relay: Relay, database: Database
) -> None:
    await fill(database, 500)
    delay = "UPDATE outbox_messages SET available_at = now() + interval '1 hour'"
    await execute(database, delay)
    await accept(database)
    assert await relay.run_once() == 1
    assert await relay.run_once() == 0
    look = await relay.lookout.look()
    assert 3000 < look.until_next_due < 3600
    await execute(database, delay.replace("1 hour", "0 hours"))
    assert await carry_all(relay) == 500


async def test_a_clock_that_stepped_back_costs_a_full_look_and_no_message(
    relay: Relay, database: Database
) -> None:
    await accept(database)
    await carry_all(relay)
    await accept(database)
    await execute(
        database,
        "UPDATE outbox_messages SET available_at = now() - interval '1 hour' "
        "WHERE dispatched_at IS NULL",
    )
    assert await relay.run_once() == 0
    relay.lookout._full_look_at = 0.0
    assert await relay.run_once() == 1


async def test_a_paused_relay_publishes_nothing_and_goes_on_when_resumed(
    relay: Relay, database: Database, valkey: redis.Redis
) -> None:
    await accept(database)
    await execute(database, "UPDATE deployment SET paused_at = now(), paused_by = 'me'")
    assert await relay.run_once() == 0
    assert valkey.llen(QUEUE) == 0
    await execute(database, "UPDATE deployment SET paused_at = NULL, paused_by = NULL")
    assert await relay.run_once() == 1


async def test_an_idle_look_is_one_statement_and_a_batch_six(
    relay: Relay, database: Database
) -> None:
    await accept(database)
    await carry_all(relay)
    sent: list[str] = []
    engine = relay.database.engine.sync_engine
    event.listen(engine, "before_cursor_execute", lambda *args: sent.append(args[2]))
    assert await relay.run_once() == 0
    assert len(sent) == 1
    await fill(database, 200)
    sent.clear()
    assert await relay.run_once() == 200
    # look, claim, facts, mark; BEGIN and COMMIT are two more round trips: 0.03 a message.
    assert len(sent) == 4
