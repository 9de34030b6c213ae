"""A task's own deadline: kept by its worker, by the sweeper where there is none, by nobody else."""

from __future__ import annotations

import asyncio
from datetime import date
from uuid import UUID

import pytest
from sqlalchemy.exc import DBAPIError

from api_service.cancellation import cancel
from relay_service import outbox
from relay_service.sweeper import GRACE
from shared.database import Database
from shared.errors import DeadlineExceeded, Transient
from shared.messages import Doorbell
from shared.roadmap import Roadmap, RoadmapRequest
from shared.settings import Settings
from tests.eventually import eventually
from tests.factories import accept, event_types, execute, leases_of, row, rows, small_roadmap, task
from tests.integration.test_cancellation import Race
from worker_service.generation import Generation
from worker_service.generators.port import Steps
from worker_service.heartbeat import Heartbeat
from worker_service.stepbook import StepBook

RACES = 100


class Endless:
    async def generate(self, request: RoadmapRequest, *, today: date, steps: Steps) -> Roadmap:
        await asyncio.sleep(3600)
        return small_roadmap(request, today=today)


async def sweep(database: Database) -> list[UUID]:
    error = DeadlineExceeded().as_dict()
    async with database.autocommit() as connection:
        ended = await outbox.end_overdue(connection, error, GRACE, 500)
        return [one["id"] for one in ended]


async def overdue(database: Database, seconds: int = 1) -> None:
    await execute(database, f"UPDATE tasks SET deadline_at = now() - interval '{seconds} s'")


async def test_a_task_without_a_deadline_has_none(database: Database) -> None:
    task_id = await accept(database)
    assert (await task(database, task_id))["deadline_at"] is None
    assert await sweep(database) == []


async def test_a_deadline_counts_from_the_acceptance(database: Database) -> None:
    task_id = await accept(database, deadline_seconds=90)
    found = await task(database, task_id)
    assert (found["deadline_at"] - found["created_at"]).total_seconds() == 90
    assert await sweep(database) == []


async def test_a_task_that_waits_past_its_deadline_fails_and_no_worker_takes_it(
    database: Database,
) -> None:
    task_id = await accept(database, deadline_seconds=90)
    await overdue(database)
    leases = leases_of(database)
    assert await leases.acquire(task_id, alone=True) is None
    seen = await leases.sight(task_id)
    assert seen is not None
    assert not seen.due
    assert await sweep(database) == [task_id]
    found = await task(database, task_id)
    assert (found["status"], found["error"]["code"]) == ("failed", "deadline_exceeded")
    assert await rows(database, "SELECT 1 FROM outbox_messages") == []
    assert (await row(database, "SELECT source, reason FROM dead_letters")) == {
        "source": "sweeper",
        "reason": "deadline_exceeded",
    }
    assert await event_types(database, task_id) == ["task.accepted", "task.failed"]
    assert await sweep(database) == []


async def test_a_retry_that_would_come_after_the_deadline_fails_at_the_deadline(
    database: Database,
) -> None:
    leases = leases_of(database)
    task_id = await accept(database, deadline_seconds=90)
    lease = await leases.acquire(task_id)
    assert lease is not None
    assert await leases.requeue(lease, Transient("busy"), 3600, charged=True)
    await overdue(database)
    assert await sweep(database) == [task_id]
    assert (await task(database, task_id))["error"]["code"] == "deadline_exceeded"
    assert await rows(database, "SELECT 1 FROM outbox_messages") == []
    assert (await event_types(database, task_id))[-2:] == ["task.requeued", "task.failed"]


@pytest.fixture
def generation(settings: Settings, database: Database, deployment_id: UUID) -> Generation:
    """A worker whose generator never ends, and whose heartbeat does not beat."""
    leases, book = leases_of(database), StepBook(database)
    return Generation(settings, leases, book, Heartbeat(settings), Endless(), deployment_id)


