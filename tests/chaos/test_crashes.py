"""Kill, flush, restart at the worst instants: nothing is lost, nothing happens twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
import redis

from shared import logs
from shared.database import Database
from tests.chaos.roles import Crew
from tests.conftest import Servers
from tests.eventually import eventually, eventually_sync
from tests.factories import accept, event_types, row, rows, task
from waymark.client import Client, Unreachable

GOAL = "Learn SQL"


async def all_ended(database: Database, accepted: int, within: float = 60) -> None:
    """Accepted = ended, one roadmap per success, no message left, no gap in any history."""

    async def ended() -> None:
        open_tasks = await rows(database, "SELECT status FROM tasks WHERE finished_at IS NULL")
        assert open_tasks == []

    await eventually(ended, within)
    counts = await row(
        database,
        """
        SELECT count(*) AS accepted,
               count(*) FILTER (WHERE status = 'succeeded') AS succeeded,
               (SELECT count(*) FROM roadmaps) AS roadmaps,
               (SELECT count(*) FROM outbox_messages) AS messages,
               (SELECT count(*) FROM dead_letters) AS dead_letters
        FROM tasks
        """,
    )
    assert dict(counts) == {
        "accepted": accepted,
        "succeeded": accepted,
        "roadmaps": accepted,
        "messages": 0,
        "dead_letters": 0,
    }
    gaps = await rows(
        database,
        "SELECT task_id FROM task_events GROUP BY task_id HAVING max(seq) <> count(*)",
    )
    assert gaps == []


async def succeeded(database: Database, task_id: UUID) -> None:
    assert (await task(database, task_id))["status"] == "succeeded"


async def test_a_relay_killed_after_publishing_publishes_again_and_the_worker_runs_once(
    crew: Crew, database: Database
) -> None:
    relay = crew.start("relay", failpoints="relay.published=kill")
    task_id = await accept(database, GOAL)
    relay.wait_killed()
    assert (await row(database, "SELECT dispatched_at FROM outbox_messages"))[
        "dispatched_at"
    ] is None, "it died before it could settle"

    second = crew.start("relay")
    worker = crew.start("worker")
    await all_ended(database, 1)
    dispatched = [line for line in second.lines() if line["event"] == logs.TASK_DISPATCHED]
    assert [line["repeated"] for line in dispatched] == [1]
    assert (await task(database, task_id))["attempts"] == 1
    assert len([one for one in worker.lines() if one["event"] == logs.TASK_SUCCEEDED]) == 1


async def test_a_worker_killed_while_generating_is_replaced_within_its_lease(
    crew: Crew, database: Database
) -> None:
    doomed = crew.start("worker", failpoints="worker.generating=kill")
    crew.start("relay")
    task_id = await accept(database, GOAL)
    doomed.wait_killed()
    crew.start("worker")
    await all_ended(database, 1)
    found = await task(database, task_id)
    assert (found["takeovers"], found["attempts"]) == (1, 1)
    assert "task.requeued" in await event_types(database, task_id)


@pytest.mark.parametrize("instant", ["worker.generated", "worker.completed"])
async def test_a_worker_killed_around_its_commit_leaves_one_result(
    crew: Crew, database: Database, instant: str
) -> None:
    doomed = crew.start("worker", failpoints=f"{instant}=kill")
    crew.start("relay")
    await accept(database, GOAL)
    doomed.wait_killed()
    crew.start("worker")
    await all_ended(database, 1)


async def test_an_api_killed_after_commit_and_before_its_answer_gives_the_same_task_again(
    crew: Crew, database: Database
) -> None:
    doomed = crew.start("api", failpoints="api.committed=kill")
    with Client(crew.url) as client, pytest.raises(Unreachable):
        client.submit({"goal": GOAL}, idempotency_key="the key")
    doomed.wait_killed()
    committed = await row(database, "SELECT id FROM tasks")

    crew.start("api")
    with Client(crew.url) as client:
        again = client.submit({"goal": GOAL}, idempotency_key="the key")
    assert again["id"] == str(committed["id"])
    crew.start("relay")
    crew.start("worker")
    await all_ended(database, 1)


async def test_a_flushed_valkey_loses_no_task(
    crew: Crew, database: Database, valkey: redis.Redis
) -> None:
    relay = crew.start("relay")
    for _ in range(50):
        await accept(database, GOAL)

    async def dispatched() -> None:
        assert valkey.llen("waymark:roadmaps") == 50

    await eventually(dispatched)
    valkey.flushall()
    crew.start("worker")
    await all_ended(database, 50)
    assert relay.has_logged("redis_memory_is_new")


async def test_redis_away_delays_but_loses_nothing(
    crew: Crew, servers: Servers, database: Database
) -> None:
    crew.start("api")
    crew.start("relay")
    crew.start("worker")
    servers.valkey.stop()
    try:
        with Client(crew.url) as client:
            accepted = [client.submit({"goal": GOAL})["status"] for _ in range(10)]
        assert accepted == ["queued"] * 10
    finally:
        servers.valkey.start()
    await all_ended(database, 10)


async def test_postgres_restarted_under_load_loses_no_accepted_task(
    crew: Crew, servers: Servers, database: Database
) -> None:
    for name in ("api", "relay", "worker"):
        crew.start(name)
    keys = [f"key {number}" for number in range(120)]
    answered: list[str] = []

    def submit(key: str) -> None:
        with Client(crew.url) as client:
            answered.append(client.submit({"goal": GOAL}, idempotency_key=key)["id"])

    with ThreadPoolExecutor(8) as pool:
        submissions = [pool.submit(submit, key) for key in keys]
        eventually_sync(lambda: _at_least(answered, 20))
        servers.postgres.restart("immediate")
        for submission in submissions:
            submission.result(60)

    assert len(set(answered)) == len(keys)
    await database.close()  # this test's own connections died too, while its loop stood still
    await all_ended(database, len(keys), within=90)


def _at_least(answered: list[str], number: int) -> None:
    assert len(answered) >= number


async def test_sigterm_to_everything_mid_work_hands_over_and_a_new_crew_finishes(
    crew: Crew, database: Database
) -> None:
    slow = {"failpoints": "worker.generating=sleep:30", "drain": "1"}
    roles = [crew.start("relay"), crew.start("worker", **slow), crew.start("api")]
    with Client(crew.url) as client:
        ids = [UUID(client.submit({"goal": GOAL})["id"]) for _ in range(5)]

    async def running() -> None:
        assert {(await task(database, one))["status"] for one in ids} == {"running"}

    await eventually(running)
    assert [role.terminate() for role in roles] == [0, 0, 0]
    left = await rows(database, "SELECT status, attempts FROM tasks")
    assert {(one["status"], one["attempts"]) for one in left} == {("queued", 0)}

    crew.start("relay")
    crew.start("worker")
    await all_ended(database, 5)


async def test_the_log_tells_one_tasks_story_in_order_across_the_services(
    crew: Crew, database: Database
) -> None:
    crew.start("api")
    crew.start("relay")
    crew.start("worker")
    with Client(crew.url) as client:
        task_id = client.submit({"goal": GOAL})["id"]
        client.wait(task_id, timeout=30)
    story = [line for line in crew.log.read_text().splitlines() if task_id in line]
    names = (
        logs.TASK_COMMITTED,
        logs.TASK_VERIFIED,
        logs.TASK_DISPATCHED,
        logs.TASK_FOUND,
        logs.TASK_SUCCEEDED,
    )
    told = [name for line in story for name in names if f'"{name}"' in line]
    assert told == list(names)
    assert "not found" not in crew.log.read_text()
