"""Relays, workers and their queue over HTTP; orders to workers; what the capacity is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from api_service import capacity
from api_service.capacity import Capacity
from shared.database import Database
from shared.settings import Settings
from tests.factories import accept, execute, fill, leases_of, rows
from tests.http import assert_problem, in_process
from tests.processes import SILENT, present

ORDER = {"reason": "a deploy", "actor": "ann"}


@pytest.fixture
async def client(database: Database, settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    async with in_process(settings) as client:
        yield client


async def listed(client: httpx2.AsyncClient, what: str) -> list[dict[str, Any]]:
    answer = await client.get(f"/v1/ops/{what}")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


async def acts(database: Database) -> list[tuple[str, str, str]]:
    return [
        (one["act"], one["actor"], one["reason"])
        for one in await rows(database, "SELECT * FROM operator_acts ORDER BY id")
    ]


# --- workers and relays ---


async def test_a_worker_is_told_with_the_leases_that_it_holds(
    client: httpx2.AsyncClient, database: Database
) -> None:
    worker_id = await present(database, "worker", name="host:1", running=1)
    await present(database, "worker", name="host:2")
    task_id = await accept(database)
    assert await leases_of(database, owner="host:1").acquire(task_id)
    first, second = await listed(client, "workers")
    [held] = first.pop("tasks")
    assert (held["task_id"], held["attempt"]) == (str(task_id), 1)
    assert held["lease_expires_at"].endswith("Z")
    for name in ("started_at", "seen_at"):
        assert first.pop(name).endswith("Z")
    assert first == {
        "id": str(worker_id),
        "name": "host:1",
        "version": "1",
        "state": "working",
        "slots": 4,
        "running": 1,
        "finished": 7,
        "mean_seconds": 2.0,
        "drain_requested_at": None,
    }
    assert (second["name"], second["state"], second["tasks"]) == ("host:2", "idle", [])


@pytest.mark.parametrize(
    ("row", "state"),
    [
        ({}, "idle"),
        ({"running": 1}, "working"),
        ({"draining": True}, "draining"),  # it has not heard of it yet
        ({"draining": True, "resting": True, "running": 1}, "draining"),
        ({"draining": True, "resting": True}, "drained"),
        ({"unseen": 31, "running": 1}, "gone"),
    ],
)
async def test_a_worker_has_one_state(
    client: httpx2.AsyncClient, database: Database, row: dict[str, Any], state: str
) -> None:
    await present(database, "worker", **row)
    assert [one["state"] for one in await listed(client, "workers")] == [state]


async def test_a_worker_that_has_a_lease_is_not_drained_whatever_it_said(
    client: httpx2.AsyncClient, database: Database
) -> None:
    await present(database, "worker", name="host:1", draining=True, resting=True)
    assert await leases_of(database, owner="host:1").acquire(await accept(database))
    assert [one["state"] for one in await listed(client, "workers")] == ["draining"]


async def test_leases_are_shown_with_the_latest_worker_of_a_name(
    client: httpx2.AsyncClient, database: Database
) -> None:
    await present(database, "worker", name="host:1", unseen=60)
    await present(database, "worker", name="host:1")
    assert await leases_of(database, owner="host:1").acquire(await accept(database))
    assert [len(one["tasks"]) for one in await listed(client, "workers")] == [0, 1]


@pytest.mark.parametrize(
    ("row", "state"),
    [
        ({}, "carrying"),
        ({"paused": True}, "paused"),
        ({"paused": True, "redis": SILENT}, "waiting_for_redis"),
        ({"unseen": 31}, "gone"),
    ],
)
async def test_a_relay_has_one_state_and_says_how_redis_is(
    client: httpx2.AsyncClient, database: Database, row: dict[str, Any], state: str
) -> None:
    relay_id = await present(database, "relay", **row)
    await present(database, "worker")
    [relay] = await listed(client, "relays")
    assert relay["redis"] == row.get("redis", {"answers": True, "depth": 3, "reason": None})
    assert set(relay) == {
        "id",
        "name",
        "version",
        "state",
        "started_at",
        "seen_at",
        "published",
        "redis",
    }
    assert (relay["id"], relay["state"], relay["published"]) == (str(relay_id), state, 12)


# --- orders ---


async def test_draining_and_going_on_are_acts_and_the_same_again_is_none(
    client: httpx2.AsyncClient, database: Database
) -> None:
    worker_id = await present(database, "worker")
    for order, drains in (("drain", True), ("drain", True), ("undrain", False), ("undrain", False)):
        answer = await client.post(f"/v1/ops/workers/{worker_id}/{order}", json=ORDER)
        assert answer.status_code == 200
        assert (answer.json()["drain_requested_at"] is not None) is drains
        assert answer.json()["state"] == ("draining" if drains else "idle")
    assert await acts(database) == [
        ("drain", "ann", "a deploy"),
        ("undrain", "ann", "a deploy"),
    ]
    [detail] = await rows(database, "SELECT detail FROM operator_acts WHERE act = 'drain'")
    assert detail["detail"] == {"worker_id": str(worker_id), "worker": "host:1"}


async def test_an_act_without_a_name_is_the_callers(
    client: httpx2.AsyncClient, database: Database
) -> None:
    worker_id = await present(database, "worker")
    await client.post(f"/v1/ops/workers/{worker_id}/drain", json={"reason": "a deploy"})
    assert await acts(database) == [("drain", "anonymous@127.0.0.1", "a deploy")]


@pytest.mark.parametrize("order", ["drain", "undrain"])
async def test_only_a_worker_that_is_there_takes_orders(
    client: httpx2.AsyncClient, database: Database, order: str
) -> None:
    for stranger in (uuid4(), await present(database, "relay")):
        answer = await client.post(f"/v1/ops/workers/{stranger}/{order}", json=ORDER)
        assert_problem(answer, 404, "process-not-found")
    worker_id = await present(database, "worker")
    answer = await client.post(f"/v1/ops/workers/{worker_id}/{order}", json={"actor": "ann"})
    assert_problem(answer, 422, "validation-failed")
    assert await acts(database) == []


# --- the queue ---


async def test_the_queue_counts_what_waits_and_who_works(
    client: httpx2.AsyncClient, database: Database
) -> None:
    await present(database, "relay")
    await present(database, "relay", unseen=60, redis=SILENT)
    for more in ({}, {"mean_seconds": None}, {"draining": True}, {"unseen": 60}):
        await present(database, "worker", **more)
    await fill(database, 16)
    delayed, dispatched, running = [await accept(database) for _ in range(3)]
    later = "UPDATE outbox_messages SET available_at = now() + interval '1 h' WHERE task_id = :id"
    await execute(database, later, id=delayed)
    rung = "UPDATE outbox_messages SET dispatched_at = now() WHERE task_id = :id"
    await execute(database, rung, id=dispatched)
    assert await leases_of(database).acquire(running)
    [queue] = await listed(client, "queues")
    assert queue.pop("oldest_waiting_seconds") > 0
    assert queue == {
        "name": "roadmaps",
        "waiting": 16,
        "delayed": 1,
        "in_flight": 1,
        "running": 1,
        "paused": None,
        "slots": 8,
        "workers": 2,
        "redis_depth": 3,
        "estimated_wait_seconds": 6.0,  # three rounds of eight, two seconds each
    }


async def test_a_queue_that_nobody_works_on_says_so(
    client: httpx2.AsyncClient, database: Database
) -> None:
    [queue] = await listed(client, "queues")
    assert (queue["workers"], queue["slots"], queue["redis_depth"]) == (0, 0, None)
    assert queue["oldest_waiting_seconds"] is None
    assert queue["estimated_wait_seconds"] is None


async def test_how_long_a_paused_queue_waits_is_not_known(
    client: httpx2.AsyncClient, database: Database
) -> None:
    await present(database, "worker")
    assert (await client.post("/v1/ops/outbox/pause", json={"reason": "deploy"})).status_code == 200
    await fill(database, 2)
    [queue] = await listed(client, "queues")
    assert (queue["waiting"], queue["estimated_wait_seconds"]) == (2, None)


async def test_pausing_the_queue_is_the_act_of_pausing_the_outbox(
    client: httpx2.AsyncClient, database: Database
) -> None:
    answer = await client.post("/v1/ops/queues/roadmaps/pause", json=ORDER)
    assert answer.status_code == 200
    assert answer.json()["paused"]["by"] == "ann"
    again = await client.post("/v1/ops/outbox/pause", json=ORDER)
    assert again.json()["act"] is None
    [queue] = await listed(client, "queues")
    assert (queue["paused"]["by"], queue["paused"]["reason"]) == ("ann", "a deploy")
    resumed = await client.post("/v1/ops/queues/roadmaps/resume", json=ORDER)
    assert resumed.json()["paused"] is None
    assert [act for act, _, _ in await acts(database)] == ["pause", "resume"]


@pytest.mark.parametrize("order", ["pause", "resume"])
async def test_there_is_one_queue(
    client: httpx2.AsyncClient, database: Database, order: str
) -> None:
    answer = await client.post(f"/v1/ops/queues/others/{order}", json=ORDER)
    assert "there is roadmaps" in assert_problem(answer, 404, "not-found")["detail"]


# --- capacity ---


async def test_a_place_waits_for_as_many_rounds_as_are_before_it(database: Database) -> None:
    await present(database, "worker", slots=4, mean_seconds=2.0)
    await present(database, "worker", slots=12, mean_seconds=4.0)
    found = Capacity(database)
    assert [await found.wait_for(place) for place in (0, 1, 16, 17)] == [0, 3.5, 3.5, 7.0]


@pytest.mark.parametrize(
    "worker",
    [{"unseen": 31}, {"draining": True}, {"mean_seconds": None}],
    ids=["gone", "draining", "new"],
)
async def test_no_wait_is_told_that_is_not_known(
    database: Database, worker: dict[str, Any]
) -> None:
    await present(database, "worker", **worker)
    assert await Capacity(database).wait_for(1) is None


async def test_the_capacity_is_read_again_after_a_while_and_not_before(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Capacity(database)
    assert await found.wait_for(1) is None
    await present(database, "worker")
    assert await found.wait_for(1) is None
    monkeypatch.setattr(capacity, "FRESH", 0.0)
    assert await found.wait_for(1) == 2.0
