"""``waymark.Client`` and ``waymark.AsyncClient`` against a running API, one scenario for both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from shared.database import Database
from shared.errors import Permanent
from shared.roadmap import RoadmapRequest
from tests.clients import KINDS, Kind, a_client
from tests.eventually import eventually
from tests.factories import accept, fill, leases_of, rows, small_roadmap
from tests.http import Api
from waymark import (
    AsyncClient,
    Conflict,
    Deleted,
    NotFinished,
    NotFound,
    Unreachable,
    ValidationFailed,
)
from waymark.calls import Submission
from waymark.errors import ApiError
from waymark.processes import pick_port
from worker_service.leases import Lease


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.fixture
async def client(kind: Kind, api: Api, database: Database) -> AsyncIterator[AsyncClient]:
    async with a_client(kind, api.url) as client:
        yield client


async def taken(database: Database, task_id: UUID) -> Lease:
    lease = await leases_of(database).acquire(task_id)
    assert lease is not None
    return lease


async def done(database: Database, lease: Lease) -> None:
    request = RoadmapRequest.model_validate_json(lease.input)
    roadmap = small_roadmap(request, today=lease.accepted_on)
    assert await leases_of(database).complete(lease, roadmap)


async def ended(database: Database, goal: str = "Learn SQL") -> UUID:
    task_id = await accept(database, goal)
    await done(database, await taken(database, task_id))
    return task_id


# --- submit ---


async def test_a_submission_says_all_that_its_options_say(client: AsyncClient) -> None:
    later = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=5)
    task = await client.submit(
        "Learn SQL",
        hours_per_week=6,
        weeks=None,
        start_date=later.date() + timedelta(days=1),
        known_topics=("git",),
        priority="high",
        deadline_seconds=900,
        not_before=later,
        metadata={"customer": "42"},
    )
    assert task.input["goal"] == "Learn SQL"
    assert task.input["hours_per_week"] == 6
    assert task.input["weeks"] is None
    assert task.input["start_date"] == str(later.date() + timedelta(days=1))
    assert task.input["known_topics"] == ["git"]
    assert (task.priority, task.metadata, task.not_before) == ("high", {"customer": "42"}, later)
    assert task.deadline_at is not None
    assert task.document["id"] == str(task.id)
    assert (await client.task(task.id)).id == task.id


async def test_one_key_is_one_task_and_another_request_under_it_is_refused(
    client: AsyncClient,
) -> None:
    first = await client.submit({"goal": "Learn SQL"}, idempotency_key="k")
    again = await client.submit({"input": {"goal": "Learn SQL"}}, idempotency_key="k")
    assert again.id == first.id
    with pytest.raises(Conflict) as refused:
        await client.submit("Learn Rust", idempotency_key="k")
    assert refused.value.code == "idempotency-key-reused"


async def test_a_submission_can_wait_for_its_end(client: AsyncClient, database: Database) -> None:
    submitting = asyncio.create_task(client.submit("Learn SQL", wait=30))

    async def there() -> None:
        assert await rows(database, "SELECT id FROM tasks")

    await eventually(there)
    (found,) = await rows(database, "SELECT id FROM tasks")
    await done(database, await taken(database, found["id"]))
    assert (await submitting).status == "succeeded"


async def test_a_batch_is_all_or_what_breaks_no_rule(
    client: AsyncClient, database: Database
) -> None:
    low: Submission = {"input": {"goal": "Learn Rust"}, "priority": "low"}
    submissions: list[Submission] = ["Learn SQL", {"goal": "x"}, low]
    with pytest.raises(ValidationFailed) as refused:
        await client.submit_many(submissions)
    assert refused.value.problem.errors is not None
    assert refused.value.problem.errors[0].pointer == "/tasks/1/input/goal"
    assert await rows(database, "SELECT id FROM tasks") == []

    result = await client.submit_many(iter(submissions), atomic=False)
    assert (result.accepted, result.refused) == (2, 1)
    assert [one.task is not None for one in result.data] == [True, False, True]
    assert len(await rows(database, "SELECT id FROM tasks")) == 2


# --- read ---


async def test_all_tasks_are_listed_over_all_pages_newest_first(
    client: AsyncClient, database: Database
) -> None:
    await fill(database, 250)
    newest = await accept(database, "Learn Rust", metadata={"customer": "42"})
    found = [task.id async for task in client.tasks()]
    assert len(found) == len(set(found)) == 251
    assert found == sorted(found, reverse=True)
    assert len([task async for task in client.tasks(limit=120)]) == 120
    assert [task async for task in client.tasks(status="running")] == []
    chosen = client.tasks(metadata={"customer": "42"}, q="rust", created_after="2026-01-01T00:00Z")
    assert [task.id async for task in chosen] == [newest]


async def test_events_attempts_and_the_roadmap_are_typed(
    client: AsyncClient, database: Database
) -> None:
    task_id = await ended(database)
    task = await client.task(str(task_id))
    events = await client.events(task_id)
    assert [event.seq for event in events] == list(range(1, task.version + 1))
    assert events[0].type == "task.accepted"
    assert await client.events(task_id, after=task.version) == []
    (attempt,) = await client.attempts(task_id)
    assert (attempt.number, attempt.outcome) == (1, "succeeded")
    assert task.result is not None
    roadmap = await client.roadmap(task.result.roadmap_id)
    assert roadmap.task_id == task_id
    assert [concept.name for concept in roadmap.concepts()] == ["SELECT"]


# --- wait ---


async def test_waiting_sees_each_change_and_ends_with_the_task(
    client: AsyncClient, database: Database
) -> None:
    task_id = await accept(database)
    seen: list[str] = []
    waiting = asyncio.create_task(
        client.wait(task_id, timeout=60, seen=lambda task: seen.append(str(task.status)))
    )

    async def sees(status: str) -> None:
        async def saw() -> None:
            assert seen[-1:] == [status]

        await eventually(saw)

    await sees("queued")
    lease = await taken(database, task_id)
    await sees("running")
    await done(database, lease)
    task = await waiting
    assert (task.status, seen[-1]) == ("succeeded", "succeeded")
    assert len(seen) <= 6, "answers are held until there is news"


async def test_a_wait_that_is_over_says_that_the_task_is_not(
    client: AsyncClient, database: Database
) -> None:
    task_id = await accept(database)
    for timeout in (0, 1.5):
        with pytest.raises(NotFinished, match=f"task {task_id} is still queued after") as error:
            await client.wait(task_id, timeout=timeout)
        assert error.value.task.id == task_id


async def test_a_failed_task_ends_the_wait_with_its_error(
    client: AsyncClient, database: Database
) -> None:
    task_id = await accept(database)
    lease = await taken(database, task_id)
    assert await leases_of(database).fail(lease, Permanent("No way.", code="goal_not_covered"))
    task = await client.wait(task_id, timeout=60)
    assert task.error is not None
    assert (task.status, task.error.code) == ("failed", "goal_not_covered")


# --- stream ---


async def test_a_stream_tells_all_of_a_history_as_it_happens_and_then_ends(
    client: AsyncClient, database: Database
) -> None:
    task_id = await accept(database)
    types: list[str] = []
    async for event in client.stream(task_id):
        types.append(event.type)
        assert event.seq == len(types)
        if event.type == "task.accepted":
            lease = await taken(database, task_id)
            await done(database, lease)
    assert types[0] == "task.accepted"
    assert types[-1] == "task.succeeded"
    assert types == [event.type for event in await client.events(task_id)]


async def test_a_stream_goes_on_after_what_is_known(
    client: AsyncClient, database: Database
) -> None:
    task_id = await ended(database)
    version = (await client.task(task_id)).version
    assert [one.seq async for one in client.stream(task_id, after=1)] == [*range(2, version + 1)]
    assert [one async for one in client.stream(task_id, after=version)] == []


async def test_a_stream_that_the_api_refuses_is_an_error(client: AsyncClient) -> None:
    with pytest.raises(NotFound):
        await anext(client.stream(uuid4()))


# --- act ---


async def test_an_act_on_a_task_that_moved_on_or_ended_is_a_conflict(
    client: AsyncClient, database: Database
) -> None:
    task_id = await accept(database)
    with pytest.raises(Conflict) as error:
        await client.cancel(task_id, if_match=7)
    assert error.value.code == "precondition-failed"
    with pytest.raises(Conflict) as error:
        await client.delete(task_id)
    assert error.value.code == "task-not-ended"
    assert (await client.cancel(task_id, if_match=1)).status == "canceled"
    assert (await client.cancel(task_id)).status == "canceled"
    with pytest.raises(Conflict) as error:
        await client.cancel(await ended(database))
    assert error.value.problem.code == "task-already-ended"


async def test_a_retry_is_a_new_task_with_the_patched_input(
    client: AsyncClient, database: Database
) -> None:
    parent = await ended(database, "Learn SQL")
    again = await client.retry(parent, input={"hours_per_week": 9}, priority="low")
    assert again.parent_id == parent
    assert (again.input["goal"], again.input["hours_per_week"]) == ("Learn SQL", 9)
    assert again.priority == "low"


async def test_what_was_deleted_is_known_as_deleted(
    client: AsyncClient, database: Database
) -> None:
    task_id = await ended(database)
    await client.delete(task_id)
    await client.delete(task_id)
    with pytest.raises(Deleted):
        await client.task(task_id)


# --- errors ---


async def test_a_broken_rule_names_its_fields(client: AsyncClient) -> None:
    with pytest.raises(ValidationFailed) as refused:
        await client.submit("Learn SQL", hours_per_week=0)
    errors = refused.value.problem.errors or []
    assert [error.pointer for error in errors] == ["/input/hours_per_week"]
    assert refused.value.problem.request_id == refused.value.document["request_id"]


async def test_an_unknown_task_is_not_found_whatever_its_id_looks_like(client: AsyncClient) -> None:
    with pytest.raises(NotFound) as missing:
        await client.task(uuid4())
    assert missing.value.code == "task-not-found"
    with pytest.raises(ApiError):
        await client.task("../roadmaps")


async def test_any_address_can_be_called_for_its_document(client: AsyncClient) -> None:
    document = await client.call("POST", "/v1/tasks", json={"input": {"goal": "Learn SQL"}})
    page = await client.call("GET", "/v1/tasks", params={"limit": 1})
    assert [task["id"] for task in page["data"]] == [document["id"]]


async def test_a_server_that_is_not_there_is_unreachable(kind: Kind) -> None:
    async with a_client(kind, f"http://127.0.0.1:{pick_port()}", patience=0) as nobody:
        with pytest.raises(Unreachable) as error:
            await nobody.task(uuid4())
        assert not error.value.heard
        with pytest.raises(Unreachable):
            await anext(nobody.stream(uuid4()))
