"""While its heir runs, each write of a zombie is refused: by the token, not by the status."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from uuid import UUID

import pytest
from pydantic import BaseModel
from sqlalchemy import text

from shared.database import Database, repeated
from shared.errors import Permanent, Transient
from shared.roadmap import RoadmapRequest
from shared.settings import Settings
from tests.eventually import eventually
from tests.factories import accept, event_types, execute, leases_of, rows, small_roadmap, task
from worker_service.generators.port import Call, Job, Step
from worker_service.heartbeat import Heartbeat, LetGo
from worker_service.leases import Lease, Leases
from worker_service.stepbook import Entry, StepBook
from worker_service.steps import TaskSteps


@dataclass(frozen=True, slots=True)
class Pair:
    """A zombie with its old lease, and the heir that runs the task now."""

    database: Database
    leases: Leases
    old: Lease
    new: Lease

    @property
    def task_id(self) -> UUID:
        return self.new.task_id


@pytest.fixture
async def pair(database: Database) -> Pair:
    leases = leases_of(database)
    task_id = await accept(database)
    old = await leases.acquire(task_id)
    await execute(database, "UPDATE tasks SET lease_expires_at = now() - interval '1 s'")
    new = await leases.acquire(task_id)
    assert old is not None
    assert new is not None
    assert new.token > old.token
    return Pair(database, leases, old, new)


Write = Callable[[Leases, Lease], Awaitable[bool]]


async def _complete(leases: Leases, lease: Lease) -> bool:
    request = RoadmapRequest(goal="Learn SQL")
    return await leases.complete(lease, small_roadmap(request, today=lease.accepted_on))


WRITES: dict[str, Write] = {
    "complete": _complete,
    "fail": lambda leases, lease: leases.fail(lease, Permanent("late")),
    "requeue": lambda leases, lease: leases.requeue(lease, Transient("late"), 0, charged=True),
    "hand over": lambda leases, lease: leases.hand_over(lease),
}


@pytest.mark.parametrize("write", WRITES)
async def test_a_zombies_write_is_refused_and_its_heirs_is_not(pair: Pair, write: str) -> None:
    history = await event_types(pair.database, pair.task_id)
    assert await WRITES[write](pair.leases, pair.old) is False
    assert (await task(pair.database, pair.task_id))["status"] == "running"
    assert await event_types(pair.database, pair.task_id) == history
    assert await rows(pair.database, "SELECT 1 FROM roadmaps") == []
    assert await WRITES[write](pair.leases, pair.new) is True


async def test_a_zombie_does_not_cancel_what_its_heir_is_asked_to(pair: Pair) -> None:
    await execute(pair.database, "UPDATE tasks SET cancel_requested_at = now()")
    assert await pair.leases.cancel(pair.old) is False
    assert (await task(pair.database, pair.task_id))["status"] == "running"
    assert await pair.leases.cancel(pair.new) is True


@pytest.mark.parametrize("write", WRITES)
async def test_whatever_a_task_comes_to_a_cancellation_that_was_asked_for_wins(
    pair: Pair, write: str
) -> None:
    await execute(pair.database, "UPDATE tasks SET cancel_requested_at = now()")
    assert await WRITES[write](pair.leases, pair.new) is False
    assert await pair.leases.cancel(pair.new) is True
    found = await task(pair.database, pair.task_id)
    assert (found["status"], found["roadmap_id"]) == ("canceled", None)


async def test_nobody_is_canceled_who_was_not_asked_to_be(pair: Pair) -> None:
    assert await pair.leases.cancel(pair.new) is False


class Text(BaseModel):
    said: str


def steps_of(pair: Pair, lease: Lease, settings: Settings) -> TaskSteps:
    return TaskSteps(lease, StepBook(pair.database), Heartbeat(settings), settings)


async def _say(_call: Call) -> Text:
    return Text(said="yes")


@pytest.mark.parametrize("paid", [True, False])
async def test_a_zombies_step_is_not_kept_and_leaves_no_event(
    pair: Pair, settings: Settings, paid: bool
) -> None:
    job: Job[Text] = Job(step=Step(name="say", shape=Text, paid=paid), inputs={}, work=_say)
    history = await event_types(pair.database, pair.task_id)
    with pytest.raises(LetGo):
        await steps_of(pair, pair.old, settings).run(job)
    assert await rows(pair.database, "SELECT 1 FROM task_steps") == []
    assert await event_types(pair.database, pair.task_id) == history
    assert (await steps_of(pair, pair.new, settings).run(job)).said == "yes"


@pytest.mark.parametrize("write", ["complete", "hand over"])
async def test_in_one_batch_the_zombie_is_refused_and_the_heir_is_not(
    pair: Pair, write: str
) -> None:
    write_it = WRITES[write]
    writes = (write_it(pair.leases, pair.old), write_it(pair.leases, pair.new))
    assert list(await asyncio.gather(*writes)) == [False, True]


async def test_in_one_batch_only_the_heirs_step_is_kept(pair: Pair) -> None:
    def entry(lease: Lease, step: str) -> Entry:
        return Entry(
            task_id=lease.task_id,
            token=lease.token,
            step=step,
            version=1,
            input_hash=b"hash",
            tries=1,
            output='{"said": "yes"}',
            events='[["step.completed", {}]]',
        )

    book = StepBook(pair.database)
    first = entry(pair.new, "first")
    assert await book.record(first)
    entries = (entry(pair.old, "zombie"), entry(pair.new, "heir"), first, entry(pair.old, "ask"))
    assert await asyncio.gather(*map(book.record, entries)) == [False, True, True, False]
    kept = await rows(pair.database, "SELECT step FROM task_steps ORDER BY step")
    assert [one["step"] for one in kept] == ["first", "heir"]
    assert (await event_types(pair.database, pair.task_id)).count("step.completed") == 2


@pytest.mark.parametrize("output", [None, '{"said": "yes"}'])
async def test_what_is_written_again_while_its_first_commit_is_under_way_is_written_once(
    pair: Pair, output: str | None
) -> None:
    entry = Entry(
        task_id=pair.task_id,
        token=pair.new.token,
        step="ask",
        version=1,
        input_hash=b"hash",
        tries=1,
        failures=int(output is None),
        output=output,
        calls=1,
        cost=0.5,
        events='[["step.started", {}]]',
    )
    history = await event_types(pair.database, pair.task_id)
    async with pair.database.begin() as session:
        await session.execute(text("SELECT 1 FROM tasks FOR UPDATE"))
        tries = [
            asyncio.create_task(repeated(partial(StepBook(pair.database).record, entry), 30))
            for _ in range(2)
        ]
        await two_wait_for_a_lock(pair.database)
    assert await asyncio.gather(*tries) == [True, True]
    (kept,) = await rows(pair.database, "SELECT tries, calls, cost FROM task_steps")
    assert (kept["tries"], kept["calls"], float(kept["cost"])) == (1, 1, 0.5)
    assert await event_types(pair.database, pair.task_id) == [*history, "step.started"]


async def two_wait_for_a_lock(database: Database) -> None:
    async def wait() -> None:
        sql = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        assert len(await rows(database, sql)) == 2

    await eventually(wait)


async def test_a_row_that_somebody_has_locked_costs_no_other_task_its_lease(
    database: Database, settings: Settings
) -> None:
    leases, heartbeat = leases_of(database), Heartbeat(settings)
    locked = await leases.acquire(await accept(database))
    free = await leases.acquire(await accept(database))
    assert locked is not None
    assert free is not None

    async def until(lease: Lease) -> datetime:
        found: datetime = (await task(database, lease.task_id))["lease_expires_at"]
        return found

    before = await until(locked), await until(free)
    async with heartbeat.held(locked), heartbeat.held(free), database.begin() as session:
        lock = text("SELECT 1 FROM tasks WHERE id = :id FOR UPDATE")
        await session.execute(lock, {"id": locked.task_id})
        (await heartbeat.beat(database, extend=True))()
        assert await until(free) != before[1]
        assert await until(locked) == before[0]
        extended = [one.extended_at > one.lease.taken_at for one in heartbeat.holdings.values()]
        assert extended == [False, True]
        assert [one.let_go for one in heartbeat.holdings.values()] == [None, None]


@pytest.mark.parametrize("extend", [True, False])
async def test_a_zombie_learns_from_its_heartbeat_that_the_lease_is_lost(
    pair: Pair, settings: Settings, extend: bool
) -> None:
    heartbeat = Heartbeat(settings)
    before = (await task(pair.database, pair.task_id))["lease_expires_at"]

    async def held() -> None:
        async with heartbeat.held(pair.old):
            (await heartbeat.beat(pair.database, extend=extend))()
            await accept(pair.database)  # the next time that it waits, it is let go

    with pytest.raises(LetGo) as ended:
        await held()
    assert ended.value.cause == "lost"
    assert (await task(pair.database, pair.task_id))["lease_expires_at"] == before


async def test_a_living_lease_is_not_taken_and_a_lapsed_one_only_as_often_as_allowed(
    database: Database,
) -> None:
    leases = leases_of(database, max_takeovers=2)
    task_id = await accept(database)
    assert await leases.acquire(task_id) is not None
    assert await leases.acquire(task_id, alone=True) is None
    taken = 0
    for _ in range(4):
        await execute(database, "UPDATE tasks SET lease_expires_at = now() - interval '1 s'")
        taken += await leases.acquire(task_id, alone=True) is not None
    assert taken == 2


async def test_a_suspect_is_only_taken_alone(database: Database) -> None:
    leases = leases_of(database, max_takeovers=3)
    task_id = await accept(database)
    await execute(database, "UPDATE tasks SET takeovers = 2")
    assert await leases.acquire(task_id) is None
    seen = await leases.sight(task_id)
    assert seen is not None
    assert (seen.due, seen.suspect) == (True, True)
    assert await leases.acquire(task_id, alone=True) is not None


async def test_a_takeover_that_makes_a_task_a_suspect_needs_room_for_one(
    database: Database,
) -> None:
    leases = leases_of(database, max_takeovers=3)
    task_id = await accept(database)
    assert await leases.acquire(task_id) is not None
    await execute(
        database, "UPDATE tasks SET lease_expires_at = now() - interval '1 s', takeovers = 1"
    )
    assert await leases.acquire(task_id) is None
    seen = await leases.sight(task_id)
    assert seen is not None
    assert seen.suspect


async def test_of_two_wishes_for_a_suspect_the_one_that_has_room_for_it_is_granted(
    database: Database,
) -> None:
    leases = leases_of(database, max_takeovers=3)
    task_id = await accept(database)
    await execute(database, "UPDATE tasks SET takeovers = 2")
    wishes = (leases.acquire(task_id), leases.acquire(task_id, alone=True))
    in_company, alone = await asyncio.gather(*wishes)
    assert in_company is None
    assert alone is not None


async def test_a_task_that_is_being_canceled_is_not_taken_over(database: Database) -> None:
    leases = leases_of(database)
    task_id = await accept(database)
    assert await leases.acquire(task_id) is not None
    await execute(
        database,
        "UPDATE tasks SET lease_expires_at = now() - interval '1 s', cancel_requested_at = now()",
    )
    assert await leases.acquire(task_id, alone=True) is None
