"""While its heir runs, each write of a zombie is refused: by the token, not by the status."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

import pytest
from pydantic import BaseModel

from shared.database import Database
from shared.errors import Permanent, Transient
from shared.roadmap import RoadmapRequest
from shared.settings import Settings
from tests.factories import accept, event_types, execute, leases_of, rows, small_roadmap, task
from worker_service.generators.port import Call, Job, Step
from worker_service.heartbeat import Heartbeat, LetGo
from worker_service.leases import Lease, Leases
from worker_service.stepbook import StepBook
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


async def test_a_task_that_is_being_canceled_is_not_taken_over(database: Database) -> None:
    leases = leases_of(database)
    task_id = await accept(database)
    assert await leases.acquire(task_id) is not None
    await execute(
        database,
        "UPDATE tasks SET lease_expires_at = now() - interval '1 s', cancel_requested_at = now()",
    )
    assert await leases.acquire(task_id, alone=True) is None
