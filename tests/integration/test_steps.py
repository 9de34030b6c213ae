"""Steps against a real PostgreSQL: paid once, counted, kept whatever comes of the attempt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from shared.database import Database
from shared.errors import Permanent, Transient
from shared.settings import Settings
from tests.eventually import eventually
from tests.factories import accept, event_types, execute, leases_of, row, rows, task
from worker_service.generators.port import Call, Job, Reached, Step, StepFailed, Usage
from worker_service.heartbeat import Heartbeat, LetGo
from worker_service.leases import Lease
from worker_service.stepbook import Entry, StepBook
from worker_service.steps import TaskSteps


class Text(BaseModel):
    said: str


PAID = Step(name="ask", shape=Text, paid=True)
FREE = Step(name="think", shape=Text)


class Work:
    """Counts its runs; reports what they took; raises the given errors first."""

    def __init__(self, said: str = "yes", *errors: Exception, cost: float = 0.5) -> None:
        self.said = said
        self.errors = list(errors)
        self.cost = cost
        self.runs = 0

    async def __call__(self, call: Call) -> Text:
        self.runs += 1
        call.took(Usage(calls=1, tokens_in=10, tokens_out=5, cost=self.cost))
        if self.errors:
            raise self.errors.pop(0)
        return Text(said=self.said)

    def job(self, step: Step[Text] = PAID, **inputs: Any) -> Job[Text]:
        return Job(step=step, inputs=inputs, work=self)


class Attempts:
    """One task, and as many attempts at it as wanted."""

    def __init__(self, settings: Settings, database: Database, task_id: UUID) -> None:
        self.settings = settings
        self.database = database
        self.task_id = task_id
        self.leases = leases_of(database, max_takeovers=99)
        self.heartbeat = Heartbeat(settings)

    @asynccontextmanager
    async def attempt(self, **settings: Any) -> AsyncIterator[TaskSteps]:
        """Under a new lease, whoever had the last one."""
        await execute(
            self.database,
            "UPDATE tasks SET lease_expires_at = now() - interval '1 s' WHERE status = 'running'",
        )
        lease = await self.leases.acquire(self.task_id, alone=True)
        assert lease is not None
        async with self.heartbeat.held(lease):
            yield self.steps(lease, **settings)

    def steps(self, lease: Lease, **settings: Any) -> TaskSteps:
        changed = self.settings.model_copy(update=settings)
        return TaskSteps(lease, StepBook(self.database), self.heartbeat, changed)

    async def kept(self) -> Sequence[Any]:
        return await rows(self.database, "SELECT * FROM task_steps ORDER BY begun_at, step")


@pytest.fixture
async def attempts(settings: Settings, database: Database) -> Attempts:
    return Attempts(settings, database, await accept(database))


async def test_a_kept_step_is_read_and_never_run_again(attempts: Attempts) -> None:
    work = Work()
    async with attempts.attempt() as steps:
        first = await steps.run(work.job(goal="SQL"))
    async with attempts.attempt() as steps:
        assert await steps.run(work.job(goal="SQL")) == first
    assert work.runs == 1
    (kept,) = await attempts.kept()
    assert (kept["output"], kept["tries"], kept["failures"]) == ({"said": "yes"}, 1, 0)
    assert (kept["calls"], kept["tokens_in"], float(kept["cost"])) == (1, 10, 0.5)
    assert kept["seconds"] >= 0


async def test_other_inputs_another_version_or_another_name_is_another_step(
    attempts: Attempts,
) -> None:
    work = Work()
    newer = Step(name="ask", shape=Text, paid=True, version=2)
    async with attempts.attempt() as steps:
        await steps.run(work.job(goal="SQL"))
        await steps.run(work.job(goal="Git"))
        await steps.run(work.job(newer, goal="SQL"))
        await steps.run(work.job(FREE, goal="SQL"))
    assert work.runs == 4
    assert len(await attempts.kept()) == 4


async def test_the_order_of_inputs_does_not_matter(attempts: Attempts) -> None:
    work = Work()
    async with attempts.attempt() as steps:
        await steps.run(work.job(goal="SQL", level="beginner"))
    async with attempts.attempt() as steps:
        await steps.run(work.job(level="beginner", goal="SQL"))
    assert work.runs == 1


async def test_a_step_tells_its_story_in_the_history_and_moves_the_progress(
    attempts: Attempts, database: Database
) -> None:
    job = Job(
        step=PAID,
        inputs={},
        work=Work(),
        reached=Reached(30, "designed"),
        partials=lambda output: [{"name": output.said}, {"name": "second"}],
    )
    async with attempts.attempt() as steps:
        await steps.run(job)
    types = await event_types(database, attempts.task_id)
    assert types[-4:] == ["step.started", "step.completed", "roadmap.partial", "roadmap.partial"]
    found = await task(database, attempts.task_id)
    assert (found["progress"], found["progress_message"]) == (30, "designed")
    sql = "SELECT data FROM task_events WHERE type = :type ORDER BY seq"
    completed = await row(database, sql, type="step.completed")
    assert completed["data"] == {
        "step": "ask",
        "seconds": completed["data"]["seconds"],
        "calls": 1,
        "tokens_in": 10,
        "tokens_out": 5,
        "cost": 0.5,
        "progress": {"completed": 30, "total": 100, "unit": "percent", "message": "designed"},
    }
    partials = await rows(database, sql, type="roadmap.partial")
    assert [one["data"]["name"] for one in partials] == ["yes", "second"]


async def test_progress_never_goes_backwards(attempts: Attempts, database: Database) -> None:
    seen = []
    async with attempts.attempt() as steps:
        for number, percent in enumerate((30, 20, 50, 50, 10)):
            await steps.run(
                Job(step=FREE, inputs={"n": number}, work=Work(), reached=Reached(percent, "x"))
            )
            seen.append((await task(database, attempts.task_id))["progress"])
    assert seen == [30, 30, 50, 50, 50]


async def test_a_free_step_is_written_once_and_tells_of_its_start_all_the_same(
    attempts: Attempts, database: Database
) -> None:
    async with attempts.attempt() as steps:
        version = (await task(database, attempts.task_id))["version"]
        await steps.run(Work().job(FREE))
    assert (await event_types(database, attempts.task_id))[-2:] == [
        "step.started",
        "step.completed",
    ]
    assert (await task(database, attempts.task_id))["version"] == version + 2


async def test_a_transient_failure_is_counted_and_passed_on(
    attempts: Attempts, database: Database
) -> None:
    work = Work("yes", Transient("The model is busy.", code="model_unavailable"))
    async with attempts.attempt() as steps:
        with pytest.raises(Transient):
            await steps.run(work.job())
    (kept,) = await attempts.kept()
    assert (kept["failures"], kept["output"], kept["error"]["code"]) == (
        1,
        None,
        "model_unavailable",
    )
    assert (await event_types(database, attempts.task_id))[-1] == "step.retrying"
    async with attempts.attempt() as steps:
        assert (await steps.run(work.job())).said == "yes"
    (kept,) = await attempts.kept()
    assert (kept["tries"], kept["failures"], kept["calls"], float(kept["cost"])) == (2, 1, 2, 1.0)


async def test_a_failure_that_is_not_charged_costs_no_try(attempts: Attempts) -> None:
    busy = [Transient("busy", charged=False) for _ in range(5)]
    work = Work("yes", *busy)
    for _ in busy:
        async with attempts.attempt() as steps:
            with pytest.raises(Transient):
                await steps.run(work.job())
    async with attempts.attempt() as steps:
        assert (await steps.run(work.job())).said == "yes"


async def test_a_busy_model_is_charged_once_the_task_has_been_put_off_long_enough(
    attempts: Attempts,
) -> None:
    work = Work("yes", Transient("busy", charged=False))
    async with attempts.attempt(llm_patience=0) as steps:
        with pytest.raises(Transient):
            await steps.run(work.job())
    assert (await attempts.kept())[0]["failures"] == 1


async def test_a_step_whose_tries_are_spent_is_not_run_again(
    attempts: Attempts, database: Database
) -> None:
    work = Work("never", *[Transient("bad", code="model_bad_output")] * 10)
    for _ in range(2):
        async with attempts.attempt() as steps:
            with pytest.raises(Transient):
                await steps.run(work.job())
    async with attempts.attempt() as steps:
        with pytest.raises(StepFailed) as failed:
            await steps.run(work.job())
    assert failed.value.code == "model_bad_output"
    assert work.runs == attempts.settings.step_tries
    assert "step.failed" in await event_types(database, attempts.task_id)
    async with attempts.attempt() as steps:
        with pytest.raises(StepFailed) as failed:
            await steps.run(work.job())
    assert (failed.value.code, failed.value.step) == ("model_bad_output", "ask")
    assert work.runs == attempts.settings.step_tries


async def test_on_the_last_attempt_a_generator_is_told_to_do_without(attempts: Attempts) -> None:
    async with attempts.attempt(max_attempts=1) as steps:
        with pytest.raises(StepFailed):
            await steps.run(Work("no", Transient("bad")).job())


async def test_a_permanent_error_is_a_failed_step_at_once(attempts: Attempts) -> None:
    async with attempts.attempt() as steps:
        with pytest.raises(StepFailed) as failed:
            await steps.run(Work("no", Permanent("refused", code="model_refused")).job())
    assert (failed.value.code, failed.value.as_dict()["step"]) == ("model_refused", "ask")


async def test_a_bug_in_a_step_is_retried_and_shows_no_text_of_its_own(
    attempts: Attempts, database: Database
) -> None:
    async with attempts.attempt() as steps:
        with pytest.raises(Transient):
            await steps.run(Work("no", KeyError("secret")).job())
    (kept,) = await attempts.kept()
    assert kept["error"]["code"] == "internal"
    assert "secret" not in str(await rows(database, "SELECT data FROM task_events"))


async def test_a_step_that_hangs_is_ended_and_counted(attempts: Attempts) -> None:
    async def hang(_call: Call) -> Text:
        await asyncio.sleep(3600)
        return Text(said="never")

    async with attempts.attempt(step_timeout=0.05) as steps:
        with pytest.raises(Transient):
            await steps.run(Job(step=PAID, inputs={}, work=hang))
    assert (await attempts.kept())[0]["error"]["code"] == "too_slow"


async def test_the_money_of_a_task_is_looked_at_before_each_call(attempts: Attempts) -> None:
    dear = Work(cost=0.6)

    async def careful(call: Call) -> Text:
        call.afford()
        return await dear(call)

    def job(number: int) -> Job[Text]:
        return Job(step=PAID, inputs={"n": number}, work=careful)

    async with attempts.attempt(llm_budget=1.0) as steps:
        await steps.run(job(1))
        await steps.run(job(2))
        with pytest.raises(StepFailed) as failed:
            await steps.run(job(3))
    assert failed.value.code == "budget_spent"
    async with attempts.attempt(llm_budget=1.0) as steps:
        await steps.run(job(1))  # kept: it costs nothing
        with pytest.raises(StepFailed):
            await steps.run(job(4))
    assert dear.runs == 2


async def test_what_an_interrupted_call_took_is_kept(
    attempts: Attempts, database: Database
) -> None:
    begun = asyncio.Event()

    async def endless(call: Call) -> Text:
        call.took(Usage(calls=1, tokens_in=7, cost=0.25))
        begun.set()
        await asyncio.sleep(3600)
        return Text(said="never")

    async def attempt() -> None:
        async with attempts.attempt() as steps:
            await steps.run(Job(step=PAID, inputs={}, work=endless))

    work = asyncio.create_task(attempt())
    await begun.wait()
    attempts.heartbeat.let_go_of_all()
    with pytest.raises(LetGo):
        await work
    (kept,) = await attempts.kept()
    assert (kept["calls"], kept["tokens_in"], float(kept["cost"])) == (1, 7, 0.25)
    assert (kept["output"], kept["failures"]) == (None, 0)


@pytest.mark.parametrize("output", [None, '{"said": "yes"}'])
async def test_what_is_written_again_after_a_lost_answer_is_written_once(
    attempts: Attempts, database: Database, output: str | None
) -> None:
    lease = await attempts.leases.acquire(attempts.task_id)
    assert lease is not None
    entry = Entry(
        task_id=lease.task_id,
        token=lease.token,
        step="ask",
        version=1,
        input_hash=b"hash",
        tries=1,
        failures=int(output is None),
        output=output,
        calls=1,
        cost=0.5,
        events='[["step.started", {}], ["step.completed", {}]]',
    )
    book = StepBook(database)
    assert await book.record(entry) is True
    history = await event_types(database, lease.task_id)
    assert await book.record(entry) is True
    (kept,) = await attempts.kept()
    assert (kept["tries"], kept["calls"], float(kept["cost"])) == (1, 1, 0.5)
    assert await event_types(database, lease.task_id) == history


async def test_a_fenced_worker_keeps_nothing_and_tells_nothing(
    attempts: Attempts, database: Database
) -> None:
    async with attempts.attempt() as zombie:
        async with attempts.attempt() as heir:
            await heir.run(Work("heir").job(goal="SQL"))
            before = await event_types(database, attempts.task_id)
            for step in (PAID, FREE):
                with pytest.raises(LetGo):
                    await zombie.run(Work("zombie").job(step, goal="other"))
            with pytest.raises(LetGo):
                await zombie.run(Work("no", Transient("late")).job(goal="third"))
        assert await event_types(database, attempts.task_id) == before
    assert [one["output"] for one in await attempts.kept()] == [{"said": "heir"}]


async def test_a_kept_output_cannot_be_overwritten_even_by_hand(
    attempts: Attempts, database: Database
) -> None:
    async with attempts.attempt() as steps:
        await steps.run(Work().job())
    with pytest.raises(DBAPIError, match="has its output"):
        await execute(database, """UPDATE task_steps SET output = '{"said": "other"}'""")


async def test_an_output_that_this_release_cannot_read_ends_the_attempt_for_good(
    attempts: Attempts,
) -> None:
    async with attempts.attempt() as steps:
        await steps.run(Work().job())

    class Number(BaseModel):
        said: int

    changed = Step(name="ask", shape=Number, paid=True)

    async def work(_call: Call) -> Number:
        return Number(said=1)

    async with attempts.attempt() as steps:
        with pytest.raises(Permanent) as refused:
            await steps.run(Job(step=changed, inputs={}, work=work))
    assert refused.value.code == "step_unreadable"


async def test_no_step_begins_while_the_worker_drains_and_the_one_under_way_is_kept(
    attempts: Attempts,
) -> None:
    second = Work("second")

    async def slow(call: Call) -> Text:
        attempts.heartbeat.draining = True
        return await Work("first")(call)

    async with attempts.attempt() as steps:
        await steps.run(Job(step=PAID, inputs={"n": 1}, work=slow))
        with pytest.raises(LetGo) as let_go:
            await steps.run(second.job(n=2))
    assert (let_go.value.cause, second.runs) == ("stopping", 0)
    assert [one["output"] for one in await attempts.kept()] == [{"said": "first"}]


class Crowd:
    """Jobs that run side by side; counts how many are under way at once."""

    def __init__(self, errors: dict[int, Exception] | None = None) -> None:
        self.errors = errors or {}
        self.under_way = 0
        self.most = 0
        self.runs: list[int] = []

    def jobs(self, count: int) -> list[Job[Text]]:
        return [
            Job(
                step=Step(name=f"lesson:{number}", shape=Text, paid=True),
                inputs={},
                work=self._work(number),
            )
            for number in range(count)
        ]

    def _work(self, number: int) -> Any:
        async def work(call: Call) -> Text:
            self.runs.append(number)
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            await asyncio.sleep(0.01)
            self.under_way -= 1
            call.took(Usage(calls=1))
            if number in self.errors:
                raise self.errors.pop(number)
            return Text(said=str(number))

        return work


async def run_all(steps: TaskSteps, jobs: Sequence[Job[Text]]) -> list[Text | StepFailed]:
    return await steps.run_all(jobs, at_once=3, span=(40, 100), unit="lessons")


async def test_side_by_side_means_a_few_at_a_time_in_their_order(
    attempts: Attempts, database: Database
) -> None:
    crowd = Crowd()
    async with attempts.attempt() as steps:
        outputs = await run_all(steps, crowd.jobs(10))
    assert [one.said for one in outputs if isinstance(one, Text)] == [str(n) for n in range(10)]
    assert crowd.most == 3
    found = await task(database, attempts.task_id)
    assert (found["progress"], found["progress_message"]) == (100, "10 of 10 lessons")
    assert (await event_types(database, attempts.task_id)).count("step.completed") == 10
    completed = "SELECT data FROM task_events WHERE type = 'step.completed' ORDER BY seq"
    told = [one["data"]["progress"]["message"] for one in await rows(database, completed)]
    assert told == [f"{number} of 10 lessons" for number in range(1, 11)]


async def test_after_a_transient_failure_the_others_are_finished_and_only_it_is_run_again(
    attempts: Attempts, database: Database
) -> None:
    crowd = Crowd({4: Transient("bad", code="model_bad_output")})
    async with attempts.attempt() as steps:
        with pytest.raises(Transient):
            await run_all(steps, crowd.jobs(10))
    assert sorted(crowd.runs) == list(range(10))
    found = await task(database, attempts.task_id)
    assert (found["progress"], found["progress_message"]) == (94, "9 of 10 lessons")
    async with attempts.attempt() as steps:
        assert len(await run_all(steps, crowd.jobs(10))) == 10
    assert crowd.runs.count(4) == 2
    assert len(crowd.runs) == 11


async def test_when_the_model_says_that_it_is_busy_no_more_is_begun(attempts: Attempts) -> None:
    crowd = Crowd({1: Transient("busy", charged=False)})
    async with attempts.attempt() as steps:
        with pytest.raises(Transient):
            await run_all(steps, crowd.jobs(10))
    assert len(crowd.runs) < 6
    assert len([one for one in await attempts.kept() if one["output"]]) == len(crowd.runs) - 1


async def test_a_failed_one_among_many_is_handed_to_the_generator(attempts: Attempts) -> None:
    crowd = Crowd({2: Permanent("refused", code="model_refused")})
    async with attempts.attempt() as steps:
        outputs = await run_all(steps, crowd.jobs(5))
    assert [isinstance(one, StepFailed) for one in outputs] == [False, False, True, False, False]


async def test_a_bug_in_one_of_many_breaks_off_none_of_the_others(attempts: Attempts) -> None:
    crowd = Crowd()
    jobs = crowd.jobs(3)
    broken = replace(jobs[0], partials=broken_partials)
    async with attempts.attempt() as steps:
        with pytest.raises(KeyError):
            await run_all(steps, [broken, *jobs[1:]])
    kept = {one["step"]: one["output"] for one in await attempts.kept()}
    assert kept["lesson:1"] == {"said": "1"}
    assert kept["lesson:2"] == {"said": "2"}


def broken_partials(_output: Text) -> Sequence[Mapping[str, Any]]:
    raise KeyError("name")


async def test_an_answer_that_is_being_written_down_when_the_work_is_stopped_is_kept(
    attempts: Attempts, database: Database
) -> None:
    answered = asyncio.Event()

    async def answer(call: Call) -> Text:
        output = await Work("dear")(call)
        answered.set()
        return output

    async def attempt() -> None:
        async with attempts.attempt() as steps:
            await steps.run(Job(step=FREE, inputs={}, work=answer))

    async with database.begin() as session:
        work = asyncio.create_task(attempt())
        await answered.wait()
        await session.execute(text("SELECT 1 FROM tasks FOR UPDATE"))
        attempts.heartbeat.let_go_of_all()
        await asyncio.sleep(0)
    with pytest.raises(LetGo):
        await work
    (kept,) = await attempts.kept()
    assert (kept["output"], kept["calls"]) == ({"said": "dear"}, 1)


async def test_draining_finishes_what_is_under_way_and_begins_no_more(attempts: Attempts) -> None:
    crowd = Crowd()

    async def drain() -> None:
        async def under_way() -> None:
            assert crowd.runs

        await eventually(under_way)
        attempts.heartbeat.draining = True

    draining = asyncio.create_task(drain())
    async with attempts.attempt() as steps:
        with pytest.raises(LetGo):
            await run_all(steps, crowd.jobs(50))
    await draining
    kept = [one for one in await attempts.kept() if one["output"]]
    assert len(kept) == len(crowd.runs) < 50
