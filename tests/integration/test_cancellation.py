"""Stopping a task: wherever it is, whoever is quicker, once and for all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from datetime import date
from typing import TypeVar
from uuid import UUID

import pytest
from pydantic import BaseModel
from sqlalchemy.exc import DBAPIError
from uuid_utils.compat import uuid7

from api_service.cancellation import cancel
from api_service.problems import Problem
from relay_service import outbox
from relay_service.outbox import Claimed
from relay_service.sweeper import GRACE
from relay_service.verification import Drop, verify
from shared.database import Database, repeated
from shared.errors import DeadlineExceeded, Permanent, TaskError, Transient
from shared.messages import Doorbell
from shared.roadmap import Roadmap, RoadmapRequest
from shared.settings import Settings
from tests.factories import (
    ScriptedGenerator,
    accept,
    event_types,
    execute,
    leases_of,
    lock_is_waited_for,
    row,
    rows,
    small_roadmap,
    task,
)
from worker_service.generation import Generation
from worker_service.generators.port import Call, Job, RoadmapGenerator, Step, Steps, Usage
from worker_service.heartbeat import Heartbeat
from worker_service.leases import Lease
from worker_service.stepbook import StepBook

A = TypeVar("A")
B = TypeVar("B")

TENANT = "default"
RACES = 300


class Worker:
    """A worker without Dramatiq, and the doorbells for it."""

    def __init__(self, settings: Settings, database: Database, deployment_id: UUID) -> None:
        self.settings = settings
        self.database = database
        self.deployment_id = deployment_id
        self.heartbeat = Heartbeat(settings)

    async def answer(self, task_id: UUID, generator: RoadmapGenerator) -> None:
        leases, book = leases_of(self.database), StepBook(self.database)
        generation = Generation(
            self.settings, leases, book, self.heartbeat, generator, self.deployment_id
        )
        await generation.answer(Doorbell(task_id, 1, self.deployment_id))

    async def look(self) -> None:
        """What the heartbeat's thread does every ``cancel_poll`` seconds."""
        (await self.heartbeat.beat(self.database, extend=False))()


@pytest.fixture
def worker(settings: Settings, database: Database, deployment_id: UUID) -> Worker:
    return Worker(settings, database, deployment_id)


class Said(BaseModel):
    text: str = ""


