"""The worker's story against a real PostgreSQL: who may run a task, and what is committed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from uuid_utils.compat import uuid7

from shared import metrics
from shared.database import Database
from shared.errors import GoalNotCovered, Transient
from shared.messages import Doorbell
from shared.roadmap import Roadmap, RoadmapRequest
from shared.settings import Settings
from tests.eventually import eventually
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
from worker_service.generators.port import RoadmapGenerator, Steps
from worker_service.heartbeat import Heartbeat
from worker_service.leases import Leases
from worker_service.stepbook import StepBook


class Bench:
    """A worker without Dramatiq: its leases, its heartbeat, and as many doorbells as wanted."""

    def __init__(self, settings: Settings, database: Database, deployment_id: UUID) -> None:
        self.settings = settings
        self.database = database
        self.deployment_id = deployment_id

    def worker(self, generator: RoadmapGenerator, owner: str = "one") -> Generation:
        leases = Leases(
            self.database,
            owner=owner,
            seconds=self.settings.lease,
            max_takeovers=self.settings.max_takeovers,
        )
        book, heartbeat = StepBook(self.database), Heartbeat(self.settings)
        return Generation(self.settings, leases, book, heartbeat, generator, self.deployment_id)

    def doorbell(self, task_id: UUID) -> Doorbell:
        return Doorbell(task_id, 1, self.deployment_id)


async def beat(heartbeat: Heartbeat, database: Database) -> None:
    """One beat, as the heartbeat's thread makes it, and what follows from it."""
    (await heartbeat.beat(database, extend=True))()


@pytest.fixture
def bench(settings: Settings, database: Database, deployment_id: UUID) -> Bench:
    return Bench(settings, database, deployment_id)


