"""A whole worker process beside real servers: what it costs while idle, and how it ends."""

from __future__ import annotations

import signal
import subprocess
import time
import urllib.request

import pytest
import redis
from pydantic import SecretStr

from relay_service.publisher import Publisher, connect
from shared.database import Database
from shared.messages import SLOTS_KEY
from shared.settings import Settings
from tests.chaos.roles import Crew
from tests.eventually import eventually
from tests.factories import accept, row, rows, task
from waymark.processes import LOCALHOST, pick_port
from worker_service.slots import Slots

MEASURED = 6.0
"""Seconds over which commands are counted."""


async def idle(valkey: redis.Redis) -> None:
    """Until the one worker waits in Redis."""

    async def waits() -> None:
        assert valkey.info("clients")["blocked_clients"] == 1

    await eventually(waits)


async def test_an_idle_worker_hardly_asks_redis_and_postgres_only_to_say_that_it_lives(
    crew: Crew, database: Database, valkey: redis.Redis
) -> None:
    worker = crew.start("worker", presence="600")
    await idle(valkey)
    asked = "SELECT max(query_start) AS at FROM pg_stat_activity WHERE application_name = :name"
    before = await row(database, asked, name="waymark-worker")
    valkey.config_resetstat()
    time.sleep(MEASURED)  # noqa: ASYNC251 - nothing else is to happen meanwhile
    calls = {name: found["calls"] for name, found in valkey.info("commandstats").items()}
    assert sum(calls.values()) <= 4 * MEASURED, calls
    assert await row(database, asked, name="waymark-worker") == before
    assert worker.terminate() == 0
    assert worker.has_logged("worker_stopped")


async def test_a_worker_stopped_mid_work_lets_go_at_the_next_step_and_takes_nothing_more(
    crew: Crew, database: Database, valkey: redis.Redis
) -> None:
    crew.start("relay")
    worker = crew.start("worker", failpoints="worker.generating=sleep:1", worker_concurrency="1")
    first, second = await accept(database), await accept(database)

    async def one_runs_and_one_waits() -> None:
        found = {(await task(database, one))["status"] for one in (first, second)}
        assert found == {"running", "queued"}
        assert valkey.llen("waymark:roadmaps") == 1

    await eventually(one_runs_and_one_waits)
    assert worker.terminate() == 0
    for one in (first, second):
        found = await task(database, one)
        assert (found["status"], found["attempts"], found["takeovers"]) == ("queued", 0, 0)
    handed_over = await rows(database, "SELECT data FROM task_events WHERE type = 'task.requeued'")
    assert [one["data"]["reason"] for one in handed_over] == ["worker_stopping"]


async def test_a_second_signal_hands_over_at_once(
    crew: Crew, database: Database, valkey: redis.Redis
) -> None:
    crew.start("relay")
    worker = crew.start("worker", failpoints="worker.generating=sleep:600", drain="600")
    task_id = await accept(database)

    async def runs() -> None:
        assert (await task(database, task_id))["status"] == "running"

    await eventually(runs)
    worker.process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        worker.process.wait(1)
    assert worker.terminate() == 0
    found = await task(database, task_id)
    assert (found["status"], found["attempts"]) == ("queued", 0)


async def slots_of(settings: Settings) -> int:
    """As the relay counts them."""
    client = connect(settings)
    try:
        _, slots = await Publisher(client).fill()
    finally:
        await client.aclose()
    return slots


async def test_a_worker_announces_its_slots_and_withdraws_them(
    crew: Crew, settings: Settings, valkey: redis.Redis
) -> None:
    first = crew.start("worker", worker_concurrency="3")
    second = crew.start("worker", worker_concurrency="4")

    async def announced() -> None:
        assert await slots_of(settings) == 7

    await eventually(announced)
    assert first.terminate() == 0
    assert await slots_of(settings) == 4
    assert second.terminate() == 0
    assert valkey.exists(SLOTS_KEY) == 0


async def test_slots_are_refreshed_lapse_and_are_cleared_away(
    settings: Settings, valkey: redis.Redis
) -> None:
    client = connect(settings)
    mine = Slots(client, 5, "here:1")
    await mine.announce()
    first = valkey.zscore(SLOTS_KEY, "5 here:1") or 0

    async def refreshed() -> None:
        await mine.announce()
        assert (valkey.zscore(SLOTS_KEY, "5 here:1") or 0) > first > 0

    await eventually(refreshed)
    seconds, _ = valkey.time()
    valkey.zadd(SLOTS_KEY, {"9 killed:1": (seconds - 1) * 1000})
    assert await slots_of(settings) == 5
    await Slots(client, 6, "here:2").announce()
    assert set(valkey.zrange(SLOTS_KEY, 0, -1)) == {b"5 here:1", b"6 here:2"}
    await mine.withdraw()
    assert valkey.zrange(SLOTS_KEY, 0, -1) == [b"6 here:2"]
    await client.aclose()


async def test_slots_that_redis_does_not_hear_of_are_no_trouble(settings: Settings) -> None:
    url = SecretStr(f"redis://{LOCALHOST}:{pick_port()}")
    nowhere = settings.model_copy(update={"redis_url": url})
    client = connect(nowhere)
    slots = Slots(client, 5, "here:1")
    await slots.announce()
    await slots.withdraw()
    await client.aclose()


async def test_a_worker_says_that_it_lives_and_is_ready(crew: Crew, valkey: redis.Redis) -> None:
    port = pick_port()
    crew.start("worker", metrics_port=str(port))
    await idle(valkey)
    assert get(port, "/livez") == (200, b"ok\n")
    status, body = get(port, "/readyz")
    assert (status, b'"PostgreSQL": "ok"' in body, b'"Redis": "ok"' in body) == (200, True, True)


def get(port: int, path: str) -> tuple[int, bytes]:
    with urllib.request.urlopen(f"http://{LOCALHOST}:{port}{path}", timeout=10) as answer:
        return answer.status, answer.read()