class Endless:
    """Asks for one paid step, which reports what it took and never ends."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()

    async def generate(self, request: RoadmapRequest, *, today: date, steps: Steps) -> Roadmap:
        await steps.run(
            Job(step=Step(name="ask", shape=Said, paid=True), inputs={}, work=self._ask)
        )
        return small_roadmap(request, today=today)

    async def _ask(self, call: Call) -> Said:
        call.took(Usage(calls=1, tokens_in=11, tokens_out=7, cost=0.02))
        self.begun.set()
        await asyncio.sleep(3600)
        return Said()


@asynccontextmanager
async def running(worker: Worker, task_id: UUID) -> AsyncIterator[asyncio.Task[None]]:
    endless = Endless()
    work = asyncio.create_task(worker.answer(task_id, endless))
    await endless.begun.wait()
    yield work
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)


async def test_a_queued_task_is_canceled_at_once_and_no_doorbell_runs_it(
    worker: Worker, database: Database
) -> None:
    task_id = await accept(database)
    cancellation = await cancel(database, TENANT, task_id)
    assert (cancellation.requested, cancellation.task["status"]) == (False, "canceled")
    assert await rows(database, "SELECT 1 FROM outbox_messages") == []
    assert await event_types(database, task_id) == ["task.accepted", "task.canceled"]
    generator = ScriptedGenerator()
    await worker.answer(task_id, generator)
    assert generator.calls == 0
    assert (await task(database, task_id))["status"] == "canceled"


async def test_a_task_that_waits_for_another_attempt_is_canceled_at_once(
    worker: Worker, database: Database
) -> None:
    task_id = await accept(database)
    await worker.answer(task_id, ScriptedGenerator(Transient("busy")))
    assert (await task(database, task_id))["stage"] == "retry_wait"
    assert not (await cancel(database, TENANT, task_id)).requested
    assert await rows(database, "SELECT 1 FROM outbox_messages") == []
    generator = ScriptedGenerator()
    await worker.answer(task_id, generator)
    assert generator.calls == 0
    assert (await event_types(database, task_id))[-1] == "task.canceled"


async def test_when_its_doorbell_rang_is_not_forgotten_with_the_message(
    database: Database,
) -> None:
    task_id = await accept(database)
    rung = await row(
        database, "UPDATE outbox_messages SET dispatched_at = now() RETURNING dispatched_at"
    )
    canceled = (await cancel(database, TENANT, task_id)).task
    assert canceled["dispatched_at"] == rung["dispatched_at"]


async def test_a_running_task_is_let_go_at_the_next_look_and_its_cost_is_kept(
    worker: Worker, database: Database
) -> None:
    task_id = await accept(database)
    async with running(worker, task_id) as work:
        cancellation = await cancel(database, TENANT, task_id)
        assert (cancellation.requested, cancellation.task["status"]) == (True, "running")
        assert cancellation.task["cancel_requested_at"] is not None
        await worker.look()
        (holding,) = worker.heartbeat.holdings.values()
        assert holding.let_go is not None
        assert holding.let_go.cause == "canceled"
        await asyncio.wait_for(work, 10)
    found = await task(database, task_id)
    assert (found["status"], found["lease_owner"]) == ("canceled", None)
    assert (await event_types(database, task_id))[-1] == "task.canceled"
    step = await row(database, "SELECT calls, tokens_in, cost, output FROM task_steps")
    assert (step["calls"], step["tokens_in"], float(step["cost"])) == (1, 11, 0.02)
    assert step["output"] is None
    usage = (await cancel(database, TENANT, task_id)).task["usage"]
    assert usage == {"calls": 1, "tokens_in": 11, "tokens_out": 7, "cost_usd": 0.02}


async def test_a_generation_that_ends_after_the_request_ends_as_canceled(
    worker: Worker, database: Database
) -> None:
    task_id = await accept(database)

    class CanceledMeanwhile(ScriptedGenerator):
        async def generate(self, request: RoadmapRequest, *, today: date, steps: Steps) -> Roadmap:
            assert (await cancel(database, TENANT, task_id)).requested
            return await super().generate(request, today=today, steps=steps)

    await worker.answer(task_id, CanceledMeanwhile())
    found = await task(database, task_id)
    assert (found["status"], found["roadmap_id"]) == ("canceled", None)
    assert await rows(database, "SELECT 1 FROM roadmaps") == []


@pytest.mark.parametrize("error", [Transient("The model is busy."), Permanent("No such goal.")])
async def test_an_attempt_that_fails_after_the_request_ends_as_canceled(
    worker: Worker, database: Database, error: TaskError
) -> None:
    task_id = await accept(database)

    class FailsMeanwhile:
        async def generate(self, request: RoadmapRequest, *, today: date, steps: Steps) -> Roadmap:
            await cancel(database, TENANT, task_id)
            raise error

    await worker.answer(task_id, FailsMeanwhile())
    found = await task(database, task_id)
    assert (found["status"], found["error"]) == ("canceled", None)
    assert await rows(database, "SELECT 1 FROM outbox_messages") == []
    assert await rows(database, "SELECT 1 FROM dead_letters") == []


async def test_a_worker_that_stops_does_not_hand_over_what_is_being_canceled(
    worker: Worker, database: Database
) -> None:
    task_id = await accept(database)
    async with running(worker, task_id) as work:
        await cancel(database, TENANT, task_id)
        worker.heartbeat.let_go_of_all()
        await asyncio.wait_for(work, 10)
    assert (await task(database, task_id))["status"] == "canceled"


@pytest.mark.parametrize("runs", [False, True])
async def test_to_cancel_twice_changes_nothing_more(database: Database, runs: bool) -> None:
    task_id = await accept(database)
    if runs:
        assert await leases_of(database).acquire(task_id) is not None
    first = await cancel(database, TENANT, task_id)
    assert await cancel(database, TENANT, task_id) == first
    assert first.requested is runs


@pytest.mark.parametrize("error", [None, Transient("busy")])
async def test_an_ended_task_cannot_be_canceled_and_stays_as_it_is(
    settings: Settings, database: Database, deployment_id: UUID, error: Exception | None
) -> None:
    once = settings.model_copy(update={"max_attempts": 1})
    task_id = await accept(database)
    errors = [error] if error else []
    await Worker(once, database, deployment_id).answer(task_id, ScriptedGenerator(*errors))
    before = await task(database, task_id)
    with pytest.raises(Problem) as refused:
        await cancel(database, TENANT, task_id)
    assert refused.value.slug == "task-already-ended"
    assert await task(database, task_id) == before


async def test_of_another_tenants_task_nothing_is_known(database: Database) -> None:
    task_id = await accept(database)
    for tenant, one in (("other", task_id), (TENANT, uuid7())):
        with pytest.raises(Problem) as refused:
            await cancel(database, tenant, one)
        assert refused.value.slug == "task-not-found"
    assert (await task(database, task_id))["status"] == "queued"
    assert len(await rows(database, "SELECT 1 FROM outbox_messages")) == 1


async def test_a_vanished_workers_task_is_canceled_by_the_sweeper_not_queued(
    database: Database,
) -> None:
    task_id = await accept(database)
    assert await leases_of(database).acquire(task_id) is not None
    await cancel(database, TENANT, task_id)
    await execute(
        database, "UPDATE tasks SET lease_expires_at = now() - interval '1 s', takeovers = 99"
    )
    async with database.autocommit() as connection:
        swept = await outbox.return_expired(connection, 3, 500)
    assert [one["verdict"] for one in swept] == ["canceled"]
    assert (await task(database, task_id))["status"] == "canceled"
    assert await rows(database, "SELECT 1 FROM outbox_messages") == []
    assert await rows(database, "SELECT 1 FROM dead_letters") == []
    assert (await event_types(database, task_id))[-1] == "task.canceled"


async def test_a_request_for_cancellation_cannot_be_written_beside_another_state(
    database: Database,
) -> None:
    await accept(database)
    with pytest.raises(DBAPIError, match="tasks_canceling_check"):
        await execute(database, "UPDATE tasks SET cancel_requested_at = now()")


# --- races ---


class Race:
    """Two rivals, again and again. Who won begins later the next time, so that on any machine most
    races are close, and each of the two wins some."""

    STEP = 0.0002

    def __init__(self) -> None:
        self.lead = 0.0
        """Seconds by which the second begins before the first; negative the other way round."""
        self.winners: set[bool] = set()

    async def run(self, first: Awaitable[A], second: Awaitable[B]) -> tuple[A, B]:
        return await asyncio.gather(_after(self.lead, first), _after(-self.lead, second))

    def won(self, by_first: bool) -> None:
        self.lead += self.STEP if by_first else -self.STEP
        self.winners.add(by_first)

    @property
    def was_open(self) -> bool:
        return len(self.winners) == 2


async def _after(seconds: float, rival: Awaitable[A]) -> A:
    await asyncio.sleep(max(seconds, 0))
    return await rival


async def taken(database: Database) -> Lease:
    lease = await leases_of(database).acquire(await accept(database))
    assert lease is not None
    return lease


async def ask_to_cancel(database: Database, task_id: UUID) -> bool:
    """Whether the answer was that it is, or will be, canceled."""
    try:
        await cancel(database, TENANT, task_id)
    except Problem as problem:
        return problem.slug != "task-already-ended"
    return True


async def test_cancel_and_completion_race_and_exactly_one_wins(database: Database) -> None:
    leases, race = leases_of(database), Race()

    async def run(lease: Lease) -> None:
        roadmap = small_roadmap(RoadmapRequest(goal="Learn SQL"), today=lease.accepted_on)
        canceled, completed = await race.run(
            ask_to_cancel(database, lease.task_id), leases.complete(lease, roadmap)
        )
        race.won(canceled)
        assert canceled is not completed
        if canceled:
            assert await leases.cancel(lease)
        status = (await task(database, lease.task_id))["status"]
        assert status == ("canceled" if canceled else "succeeded")
        made = await rows(database, "SELECT 1 FROM roadmaps WHERE task_id = :id", id=lease.task_id)
        assert len(made) == int(completed)
        types = await event_types(database, lease.task_id)
        assert sum(one in ("task.canceled", "task.succeeded") for one in types) == 1

    for _ in range(RACES):
        await run(await taken(database))
    assert race.was_open


async def undelivered(database: Database, deployment_id: UUID) -> None:
    """Whatever messages are left over, a relay drops them."""
    left = [
        Claimed(one["task_id"], one["dispatch_no"])
        for one in await rows(database, "SELECT task_id, dispatch_no FROM outbox_messages")
    ]
    facts = await outbox.look_up(database, left)
    for one in left:
        judged = verify(one, facts[one.task_id], deployment_id=deployment_id, last_look=True)
        assert judged == Drop(one, "canceled")


@pytest.mark.parametrize("uncharged", [False, True])
async def test_cancel_and_requeue_race_and_the_task_is_canceled_either_way(
    database: Database, deployment_id: UUID, uncharged: bool
) -> None:
    leases, race = leases_of(database), Race()

    def give_back(lease: Lease) -> Awaitable[bool]:
        if uncharged:
            return leases.hand_over(lease)
        return leases.requeue(lease, Transient("busy"), 0, charged=True)

    async def run(lease: Lease) -> None:
        canceled, returned = await race.run(
            ask_to_cancel(database, lease.task_id), give_back(lease)
        )
        race.won(not returned)
        assert canceled
        assert await leases.cancel(lease) is not returned
        assert (await task(database, lease.task_id))["status"] == "canceled"
        types = await event_types(database, lease.task_id)
        assert types.count("task.requeued") == int(returned)
        assert types[-1] == "task.canceled"

    for _ in range(RACES // 3):
        await run(await taken(database))
    assert race.was_open
    await undelivered(database, deployment_id)


async def test_cancel_and_deadline_race_and_exactly_one_wins(database: Database) -> None:
    error, race = DeadlineExceeded().as_dict(), Race()

    async def end_overdue() -> list[UUID]:
        async with database.autocommit() as connection:
            ended = await outbox.end_overdue(connection, error, GRACE, 500)
            return [one["id"] for one in ended]

    async def sweep() -> list[UUID]:
        # They lock message and task in opposite orders; the sweeper's loop repeats the loser, too.
        return await repeated(end_overdue, 10)

    for _ in range(RACES // 3):
        task_id = await accept(database, deadline_seconds=90)
        await execute(
            database,
            "UPDATE tasks SET deadline_at = now() - interval '1 s' WHERE id = :id",
            id=task_id,
        )
        canceled, ended = await race.run(ask_to_cancel(database, task_id), sweep())
        race.won(canceled)
        assert ended == ([] if canceled else [task_id])
        status = "canceled" if canceled else "failed"
        assert (await task(database, task_id))["status"] == status
        assert await event_types(database, task_id) == ["task.accepted", f"task.{status}"]
    assert race.was_open
    assert await rows(database, "SELECT 1 FROM outbox_messages") == []


async def test_a_cancel_that_waits_while_a_worker_takes_the_task_asks_the_worker(
    database: Database,
) -> None:
    task_id = await accept(database)
    async with database.begin() as session:
        connection = await session.connection()
        await connection.exec_driver_sql("SELECT 1 FROM tasks FOR UPDATE")
        canceling = asyncio.create_task(cancel(database, TENANT, task_id))
        await lock_is_waited_for(database)
        await connection.exec_driver_sql(
            "UPDATE tasks SET status = 'running', stage = 'generating', lease_owner = 'x',"
            " lease_expires_at = now() + interval '1 minute', lease_token = 1"
        )
    assert (await canceling).requested
    assert (await task(database, task_id))["cancel_requested_at"] is not None


async def test_a_cancel_that_waits_while_a_task_is_given_back_cancels_it(
    database: Database,
) -> None:
    lease = await taken(database)
    async with database.begin() as session:
        connection = await session.connection()
        await connection.exec_driver_sql("SELECT 1 FROM tasks FOR UPDATE")
        canceling = asyncio.create_task(cancel(database, TENANT, lease.task_id))
        await lock_is_waited_for(database)
        await connection.exec_driver_sql(
            "UPDATE tasks SET status = 'queued', stage = 'retry_wait', version = version + 1,"
            " lease_owner = NULL, lease_expires_at = NULL"
        )
        await connection.exec_driver_sql(
            "INSERT INTO task_events (task_id, seq, type) SELECT id, version, 'task.requeued'"
            " FROM tasks"
        )
    assert (await canceling).task["status"] == "canceled"
    assert (await event_types(database, lease.task_id))[-1] == "task.canceled"


async def test_cancels_and_acquires_at_once_leave_each_task_in_one_hand(
    database: Database,
) -> None:
    leases = leases_of(database)
    ids = [await accept(database) for _ in range(60)]
    results = await asyncio.gather(
        *(leases.acquire(one) for one in ids),
        *(ask_to_cancel(database, one) for one in reversed(ids)),
    )
    taken_ids = {one.task_id for one in results if isinstance(one, Lease)}
    for task_id in ids:
        found = await task(database, task_id)
        assert found["status"] == ("running" if task_id in taken_ids else "canceled")
        assert found["cancel_requested_at"] is not None
    assert await rows(database, "SELECT 1 FROM outbox_messages") == []