async def test_a_worker_ends_its_task_at_the_deadline(
    generation: Generation, database: Database, deployment_id: UUID
) -> None:
    task_id = await accept(database, deadline_seconds=1)
    await asyncio.wait_for(generation.answer(Doorbell(task_id, 1, deployment_id)), 20)
    found = await task(database, task_id)
    assert (found["status"], found["error"]["code"]) == ("failed", "deadline_exceeded")
    assert found["error"]["retryable"] is False
    assert (await row(database, "SELECT source FROM dead_letters"))["source"] == "worker"


async def test_a_worker_that_ends_at_the_deadline_finds_a_cancellation_that_came_before(
    generation: Generation, database: Database, deployment_id: UUID
) -> None:
    task_id = await accept(database, deadline_seconds=1)
    work = asyncio.create_task(generation.answer(Doorbell(task_id, 1, deployment_id)))

    async def asked() -> None:
        assert (await task(database, task_id))["status"] == "running"
        assert (await cancel(database, "default", task_id)).requested

    await eventually(asked)
    await asyncio.wait_for(work, 20)
    assert (await task(database, task_id))["status"] == "canceled"
    assert (await event_types(database, task_id))[-1] == "task.canceled"
    assert await rows(database, "SELECT 1 FROM dead_letters") == []


async def test_a_running_task_is_left_to_its_worker_for_a_while_then_ended_and_fenced(
    database: Database,
) -> None:
    leases = leases_of(database)
    task_id = await accept(database, deadline_seconds=90)
    lease = await leases.acquire(task_id)
    assert lease is not None
    await overdue(database, seconds=1)
    assert await sweep(database) == []
    await overdue(database, seconds=int(GRACE.total_seconds()) + 1)
    assert await sweep(database) == [task_id]
    assert (await row(database, "SELECT source FROM dead_letters"))["source"] == "sweeper"

    ended = await task(database, task_id)
    roadmap = small_roadmap(RoadmapRequest(goal="Learn SQL"), today=lease.accepted_on)
    assert await leases.complete(lease, roadmap) is False
    assert await leases.fail(lease, Transient("late")) is False
    assert await leases.requeue(lease, Transient("late"), 0, charged=True) is False
    assert await leases.hand_over(lease) is False
    assert await leases.cancel(lease) is False
    assert await task(database, task_id) == ended
    assert ended["error"]["code"] == "deadline_exceeded"
    assert await rows(database, "SELECT 1 FROM outbox_messages") == []


async def test_completion_and_deadline_race_and_exactly_one_wins(database: Database) -> None:
    leases, race = leases_of(database), Race()
    for _ in range(RACES):
        task_id = await accept(database, deadline_seconds=90)
        lease = await leases.acquire(task_id)
        assert lease is not None
        await execute(
            database,
            "UPDATE tasks SET deadline_at = now() - interval '60 s' WHERE id = :id",
            id=task_id,
        )
        roadmap = small_roadmap(RoadmapRequest(goal="Learn SQL"), today=lease.accepted_on)
        completed, swept = await race.run(leases.complete(lease, roadmap), sweep(database))
        race.won(completed)
        assert swept == ([] if completed else [task_id])
        status = "succeeded" if completed else "failed"
        assert (await task(database, task_id))["status"] == status
        assert (await event_types(database, task_id))[2:] == [f"task.{status}"]
    assert race.was_open


async def test_a_deadline_that_passes_while_a_task_is_being_canceled_leaves_it_canceled(
    database: Database,
) -> None:
    task_id = await accept(database, deadline_seconds=90)
    assert await leases_of(database).acquire(task_id) is not None
    assert (await cancel(database, "default", task_id)).requested
    await overdue(database, seconds=60)
    assert await sweep(database) == [task_id]
    assert (await task(database, task_id))["status"] == "canceled"
    assert (await event_types(database, task_id))[-1] == "task.canceled"
    assert await rows(database, "SELECT 1 FROM dead_letters") == []


async def test_an_ended_task_has_nothing_to_do_with_its_deadline(
    database: Database,
) -> None:
    task_id = await accept(database, deadline_seconds=90)
    await cancel(database, "default", task_id)
    assert await sweep(database) == []
    with pytest.raises(DBAPIError, match="may not go"):
        await overdue(database, seconds=60)
