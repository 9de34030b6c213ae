"""What a task waits for, in the situations that it can really be in."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
import redis
from sqlalchemy import text

from api_service.facts import Facts, facts_of
from shared import operating
from shared.database import Database
from shared.errors import Transient
from shared.settings import Settings
from tests.chaos.roles import Crew, Role, crew_of
from tests.conftest import Servers
from tests.eventually import eventually
from tests.factories import accept, execute, fill, leases_of, row, task
from tests.http import assert_problem, in_process
from tests.processes import present
from waymark.processes import LOCALHOST, pick_port


@pytest.fixture
def crew(servers: Servers, valkey: redis.Redis, tmp_path: Path) -> Iterator[Crew]:
    with crew_of(servers, tmp_path) as crew:
        yield crew


@pytest.fixture
async def client(database: Database, settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    async with in_process(settings) as client:
        yield client


async def explained(client: httpx2.AsyncClient, task_id: UUID) -> dict[str, Any]:
    answer = await client.get(f"/v1/ops/tasks/{task_id}/why")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    assert set(found) == {"task_id", "status", "waits_for", "sentence", "facts"}
    assert found["task_id"] == str(task_id)
    return found


async def waits_for(client: httpx2.AsyncClient, task_id: UUID, what: str) -> dict[str, Any]:
    """Until it does; what is told then."""

    async def it_does() -> None:
        assert (await explained(client, task_id))["waits_for"] == what

    await eventually(it_does)
    return await explained(client, task_id)


async def has_status(database: Database, task_id: UUID, status: str) -> None:
    async def so() -> None:
        assert (await task(database, task_id))["status"] == status

    await eventually(so)


# --- queued ---


async def test_without_a_relay_it_waits_for_one(
    client: httpx2.AsyncClient, database: Database
) -> None:
    task_id = await accept(database)
    found = await explained(client, task_id)
    assert (found["status"], found["waits_for"]) == ("queued", "relay")
    assert found["sentence"] == (
        "It waits for a relay: none is running; start one with `python -m relay_service`."
    )
    assert found["facts"]["message"]["state"] == "waiting"
    assert found["facts"]["message"]["position"] == 1
    await present(database, "relay", unseen=40)
    assert "none has been seen for 4" in (await explained(client, task_id))["sentence"]


async def test_while_the_relays_are_paused_it_waits_for_who_paused_them(
    client: httpx2.AsyncClient, database: Database
) -> None:
    await present(database, "relay")
    await operating.pause(database, "ann", "a deploy")
    found = await explained(client, await accept(database))
    assert found["waits_for"] == "paused_relays"
    assert found["sentence"].startswith("ann paused the relays ")
    assert "(a deploy)" in found["sentence"]


async def test_while_redis_is_away_it_waits_for_redis(
    crew: Crew, servers: Servers, client: httpx2.AsyncClient, database: Database
) -> None:
    nowhere = servers.environment(WAYMARK_REDIS_URL=f"redis://{LOCALHOST}:{pick_port()}")
    relay = Role("relay", nowhere, crew.log)
    crew.stack.callback(relay.kill)
    found = await waits_for(client, await accept(database), "redis")
    assert "Connection refused" in found["sentence"]
    assert found["facts"]["relays"]["alive"] == 1


async def test_published_and_without_a_worker_it_waits_for_one(
    crew: Crew, client: httpx2.AsyncClient, database: Database
) -> None:
    crew.start("relay")
    task_id = await accept(database)

    async def published() -> None:
        found = await explained(client, task_id)
        assert found["facts"]["message"]["state"] == "dispatched"
        assert found["waits_for"] == "worker"
        assert "none is running" in found["sentence"]

    await eventually(published)


async def test_published_and_with_all_slots_busy_it_waits_for_a_slot(
    crew: Crew, client: httpx2.AsyncClient, database: Database
) -> None:
    crew.start("relay")
    crew.start("worker", worker_concurrency="1", failpoints="worker.generating=sleep:600")
    first = await accept(database)
    await has_status(database, first, "running")
    second = await accept(database)

    async def waits() -> None:
        found = await explained(client, second)
        assert "waits for a free slot: all 1 are busy" in found["sentence"]

    await eventually(waits)
    found = await explained(client, first)
    assert (found["status"], found["waits_for"]) == ("running", "generation")
    assert found["facts"]["lease"]["owner"] in found["sentence"]


async def test_behind_others_it_waits_for_its_turn(
    client: httpx2.AsyncClient, database: Database
) -> None:
    await present(database, "relay")
    await present(database, "worker", slots=2, mean_seconds=3.0)
    await fill(database, 9)
    found = await explained(client, await accept(database))
    assert found["waits_for"] == "turn"
    assert "number 10 in its queue, and 0 of 2 slots are busy, so about 15 s" in found["sentence"]


async def test_after_a_failed_attempt_it_waits_for_the_next(
    client: httpx2.AsyncClient, database: Database
) -> None:
    task_id = await accept(database)
    leases = leases_of(database)
    lease = await leases.acquire(task_id)
    assert lease is not None
    assert await leases.requeue(lease, Transient("Busy.", code="model_busy"), 3000, charged=True)
    found = await explained(client, task_id)
    assert found["waits_for"] == "due_time"
    assert found["sentence"] == (
        "Its last attempt ended with model_busy; the next one may begin in 50 min."
    )


async def test_before_the_time_that_it_was_submitted_for_it_waits_for_that(
    client: httpx2.AsyncClient, database: Database
) -> None:
    at = datetime.now(UTC) + timedelta(hours=20)
    found = await explained(client, await accept(database, not_before=at))
    assert found["waits_for"] == "due_time"
    assert found["sentence"] == (
        f"It was submitted not to begin before {at:%Y-%m-%dT%H:%M:%SZ}: in 20 h."
    )


async def test_a_relay_that_hangs_in_its_claim_is_told_by_its_lock(
    crew: Crew, client: httpx2.AsyncClient, database: Database
) -> None:
    relay = crew.start("relay", failpoints="relay.claimed=stop")
    task_id = await accept(database)
    found = await waits_for(client, task_id, "row_lock")
    assert "A session of waymark-relay has locked its row for" in found["sentence"]
    pid = found["facts"]["lock"]["pid"]
    assert f"pg_terminate_backend({pid})" in found["sentence"]
    await row(database, "SELECT pg_terminate_backend(:pid) AS ended", pid=pid)  # as it is told
    relay.process.send_signal(signal.SIGCONT)
    await waits_for(client, task_id, "worker")


async def test_a_row_that_somebody_has_locked_by_hand_is_told_and_not_waited_for(
    client: httpx2.AsyncClient, database: Database
) -> None:
    task_id = await accept(database)
    async with database.begin() as session:
        await session.execute(text("SELECT 1 FROM tasks FOR UPDATE"))
        found = await waits_for(client, task_id, "row_lock")
        assert "A session of waymark-test has locked its row" in found["sentence"]
    assert (await explained(client, task_id))["waits_for"] == "relay"


async def test_looking_at_a_task_locks_nothing(database: Database) -> None:
    task_id = await accept(database)
    for _ in range(3):
        assert isinstance(await facts_of(database, task_id), Facts)
    sql = """
        SELECT CAST(CAST(tasks.xmax AS text) AS bigint) AS task,
               CAST(CAST(message.xmax AS text) AS bigint) AS message
        FROM tasks JOIN outbox_messages AS message ON message.task_id = tasks.id
    """
    assert dict(await row(database, sql)) == {"task": 0, "message": 0}


async def test_a_queued_task_that_lost_its_message_is_told(
    client: httpx2.AsyncClient, database: Database
) -> None:
    task_id = await accept(database)
    await execute(database, "DELETE FROM outbox_messages")
    assert (await explained(client, task_id))["waits_for"] == "operator"


# --- running ---


async def test_with_a_worker_that_hangs_it_waits_to_be_let_go_then_for_its_lease(
    crew: Crew, client: httpx2.AsyncClient, database: Database
) -> None:
    crew.start("relay")
    slow = {"failpoints": "worker.generating=sleep:600", "lease": "30", "presence": "2"}
    worker = crew.start("worker", **slow)
    task_id = await accept(database)
    await has_status(database, task_id, "running")
    worker.process.send_signal(signal.SIGSTOP)
    assert (await client.post(f"/v1/tasks/{task_id}/cancel")).status_code == 202
    found = await explained(client, task_id)
    assert found["waits_for"] == "worker_to_cancel"
    assert "was asked" in found["sentence"]
    found = await waits_for(client, task_id, "lease")
    assert "was last seen" in found["sentence"]
    assert "it ends as canceled when its lease runs out" in found["sentence"]
    worker.process.send_signal(signal.SIGCONT)
    await has_status(database, task_id, "canceled")


async def test_with_a_lease_that_ran_out_it_waits_for_a_relay_to_come_by(
    client: httpx2.AsyncClient, database: Database
) -> None:
    task_id = await accept(database)
    assert await leases_of(database, owner="host:1").acquire(task_id)
    await execute(database, "UPDATE tasks SET lease_expires_at = now() - interval '20 s'")
    found = await explained(client, task_id)
    assert found["waits_for"] == "relay"
    assert "it runs again once a relay is there: none is running" in found["sentence"]
    await present(database, "relay")
    found = await explained(client, task_id)
    assert found["waits_for"] == "lease"
    assert "as soon as a relay comes by" in found["sentence"]


# --- and none of these ---


async def test_an_ended_task_waits_for_nothing(
    client: httpx2.AsyncClient, database: Database
) -> None:
    task_id = await accept(database)
    await client.post(f"/v1/tasks/{task_id}/cancel")
    found = await explained(client, task_id)
    assert (found["status"], found["waits_for"]) == ("canceled", "nothing")
    assert "it ended as canceled at 20" in found["sentence"]


async def test_only_a_task_that_is_there_is_explained(
    client: httpx2.AsyncClient, database: Database
) -> None:
    answer = await client.get(f"/v1/ops/tasks/{uuid4()}/why")
    assert_problem(answer, 404, "task-not-found")
    task_id = await accept(database)
    await client.post(f"/v1/tasks/{task_id}/cancel")
    assert (await client.delete(f"/v1/tasks/{task_id}")).status_code < 300
    answer = await client.get(f"/v1/ops/tasks/{task_id}/why")
    assert_problem(answer, 410, "task-deleted")
