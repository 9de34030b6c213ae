"""Relays and workers say that they live, hear that they are to drain, and never stop over it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import httpx2
import pytest
import redis
from structlog.testing import capture_logs

from shared.database import Database
from shared.messages import SLOTS_KEY
from shared.presence import Presence, own_name
from shared.settings import Settings
from tests.chaos.roles import Crew, Role, crew_of
from tests.conftest import Servers
from tests.eventually import eventually
from tests.factories import accept, execute, row, rows, task
from tests.http import in_process
from tests.wire import Wire
from waymark.processes import LOCALHOST, pick_port

BRISK = {"presence": "0.2"}


@pytest.fixture
def crew(servers: Servers, valkey: redis.Redis, tmp_path: Path) -> Iterator[Crew]:
    with crew_of(servers, tmp_path) as crew:
        yield crew


@pytest.fixture
async def client(database: Database, settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    async with in_process(settings) as client:
        yield client


@asynccontextmanager
async def saying(
    settings: Settings, database: Database, heed: Any = lambda _: None
) -> AsyncIterator[Presence]:
    """A presence of this process; Any: what hears its orders."""

    async def report() -> dict[str, Any]:
        return {"slots": 4, "running": 0, "finished": 0, "mean_seconds": None, "resting": False}

    brisk = Database(settings.model_copy(update={"presence": 0.05}), "worker")
    stop = asyncio.Event()
    presence = Presence(brisk, "worker", report)
    said = asyncio.create_task(presence.run(stop, heed))
    try:
        yield presence
    finally:
        stop.set()
        await said
        await brisk.close()


async def process_of(database: Database, role: Role) -> dict[str, Any]:
    """Its row, once it is there."""

    async def there() -> None:
        assert await rows(database, sql, name=name)

    sql, name = "SELECT * FROM processes WHERE name LIKE :name", f"%:{role.process.pid}"
    await eventually(there)
    return dict(await row(database, sql, name=name))


# --- being seen ---


async def test_what_runs_is_seen_and_seen_again_and_is_gone_when_it_stops(
    crew: Crew, database: Database
) -> None:
    roles = [crew.start("relay", **BRISK), crew.start("worker", worker_concurrency="3", **BRISK)]
    for role in roles:
        first = await process_of(database, role)
        assert (first["role"], first["gone_after"].total_seconds()) == (role.name, 0.6)

        async def renewed(role: Role = role, first: dict[str, Any] = first) -> None:
            again = await process_of(database, role)
            assert again["id"] == first["id"]
            assert again["started_at"] == first["started_at"]
            assert again["seen_at"] > first["seen_at"]

        await eventually(renewed)
    for role in roles:
        assert role.terminate() == 0
    assert await rows(database, "SELECT * FROM processes") == []


async def test_the_reports_tell_what_is_done(crew: Crew, database: Database) -> None:
    relay = crew.start("relay", **BRISK)
    worker = crew.start("worker", worker_concurrency="3", **BRISK)
    told = (await process_of(database, worker))["report"]
    assert (told["slots"], told["finished"], told["mean_seconds"]) == (3, 0, None)
    accepted = [await accept(database) for _ in range(5)]
    await accept(database, "Knit a sweater")  # no plan covers it: it ends, too

    async def done() -> None:
        told = (await process_of(database, worker))["report"]
        assert (told["finished"], told["running"]) == (len(accepted) + 1, 0)
        assert told["mean_seconds"] > 0
        told = (await process_of(database, relay))["report"]
        assert told["published"] == len(accepted) + 1
        assert told["redis"] == {"answers": True, "depth": 0, "reason": None}

    await eventually(done)


async def test_a_killed_worker_is_shown_as_gone(
    crew: Crew, database: Database, client: httpx2.AsyncClient
) -> None:
    worker = crew.start("worker", **BRISK)
    process = await process_of(database, worker)
    worker.kill()

    async def gone() -> None:
        [found] = (await client.get("/v1/ops/workers")).json()["data"]
        assert (found["id"], found["state"]) == (str(process["id"]), "gone")

    await eventually(gone)


async def test_a_relay_that_waits_for_redis_is_seen_waiting(
    crew: Crew, servers: Servers, database: Database, client: httpx2.AsyncClient
) -> None:
    nowhere = {"WAYMARK_REDIS_URL": f"redis://{LOCALHOST}:{pick_port()}"}
    environment = servers.environment(**nowhere, WAYMARK_PRESENCE="0.2")
    relay = Role("relay", environment, crew.log)
    crew.stack.callback(relay.kill)

    async def waits() -> None:
        found = (await client.get("/v1/ops/relays")).json()["data"]
        assert [one["state"] for one in found] == ["waiting_for_redis"]
        assert found[0]["redis"]["reason"]

    await eventually(waits)
    assert relay.terminate() == 0
    assert await rows(database, "SELECT * FROM processes") == []


async def test_a_paused_relay_says_so(
    crew: Crew, database: Database, client: httpx2.AsyncClient
) -> None:
    crew.start("relay", **BRISK)

    async def is_in(state: str) -> None:
        assert [one["state"] for one in (await client.get("/v1/ops/relays")).json()["data"]] == [
            state
        ]

    await eventually(lambda: is_in("carrying"))
    await client.post("/v1/ops/outbox/pause", json={"reason": "a deploy"})
    await eventually(lambda: is_in("paused"))
    await client.post("/v1/ops/outbox/resume", json={"reason": "deployed"})
    await eventually(lambda: is_in("carrying"))


async def test_what_was_not_seen_for_a_day_is_cleared_away(
    settings: Settings, database: Database
) -> None:
    old = """
        INSERT INTO processes (id, role, name, version, gone_after, seen_at)
        SELECT gen_random_uuid(), 'relay', name, '1', interval '30 s', now() - silent
        FROM (VALUES ('yesterday', interval '25 h'), ('today', interval '23 h'))
            AS was (name, silent)
    """
    await execute(database, old)
    async with saying(settings, database):

        async def cleared() -> None:
            found = {one["name"] for one in await rows(database, "SELECT name FROM processes")}
            assert found == {"today", own_name()}

        await eventually(cleared)


# --- trouble ---


async def test_trouble_is_told_once_and_ends_nothing(
    settings: Settings, database: Database
) -> None:
    with capture_logs() as lines:
        async with saying(settings, database):

            async def seen() -> None:
                assert await rows(database, "SELECT 1 FROM processes")

            await eventually(seen)
            await execute(database, "ALTER TABLE processes RENAME TO hidden")
            try:

                async def troubled() -> None:
                    assert "presence_not_told" in [line["event"] for line in lines]

                await eventually(troubled)
                await asyncio.sleep(0.5)  # ten more times in vain
            finally:
                await execute(database, "ALTER TABLE hidden RENAME TO processes")
            await execute(database, "DELETE FROM processes")
            await eventually(seen)
    assert [line["event"] for line in lines].count("presence_not_told") == 1


async def test_a_worker_that_cannot_reach_postgres_lives_and_is_seen_again(
    crew: Crew, servers: Servers, settings: Settings, database: Database
) -> None:
    wire = Wire(settings.require_database())
    await wire.open()
    port = int(wire.url.rpartition("/")[0].rpartition(":")[2])
    environment = servers.environment(WAYMARK_DATABASE_URL=wire.url, WAYMARK_PRESENCE="0.2")
    worker = Role("worker", environment, crew.log)
    crew.stack.callback(worker.kill)
    process = await process_of(database, worker)
    await wire.close()

    async def unheard() -> None:
        assert worker.has_logged("presence_not_told")

    await eventually(unheard)
    silent_since = (await process_of(database, worker))["seen_at"]
    await wire.open(port)

    async def heard() -> None:
        again = await process_of(database, worker)
        assert again["id"] == process["id"]
        assert again["seen_at"] > silent_since

    await eventually(heard)
    crew.start("relay")
    task_id = await accept(database)
    await eventually(lambda: ended(database, [task_id]))
    told = [line["event"] for line in worker.lines()].count("presence_not_told")
    assert told == 1
    assert await asyncio.to_thread(worker.terminate) == 0
    await wire.close()


# --- draining ---


async def order(
    client: httpx2.AsyncClient, which: Literal["drain", "undrain"], worker_id: UUID
) -> None:
    answer = await client.post(
        f"/v1/ops/workers/{worker_id}/{which}", json={"reason": "a deploy", "actor": "ann"}
    )
    assert answer.status_code == 200, answer.text


async def is_in_state(client: httpx2.AsyncClient, worker_id: UUID, state: str) -> None:
    found = (await client.get("/v1/ops/workers")).json()["data"]
    assert {one["id"]: one["state"] for one in found}[str(worker_id)] == state


async def ended(database: Database, ids: list[UUID]) -> None:
    found = [(await task(database, one))["status"] for one in ids]
    assert set(found) == {"succeeded"}


async def only_slots_of(valkey: redis.Redis, member: str) -> None:
    assert valkey.zrange(SLOTS_KEY, 0, -1) == [member.encode()]


async def takers(database: Database, ids: list[UUID]) -> set[str]:
    sql = """
        SELECT DISTINCT data ->> 'worker' AS name FROM task_events
        WHERE type = 'task.started' AND task_id = ANY (CAST(:ids AS uuid[]))
    """
    return {one["name"] for one in await rows(database, sql, ids=ids)}


async def test_a_drained_worker_takes_nothing_until_it_may_again(
    crew: Crew, database: Database, client: httpx2.AsyncClient, valkey: redis.Redis
) -> None:
    crew.start("relay")
    small = BRISK | {"worker_concurrency": "2"}
    first, second = [await process_of(database, crew.start("worker", **small)) for _ in range(2)]
    for drained, other in ((first, second), (second, first)):
        await order(client, "drain", drained["id"])
        await eventually(partial(is_in_state, client, drained["id"], "drained"))
        await eventually(partial(only_slots_of, valkey, f"2 {other['name']}"))
        ids = [await accept(database) for _ in range(10)]
        await eventually(partial(ended, database, ids))
        assert await takers(database, ids) == {other["name"]}
        await order(client, "undrain", drained["id"])
        await eventually(partial(is_in_state, client, drained["id"], "idle"))
    acts = await rows(database, "SELECT act, actor, reason FROM operator_acts ORDER BY id")
    assert [tuple(one.values()) for one in acts] == [
        (act, "ann", "a deploy") for act in ("drain", "undrain") * 2
    ]


async def test_what_a_draining_worker_runs_it_finishes_and_what_waits_it_leaves(
    crew: Crew, database: Database, client: httpx2.AsyncClient, valkey: redis.Redis
) -> None:
    crew.start("relay")
    slow = BRISK | {"worker_concurrency": "1", "failpoints": "worker.generating=sleep:2@1"}
    worker = crew.start("worker", **slow)
    process = await process_of(database, worker)
    running = await accept(database)

    async def runs() -> None:
        assert (await task(database, running))["status"] == "running"

    await eventually(runs)
    await order(client, "drain", process["id"])
    await is_in_state(client, process["id"], "draining")
    waiting = await accept(database)
    await eventually(lambda: ended(database, [running]))
    await eventually(lambda: is_in_state(client, process["id"], "drained"))
    found = await task(database, running)
    assert (found["attempts"], found["takeovers"]) == (1, 0)
    assert (await task(database, waiting))["status"] == "queued"
    assert worker.process.poll() is None
    await order(client, "undrain", process["id"])
    await eventually(lambda: ended(database, [waiting]))


async def test_a_drained_worker_stops_as_any_other(
    crew: Crew, database: Database, client: httpx2.AsyncClient
) -> None:
    worker = crew.start("worker", **BRISK)
    process = await process_of(database, worker)
    await order(client, "drain", process["id"])
    await eventually(lambda: is_in_state(client, process["id"], "drained"))
    assert worker.terminate() == 0
    assert await rows(database, "SELECT * FROM processes") == []


async def test_an_order_is_heard_once(settings: Settings, database: Database) -> None:
    heard: list[bool] = []
    async with saying(settings, database, heard.append) as presence:

        async def is_draining(draining: bool) -> None:
            assert presence.draining is draining

        async def said() -> None:
            assert await rows(database, "SELECT 1 FROM processes")

        await eventually(said)
        await execute(database, "UPDATE processes SET drain_requested_at = now()")
        await eventually(lambda: is_draining(True))
        await execute(database, "UPDATE processes SET drain_requested_at = NULL")
        await eventually(lambda: is_draining(False))
    assert heard == [True, False]