class Endless:
    """A generator that tells when it has begun and never ends by itself."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()

    async def generate(self, request: RoadmapRequest, *, today: date, steps: Steps) -> Roadmap:
        self.begun.set()
        await asyncio.sleep(3600)
        return small_roadmap(request, today=today)


@asynccontextmanager
async def running(
    bench: Bench, task_id: UUID
) -> AsyncIterator[tuple[Generation, asyncio.Task[None]]]:
    """A worker in the middle of a generation."""
    endless = Endless()
    generation = bench.worker(endless)
    work = asyncio.create_task(generation.answer(bench.doorbell(task_id)))
    await endless.begun.wait()
    yield generation, work
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)


async def test_a_task_is_generated_and_its_message_is_gone(
    bench: Bench, database: Database
) -> None:
    task_id = await accept(database)
    await bench.worker(ScriptedGenerator()).answer(bench.doorbell(task_id))

    found = await task(database, task_id)
    assert (found["status"], found["attempts"], found["stage"]) == ("succeeded", 1, "done")
    roadmap = await row(database, "SELECT * FROM roadmaps")
    assert (roadmap["task_id"], roadmap["id"]) == (task_id, found["roadmap_id"])
    assert await rows(database, "SELECT 1 FROM outbox_messages") == []
    assert await event_types(database, task_id) == [
        "task.accepted",
        "task.started",
        "task.succeeded",
    ]


async def test_the_history_tells_when_a_task_was_dispatched(
    bench: Bench, database: Database
) -> None:
    task_id = await accept(database)
    await execute(database, "UPDATE outbox_messages SET dispatched_at = now()")
    await bench.worker(ScriptedGenerator()).answer(bench.doorbell(task_id))
    assert await event_types(database, task_id) == [
        "task.accepted",
        "task.dispatched",
        "task.started",
        "task.succeeded",
    ]
    assert (await task(database, task_id))["dispatched_at"] is not None


async def test_a_doubled_doorbell_runs_the_task_once(bench: Bench, database: Database) -> None:
    task_id = await accept(database)
    generator = ScriptedGenerator()
    workers = [bench.worker(generator, owner=str(number)) for number in range(8)]
    await asyncio.gather(*(worker.answer(bench.doorbell(task_id)) for worker in workers))
    assert generator.calls == 1
    assert len(await rows(database, "SELECT 1 FROM roadmaps")) == 1


async def test_a_transient_error_waits_in_postgres_for_another_attempt(
    bench: Bench, database: Database
) -> None:
    task_id = await accept(database)
    generator = ScriptedGenerator(Transient("The model is busy."))
    await bench.worker(generator).answer(bench.doorbell(task_id))

    found = await task(database, task_id)
    assert (found["status"], found["stage"], found["attempts"]) == ("queued", "retry_wait", 1)
    message = await row(database, "SELECT *, available_at > now() AS later FROM outbox_messages")
    assert (message["dispatch_no"], message["later"]) == (2, True)

    async def ended() -> None:
        await bench.worker(generator).answer(bench.doorbell(task_id))
        assert (await task(database, task_id))["status"] == "succeeded"

    await eventually(ended)
    assert (await task(database, task_id))["attempts"] == 2
    assert (await event_types(database, task_id))[-3:] == [
        "task.requeued",
        "task.started",
        "task.succeeded",
    ]


async def test_attempts_that_are_spent_end_the_task_with_the_last_error(
    bench: Bench, database: Database
) -> None:
    task_id = await accept(database)
    generator = ScriptedGenerator(*[Transient("The model is busy.")] * 10)

    async def ended() -> None:
        await bench.worker(generator).answer(bench.doorbell(task_id))
        assert (await task(database, task_id))["status"] == "failed"

    await eventually(ended)
    assert generator.calls == bench.settings.max_attempts
    assert (await task(database, task_id))["error"]["code"] == "temporarily_unavailable"
    assert (await row(database, "SELECT source FROM dead_letters"))["source"] == "worker"


async def test_a_permanent_error_fails_at_once_and_is_typed(
    bench: Bench, database: Database
) -> None:
    task_id = await accept(database)
    error = GoalNotCovered("Knit a sweater", ["SQL", "Git"])
    await bench.worker(ScriptedGenerator(error)).answer(bench.doorbell(task_id))
    found = await task(database, task_id)
    assert found["status"] == "failed"
    assert found["error"]["code"] == "goal_not_covered"
    assert found["error"]["nearest"] == ["SQL", "Git"]
    assert found["error"]["retryable"] is False


async def test_a_bug_in_the_generator_is_retried_and_shows_no_traceback(
    bench: Bench, database: Database
) -> None:
    task_id = await accept(database)
    await bench.worker(ScriptedGenerator(KeyError("secret"))).answer(bench.doorbell(task_id))
    data = await row(database, "SELECT data FROM task_events WHERE type = 'task.requeued'")
    assert data["data"]["code"] == "internal"
    assert "secret" not in str(data["data"])


async def test_a_message_of_another_deployment_is_refused_not_retried(
    bench: Bench, database: Database
) -> None:
    task_id = await accept(database)
    generator = ScriptedGenerator()
    await bench.worker(generator).answer(Doorbell(task_id, 1, uuid4()))
    assert generator.calls == 0
    assert (await task(database, task_id))["status"] == "queued"
    letter = await row(database, "SELECT reason FROM dead_letters")
    assert letter["reason"] == "other_deployment"


async def test_a_missing_task_is_looked_for_then_recorded_and_the_alarm_moves(
    bench: Bench, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    before = metrics.TASK_MISSING._value.get()
    missing = uuid7()
    await bench.worker(ScriptedGenerator()).answer(bench.doorbell(missing))
    letter = await row(database, "SELECT * FROM dead_letters")
    assert (letter["task_id"], letter["reason"]) == (missing, "task_missing")
    assert metrics.TASK_MISSING._value.get() == before + 1


async def test_a_task_that_shows_up_during_the_lookup_is_run(
    bench: Bench, database: Database
) -> None:
    task_id = await accept(database)
    kept = await row(database, "SELECT request_hash FROM tasks")
    await execute(database, "DELETE FROM tasks")
    patient = bench.settings.model_copy(update={"lookup_step": 0.2})
    late = Bench(patient, database, bench.deployment_id)
    work = asyncio.create_task(late.worker(ScriptedGenerator()).answer(bench.doorbell(task_id)))
    await execute(
        database,
        "INSERT INTO tasks (id, request_hash, input) "
        'VALUES (:id, :hash, CAST(\'{"goal": "Learn SQL"}\' AS jsonb))',
        id=task_id,
        hash=kept["request_hash"],
    )
    await work
    assert (await task(database, task_id))["status"] == "succeeded"


async def test_the_old_backends_figures_are_the_defaults() -> None:
    defaults = Settings.model_fields
    assert defaults["lookup_tries"].default == 10
    assert defaults["lookup_step"].default == 0.2
    assert defaults["lookup_jitter"].default == 0.1
    assert (defaults["verify_tries"].default, defaults["verify_step"].default) == (5, 0.05)


async def test_a_doorbell_that_rings_too_early_leaves_the_message_alone(
    bench: Bench, database: Database
) -> None:
    task_id = await accept(database)
    await execute(database, "UPDATE tasks SET available_at = now() + interval '1 hour'")
    await execute(database, "UPDATE outbox_messages SET available_at = now() + interval '1 hour'")
    await bench.worker(ScriptedGenerator()).answer(bench.doorbell(task_id))
    assert len(await rows(database, "SELECT 1 FROM outbox_messages")) == 1
    assert (await task(database, task_id))["status"] == "queued"


async def test_a_heartbeat_keeps_the_lease_of_a_long_generation(
    bench: Bench, database: Database
) -> None:
    task_id = await accept(database)
    async with running(bench, task_id) as (generation, _):
        before = (await task(database, task_id))["lease_expires_at"]
        await beat(generation.heartbeat, database)
        assert (await task(database, task_id))["lease_expires_at"] > before


async def test_a_zombies_writes_are_refused_after_a_takeover(
    bench: Bench, database: Database
) -> None:
    task_id = await accept(database)
    zombie = leases_of(database, owner="zombie")
    old = await zombie.acquire(task_id)
    assert old is not None
    await execute(database, "UPDATE tasks SET lease_expires_at = now() - interval '1 second'")
    await bench.worker(ScriptedGenerator(), owner="heir").answer(bench.doorbell(task_id))

    roadmap = small_roadmap(RoadmapRequest(goal="Learn SQL"), today=old.accepted_on)
    assert await zombie.complete(old, roadmap) is False
    assert await zombie.fail(old, Transient("late")) is False
    assert await zombie.requeue(old, Transient("late"), 1, charged=True) is False
    assert await zombie.hand_over(old) is False
    assert await zombie.cancel(old) is False
    found = await task(database, task_id)
    assert (found["status"], found["takeovers"], found["attempts"]) == ("succeeded", 1, 1)
    assert len(await rows(database, "SELECT 1 FROM roadmaps")) == 1


async def test_a_generation_may_end_while_a_heartbeat_is_under_way(
    bench: Bench, database: Database
) -> None:
    task_id = await accept(database)
    heartbeat = Heartbeat(bench.settings)
    lease = await leases_of(database).acquire(task_id)
    assert lease is not None
    async with database.begin() as session:
        await session.execute(text("LOCK TABLE tasks IN EXCLUSIVE MODE"))
        async with heartbeat.held(lease):
            beating = asyncio.create_task(beat(heartbeat, database))
            await lock_is_waited_for(database)
    await beating


async def test_a_worker_whose_lease_was_taken_stops_its_generation(
    bench: Bench, database: Database
) -> None:
    task_id = await accept(database)
    async with running(bench, task_id) as (generation, work):
        await execute(database, "UPDATE tasks SET lease_token = lease_token + 1")
        await beat(generation.heartbeat, database)
        await asyncio.wait_for(work, 10)
    assert (await task(database, task_id))["status"] == "running"


async def test_a_worker_that_cannot_reach_postgres_fences_itself_before_the_lease_lapses(
    bench: Bench, database: Database
) -> None:
    task_id = await accept(database)
    async with running(bench, task_id) as (generation, work):
        lease = next(iter(generation.heartbeat.holdings.values())).lease
        await asyncio.wait_for(work, 2 * bench.settings.lease)  # nobody beats
        clock = time.monotonic()
    assert clock < lease.taken_at + bench.settings.lease
    found = await task(database, task_id)
    assert (found["status"], found["takeovers"]) == ("queued", 0), "nobody vanished"


async def test_a_worker_whose_lapsed_task_was_taken_leaves_it_alone(
    bench: Bench, database: Database
) -> None:
    task_id = await accept(database)
    async with running(bench, task_id) as (generation, work):
        await execute(database, "UPDATE tasks SET lease_expires_at = now() - interval '1 s'")
        assert await leases_of(database, owner="heir").acquire(task_id) is not None
        await beat(generation.heartbeat, database)
        await asyncio.wait_for(work, 10)
    found = await task(database, task_id)
    assert (found["status"], found["lease_owner"]) == ("running", "heir")


async def test_an_error_of_work_that_is_being_stopped_is_no_failure(
    bench: Bench, database: Database
) -> None:
    class BreaksWhenStopped(Endless):
        async def generate(self, request: RoadmapRequest, *, today: date, steps: Steps) -> Roadmap:
            try:
                return await super().generate(request, today=today, steps=steps)
            except asyncio.CancelledError:
                raise RuntimeError("the connection does not like that") from None

    task_id = await accept(database)
    endless = BreaksWhenStopped()
    generation = bench.worker(endless)
    work = asyncio.create_task(generation.answer(bench.doorbell(task_id)))
    await endless.begun.wait()
    generation.heartbeat.let_go_of_all()
    await asyncio.wait_for(work, 10)
    found = await row(database, "SELECT data FROM task_events WHERE type = 'task.requeued'")
    assert found["data"]["reason"] == "worker_stopping"
    assert (await task(database, task_id))["attempts"] == 0


async def test_suspects_run_one_at_a_time_in_one_slot_however_often_their_doorbells_ring(
    bench: Bench, database: Database
) -> None:
    ids = [await accept(database, f"Learn {number}") for number in range(3)]
    await execute(database, "UPDATE tasks SET takeovers = 2")
    running_now: list[str] = []
    finish = asyncio.Event()

    class Watched:
        async def generate(self, request: RoadmapRequest, *, today: date, steps: Steps) -> Roadmap:
            running_now.append(request.goal)
            await finish.wait()
            return small_roadmap(request, today=today)

    generation = bench.worker(Watched())
    answers = [asyncio.create_task(generation.answer(bench.doorbell(one))) for one in (*ids, *ids)]

    async def one_slot_is_taken() -> None:
        assert [one.done() for one in answers].count(False) == 1
        assert len(running_now) == 1

    await eventually(one_slot_is_taken)
    finish.set()
    await asyncio.wait_for(asyncio.gather(*answers), 20)
    assert len(running_now) == 3
    assert {(await task(database, one))["status"] for one in ids} == {"succeeded"}


async def test_a_completion_whose_commit_lost_its_answer_is_known_as_ours(
    bench: Bench, database: Database
) -> None:
    task_id = await accept(database)
    leases = leases_of(database)
    lease = await leases.acquire(task_id)
    assert lease is not None
    roadmap = small_roadmap(RoadmapRequest(goal="Learn SQL"), today=lease.accepted_on)
    assert await leases.complete(lease, roadmap) is True
    assert await leases.complete(lease, roadmap) is True
    assert len(await rows(database, "SELECT 1 FROM roadmaps")) == 1


async def test_an_input_that_this_release_cannot_read_fails_the_task_at_once(
    bench: Bench, database: Database
) -> None:
    task_id = await accept(database)
    await execute(database, """UPDATE tasks SET input = '{"goal": 5}'""")
    await bench.worker(ScriptedGenerator()).answer(bench.doorbell(task_id))
    found = await task(database, task_id)
    assert (found["status"], found["error"]["code"]) == ("failed", "input_unreadable")


async def test_a_generation_that_hangs_counts_as_a_failed_attempt(
    bench: Bench, database: Database
) -> None:
    hasty = bench.settings.model_copy(update={"generation_timeout": 0.05})
    task_id = await accept(database)
    await (
        Bench(hasty, database, bench.deployment_id)
        .worker(Endless())
        .answer(bench.doorbell(task_id))
    )
    found = await row(database, "SELECT data FROM task_events WHERE type = 'task.requeued'")
    assert found["data"]["code"] == "too_slow"


async def test_a_due_task_that_cannot_be_taken_is_never_called_missing(
    bench: Bench, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = await accept(database)
    generation = bench.worker(ScriptedGenerator())

    async def somebody_else_is_quicker(*_: object, **__: object) -> None:
        return None

    monkeypatch.setattr(generation.leases, "acquire", somebody_else_is_quicker)
    await generation.answer(bench.doorbell(task_id))
    assert await rows(database, "SELECT 1 FROM dead_letters") == []


async def test_a_stopping_worker_hands_its_task_over_uncharged(
    bench: Bench, database: Database
) -> None:
    task_id = await accept(database)
    async with running(bench, task_id) as (generation, work):
        generation.heartbeat.let_go_of_all()
        await asyncio.wait_for(work, 10)
    found = await task(database, task_id)
    assert (found["status"], found["attempts"], found["takeovers"]) == ("queued", 0, 0)
    due = await row(database, "SELECT available_at <= now() AS due FROM outbox_messages")
    assert due["due"]


async def test_no_session_is_open_while_generating(bench: Bench, database: Database) -> None:
    task_id = await accept(database)
    async with running(bench, task_id):
        busy = await rows(
            database,
            "SELECT 1 FROM pg_stat_activity "
            "WHERE state LIKE 'idle in transaction%' AND pid <> pg_backend_pid()",
        )
        assert busy == []


async def test_an_accepted_start_date_may_pass_while_the_task_waits(
    bench: Bench, database: Database
) -> None:
    task_id = await accept(database)
    await execute(
        database, """UPDATE tasks SET input = input || '{"start_date": "2020-01-01"}'::jsonb"""
    )
    await bench.worker(ScriptedGenerator()).answer(bench.doorbell(task_id))
    assert (await task(database, task_id))["status"] == "succeeded"
