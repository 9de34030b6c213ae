"""Workers that freeze, hang, vanish, or cannot reach PostgreSQL; and tasks that kill workers."""

from __future__ import annotations

import signal
from pathlib import Path
from uuid import UUID

import pytest
import redis
from sqlalchemy import text

from shared.database import Database
from tests.chaos.poison_worker import POISON
from tests.chaos.roles import Crew, Role
from tests.conftest import Servers
from tests.eventually import eventually, eventually_sync
from tests.factories import accept, event_types, rows, task
from worker_service.watchdog import EXIT_CODE


async def comes_to(database: Database, task_id: UUID, status: str) -> None:
    async def has_come() -> None:
        assert (await task(database, task_id))["status"] == status

    await eventually(has_come, within=60)


def is_stopped(role: Role) -> None:
    state = Path(f"/proc/{role.process.pid}/stat").read_text().rpartition(")")[2].split()[0]
    assert state == "T"


@pytest.mark.parametrize("instant", ["worker.generating", "worker.generated"])
async def test_a_worker_frozen_beyond_its_lease_wakes_up_to_find_the_task_done(
    crew: Crew, database: Database, instant: str
) -> None:
    frozen = crew.start("worker", failpoints=f"{instant}=stop@1")
    crew.start("relay")
    task_id = await accept(database)
    eventually_sync(lambda: is_stopped(frozen))
    crew.start("worker")
    await comes_to(database, task_id, "succeeded")
    history = await event_types(database, task_id)

    frozen.process.send_signal(signal.SIGCONT)

    def is_told() -> None:
        assert frozen.has_logged("lease_not_ours")

    eventually_sync(is_told)
    assert await event_types(database, task_id) == history
    assert len(await rows(database, "SELECT 1 FROM roadmaps")) == 1
    assert frozen.terminate() == 0


async def test_a_loop_that_is_busy_for_longer_than_the_lease_keeps_it(
    crew: Crew, database: Database
) -> None:
    crew.start("worker", failpoints="worker.generating=block:5@1")
    crew.start("relay")
    task_id = await accept(database)
    await comes_to(database, task_id, "succeeded")
    found = await task(database, task_id)
    assert (found["attempts"], found["takeovers"]) == (1, 0)


async def test_a_loop_that_hangs_ends_its_process_and_another_takes_over(
    crew: Crew, database: Database
) -> None:
    hung = crew.start("worker", failpoints="worker.generating=block:600", watchdog="2")
    crew.start("relay")
    task_id = await accept(database)
    assert hung.process.wait(60) == EXIT_CODE
    assert hung.has_logged("loop_stuck")
    crew.start("worker")
    await comes_to(database, task_id, "succeeded")
    assert (await task(database, task_id))["takeovers"] == 1


async def test_a_worker_that_loses_postgres_for_longer_than_its_lease_goes_on_afterwards(
    crew: Crew, servers: Servers, database: Database
) -> None:
    worker = crew.start("worker", failpoints="worker.generating=sleep:6@1")
    crew.start("relay")
    task_id = await accept(database)
    await comes_to(database, task_id, "running")
    servers.postgres.stop()
    try:

        def lets_go() -> None:
            assert worker.has_logged("heartbeat_failed")
            assert worker.has_logged("database_waits")  # to give the task back

        eventually_sync(lets_go)
    finally:
        servers.postgres.start()
        await database.close()
    await comes_to(database, task_id, "succeeded")
    assert worker.process.poll() is None
    found = await task(database, task_id)
    assert (found["attempts"], found["takeovers"]) in [(1, 0), (1, 1)]  # given back, or swept


async def test_a_task_that_kills_every_worker_ends_as_worker_lost_and_takes_no_other_with_it(
    crew: Crew, database: Database
) -> None:
    crew.start("relay")
    others = [await accept(database, f"Learn {number}") for number in range(8)]
    poison = await accept(database, POISON)

    async def all_ended() -> None:
        found = await rows(database, "SELECT 1 FROM tasks WHERE finished_at IS NULL")
        assert found == []

    for _ in range(4):  # the first run and three takeovers
        worker = crew.start("worker", module="tests.chaos.poison_worker")
        worker.wait_killed()
    crew.start("worker", module="tests.chaos.poison_worker")
    await eventually(all_ended, within=60)
    found = await task(database, poison)
    assert (found["status"], found["error"]["code"]) == ("failed", "worker_lost")
    assert {(await task(database, one))["status"] for one in others} == {"succeeded"}


async def test_a_worker_killed_before_it_could_tell_of_a_failure_is_replaced_by_one_that_does(
    crew: Crew, database: Database
) -> None:
    doomed = crew.start("worker", failpoints="worker.failing=kill")
    crew.start("relay")
    task_id = await accept(database, "Knit a sweater")
    doomed.wait_killed()
    crew.start("worker")
    await comes_to(database, task_id, "failed")
    found = await task(database, task_id)
    assert (found["error"]["code"], found["takeovers"]) == ("goal_not_covered", 1)
    assert len(await rows(database, "SELECT 1 FROM dead_letters")) == 1


async def test_a_rolling_restart_charges_no_attempt(crew: Crew, database: Database) -> None:
    crew.start("relay")
    # A lease that outlives a busy machine: what is not handed over is still taken over in the end.
    slow = {"failpoints": "worker.generating=sleep:0.3", "worker_concurrency": "4", "lease": "10"}
    workers = [crew.start("worker", **slow) for _ in range(2)]
    ids = [await accept(database) for _ in range(40)]
    for worker in workers:
        replacement = crew.start("worker", **slow)
        assert worker.terminate() == 0
        assert replacement.process.poll() is None
    for task_id in ids:
        await comes_to(database, task_id, "succeeded")
    found = await rows(database, "SELECT DISTINCT attempts, takeovers FROM tasks")
    assert [dict(one) for one in found] == [{"attempts": 1, "takeovers": 0}]
    assert len(await rows(database, "SELECT 1 FROM roadmaps")) == 40


LONGEST = """
    SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0)::float8 AS seconds
    FROM pg_stat_activity WHERE application_name IN ('waymark-worker', 'waymark-heartbeat')
"""


async def test_no_transaction_of_a_worker_is_open_for_two_seconds_whatever_it_waits_for(
    crew: Crew, database: Database, valkey: redis.Redis
) -> None:
    crew.start("relay")
    task_id = await accept(database)

    async def rung() -> None:
        assert valkey.llen("waymark:roadmaps") == 1

    await eventually(rung)
    seen = [0.0]
    async with database.begin() as session:
        await session.execute(text("SELECT 1 FROM outbox_messages FOR UPDATE"))
        worker = crew.start("worker", lease="30")  # as long as it goes on trying

        async def gave_up_and_came_back() -> None:
            seen.append((await rows(database, LONGEST))[0]["seconds"])
            waits = [one for one in worker.lines() if one["event"] == "database_waits"]
            assert len(waits) >= 2

        await eventually(gave_up_and_came_back)
    assert 0.5 < max(seen) < 2
    await comes_to(database, task_id, "succeeded")
