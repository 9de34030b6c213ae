"""What an idempotency key stands for, once: whatever the clock, other requests and deletion do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx2
import pytest

from api_service.new_task import NewTask
from api_service.problems import Problem
from api_service.schemas import TaskSubmission
from api_service.submission import Submissions
from shared.database import Database
from shared.settings import Settings
from tests.factories import accept, execute, rows
from tests.http import a_goal, assert_problem, in_process

KEY = {"Idempotency-Key": "order-42"}
PAST = "2020-01-31"


@pytest.fixture
async def client(database: Database, settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    async with in_process(settings) as client:
        yield client


def a_batch(*goals: str, atomic: bool = True) -> dict[str, Any]:
    bodies = [a_goal(goal=goal) if goal else {"input": {}} for goal in goals]
    return {"tasks": bodies, "atomic": atomic}


async def post(client: httpx2.AsyncClient, path: str, body: object) -> httpx2.Response:
    return await client.post(path, json=body, headers=KEY)


async def goals(database: Database) -> list[str]:
    found = await rows(database, "SELECT input ->> 'goal' AS goal FROM tasks ORDER BY id")
    return [one["goal"] for one in found]


# --- batches ---


@pytest.mark.parametrize(
    "other",
    [
        a_batch("Learn Go", "Learn Rust", "Learn C"),
        a_batch("Learn SQL", "Learn Rust"),
        a_batch("", "Learn Rust", atomic=False),
        a_batch("Learn SQL", "Learn Python", atomic=False),
    ],
)
async def test_another_batch_under_the_key_is_refused_and_writes_nothing(
    client: httpx2.AsyncClient, database: Database, other: dict[str, Any]
) -> None:
    assert (await post(client, "/v1/tasks:batch", a_batch("Learn SQL", "Learn Python"))).is_success
    before = await goals(database)
    refused = await post(client, "/v1/tasks:batch", other)
    assert_problem(refused, 422, "idempotency-key-reused")
    assert await goals(database) == before


async def test_batches_that_share_no_place_do_not_share_a_key(
    client: httpx2.AsyncClient, database: Database
) -> None:
    first = await post(client, "/v1/tasks:batch", a_batch("", "Learn SQL", atomic=False))
    assert first.json()["accepted"] == 1
    second = await post(client, "/v1/tasks:batch", a_batch("Learn Python"))
    assert_problem(second, 422, "idempotency-key-reused")
    assert await goals(database) == ["Learn SQL"]


async def test_a_batch_that_meets_its_rival_while_it_writes_leaves_nothing(
    database: Database,
) -> None:
    """Both have looked before, and found nothing."""
    submissions = Submissions(database)

    def one(goal: str, key: str) -> NewTask:
        body = TaskSubmission.model_validate(a_goal(goal=goal))
        return NewTask.of(body, tenant_id="default", key=key, traceparent=None)

    await submissions.submit_all([one("Learn SQL", "order-42"), one("Learn C", "other")])
    with pytest.raises(Problem, match="The key was used"):
        await submissions.submit_all([one("Learn Go", "new"), one("Learn Rust", "order-42")])
    assert await goals(database) == ["Learn SQL", "Learn C"]


@pytest.mark.parametrize("first", ["/v1/tasks", "/v1/tasks:batch"])
async def test_a_batch_and_a_submission_do_not_share_a_key(
    client: httpx2.AsyncClient, database: Database, first: str
) -> None:
    bodies: dict[str, Any] = {"/v1/tasks": a_goal(), "/v1/tasks:batch": a_batch("Learn SQL")}
    (second,) = set(bodies) - {first}
    assert (await post(client, first, bodies[first])).is_success
    assert_problem(await post(client, second, bodies[second]), 422, "idempotency-key-reused")
    assert len(await goals(database)) == 1


async def test_a_batch_that_is_sent_again_says_so_and_is_the_same(
    client: httpx2.AsyncClient, database: Database
) -> None:
    body = a_batch("", "Learn SQL", "Learn Python", atomic=False)
    first = await post(client, "/v1/tasks:batch", body)
    body["tasks"][1]["priority"] = "normal"  # what it is without a word
    again = await post(client, "/v1/tasks:batch", body)
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert ids(again) == ids(first)
    assert ids(first)[0] is None
    assert len(await goals(database)) == 2


def ids(answer: httpx2.Response) -> list[str | None]:
    return [one["task"] and one["task"]["id"] for one in answer.json()["data"]]


# --- the clock ---


async def accepted_long_ago(database: Database, body: dict[str, Any]) -> UUID:
    shaped = TaskSubmission.model_validate(body)
    new = NewTask.of(shaped, tenant_id="default", key=KEY["Idempotency-Key"], traceparent=None)
    await Submissions(database).submit(new)
    return new.id


@pytest.mark.parametrize("field", ["start_date", "until"])
async def test_what_was_accepted_once_stays_so_when_its_days_have_passed(
    client: httpx2.AsyncClient, database: Database, field: str
) -> None:
    body = a_goal(**{field: PAST})
    refused = assert_problem(await post(client, "/v1/tasks", body), 422, "validation-failed")
    assert [one["pointer"] for one in refused["errors"]] == [f"/input/{field}"]
    task_id = await accepted_long_ago(database, body)
    again = await post(client, "/v1/tasks", body)
    assert (again.status_code, again.json()["id"]) == (202, str(task_id))
    assert again.headers["idempotent-replayed"] == "true"
    other = a_goal(**{field: PAST}, weeks=None, level="advanced")
    assert_problem(await post(client, "/v1/tasks", other), 422, "idempotency-key-reused")


async def test_a_batch_is_found_again_when_its_days_have_passed(
    client: httpx2.AsyncClient, database: Database
) -> None:
    body = {"tasks": [a_goal(start_date="2100-01-01"), a_goal()], "atomic": False}
    first = await post(client, "/v1/tasks:batch", body)
    refused = first.json()["data"][0]["problem"]
    assert refused["errors"][0]["pointer"] == "/input/start_date"
    again = await post(client, "/v1/tasks:batch", body)
    assert ids(again) == ids(first)


# --- retries ---


async def test_a_patch_with_half_a_character_is_refused(
    client: httpx2.AsyncClient, database: Database
) -> None:
    parent = await accept(database)
    await execute(
        database, "UPDATE tasks SET status = 'canceled', stage = 'done', finished_at = now()"
    )
    half = b'{"input": {"goal": [{"\\ud800": "x"}]}}'
    headers = KEY | {"Content-Type": "application/json"}
    answer = await client.post(f"/v1/tasks/{parent}/retry", content=half, headers=headers)
    assert_problem(answer, 422, "validation-failed")


async def test_a_retry_is_found_again_after_its_parent_was_deleted(
    client: httpx2.AsyncClient, database: Database
) -> None:
    parent = await accept(database)
    await execute(
        database,
        "UPDATE tasks SET status = 'canceled', stage = 'done', finished_at = now()",
    )
    first = await post(client, f"/v1/tasks/{parent}/retry", {})
    assert first.status_code == 202
    assert (await client.delete(f"/v1/tasks/{parent}")).status_code == 204
    same: dict[str, Any]
    for same in ({}, {"priority": None}, {"input": {}}):
        again = await post(client, f"/v1/tasks/{parent}/retry", same)
        assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
        assert again.headers["idempotent-replayed"] == "true"
    other: dict[str, Any]
    for other in ({"priority": "high"}, {"metadata": {}}, {"input": {"weeks": None}}):
        reused = await post(client, f"/v1/tasks/{parent}/retry", other)
        assert_problem(reused, 422, "idempotency-key-reused")
    without = await client.post(f"/v1/tasks/{parent}/retry", json={})
    assert_problem(without, 410, "task-deleted")
