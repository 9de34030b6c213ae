"""The task interface: what can be asked of a submission, lists, retries, erasure, attempts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from api_service import listing
from api_service.listing import TaskQuery
from api_service.retrying import merge_patch
from relay_service.housekeeping import Housekeeper
from shared.database import Database
from shared.errors import Permanent, Transient
from shared.roadmap import Roadmap, RoadmapRequest
from shared.settings import Settings
from tests.eventually import eventually
from tests.factories import accept, event_types, execute, leases_of, row, rows, small_roadmap
from tests.http import a_goal, assert_problem, in_process


@pytest.fixture
async def client(database: Database, settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    async with in_process(settings) as client:
        yield client


def a_roadmap() -> Roadmap:
    return small_roadmap(RoadmapRequest(goal="Learn SQL"), today=date(2026, 11, 25))


async def succeed(database: Database, task_id: UUID) -> None:
    leases = leases_of(database)
    lease = await leases.acquire(task_id)
    assert lease is not None
    await leases.complete(lease, a_roadmap())


async def fail(database: Database, task_id: UUID, detail: str = "no plan") -> None:
    leases = leases_of(database)
    lease = await leases.acquire(task_id)
    assert lease is not None
    await leases.fail(lease, Permanent(detail))


# --- submission ---


async def test_a_task_shows_the_hop_that_its_message_takes(
    client: httpx2.AsyncClient, database: Database
) -> None:
    first = (await client.post("/v1/tasks", json=a_goal())).json()
    assert first["delivery"] == {
        "outbox_id": f"{first['id']}:1",
        "state": "waiting",
        "published_at": None,
        "lag_ms": None,
        "publish_attempts": 0,
    }
    second = (await client.post("/v1/tasks", json=a_goal())).json()
    assert (await client.get(second["links"]["self"])).json()["queue"]["position"] == 2

    await execute(
        database,
        "UPDATE outbox_messages SET dispatched_at = available_at + interval '250 ms'"
        " WHERE task_id = :id",
        id=UUID(first["id"]),
    )
    shown = (await client.get(first["links"]["self"])).json()
    assert shown["stage"] == "dispatched"
    assert (shown["delivery"]["state"], shown["delivery"]["lag_ms"]) == ("dispatched", 250)
    assert shown["delivery"]["publish_attempts"] == 1

    await succeed(database, UUID(first["id"]))
    shown = (await client.get(first["links"]["self"])).json()
    assert (shown["delivery"]["state"], shown["queue"]) == ("taken", None)
    assert shown["delivery"]["publish_attempts"] == 1
    assert 249 < shown["delivery"]["lag_ms"] < 300


async def test_metadata_is_kept_as_it_was_sent(client: httpx2.AsyncClient) -> None:
    metadata = {"customer": "42", "name with ü": "", "k" * 40: "v" * 500}
    answer = await client.post("/v1/tasks", json=a_goal() | {"metadata": metadata})
    assert answer.status_code == 202
    assert answer.json()["metadata"] == metadata
    assert (await client.get(answer.headers["location"])).json()["metadata"] == metadata


@pytest.mark.parametrize(
    ("metadata", "pointer"),
    [
        ({f"k{n}": "" for n in range(51)}, "/metadata"),
        ({"k" * 41: "v"}, "/metadata"),
        ({"": "v"}, "/metadata"),
        ({"k": "v" * 501}, "/metadata/k"),
        ({"k": 1}, "/metadata/k"),
        ({"k": "a\0b"}, "/metadata/k"),
        ("k=v", "/metadata"),
    ],
)
async def test_metadata_that_breaks_a_rule_is_refused_by_name(
    client: httpx2.AsyncClient, metadata: Any, pointer: str
) -> None:
    answer = await client.post("/v1/tasks", json=a_goal() | {"metadata": metadata})
    body = assert_problem(answer, 422, "validation-failed")
    assert all(error["pointer"].startswith(pointer) for error in body["errors"])


async def test_a_task_is_not_begun_before_its_time(
    client: httpx2.AsyncClient, database: Database
) -> None:
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    task = (await client.post("/v1/tasks", json=a_goal() | {"not_before": later})).json()
    assert task["delivery"]["state"] == "delayed"
    assert datetime.fromisoformat(task["not_before"]) == datetime.fromisoformat(later)
    assert (await client.get(task["links"]["self"])).json() | {"queue": task["queue"]} == task
    assert await leases_of(database).acquire(UUID(task["id"])) is None

    past = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    task = (await client.post("/v1/tasks", json=a_goal() | {"not_before": past})).json()
    assert task["delivery"]["state"] == "waiting"
    assert await leases_of(database).acquire(UUID(task["id"])) is not None


@pytest.mark.parametrize(
    "body",
    [
        {"not_before": "2030-01-31"},
        {"not_before": "2030-01-31T12:00:00"},
        {"not_before": 1893456000},
        {"not_before": "9999-12-31T23:59:59-12:00"},
        {"not_before": "0001-01-01T00:00:00+14:00"},
        {"not_before": (datetime.now(UTC) + timedelta(hours=1)).isoformat(), "deadline_seconds": 9},
    ],
)
async def test_a_time_that_cannot_be_meant_is_refused(
    client: httpx2.AsyncClient, body: dict[str, Any]
) -> None:
    assert_problem(await client.post("/v1/tasks", json=a_goal() | body), 422, "validation-failed")


async def test_a_paused_intake_refuses_new_tasks_and_still_knows_the_old(
    client: httpx2.AsyncClient, database: Database
) -> None:
    key = {"Idempotency-Key": "before"}
    first = await client.post("/v1/tasks", json=a_goal(), headers=key)
    await execute(
        database,
        "UPDATE deployment SET intake_paused_at = now(), intake_paused_by = 'me',"
        " intake_paused_reason = 'maintenance'",
    )
    answer = await client.post("/v1/tasks", json=a_goal())
    assert_problem(answer, 503, "intake-paused")
    assert answer.headers["retry-after"]
    batch = await client.post("/v1/tasks:batch", json={"tasks": [a_goal()]})
    assert_problem(batch, 503, "intake-paused")
    again = await client.post("/v1/tasks", json=a_goal(), headers=key)
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    assert len(await rows(database, "SELECT 1 FROM tasks")) == 1


async def test_a_key_stands_for_method_path_and_body(
    client: httpx2.AsyncClient, database: Database
) -> None:
    key = {"Idempotency-Key": "k"}
    task = (await client.post("/v1/tasks", json=a_goal(), headers=key)).json()
    other = await client.post("/v1/tasks", json=a_goal() | {"priority": "low"}, headers=key)
    assert_problem(other, 422, "idempotency-key-reused")
    await fail(database, UUID(task["id"]))
    elsewhere = await client.post(f"{task['links']['self']}/retry", json={}, headers=key)
    assert_problem(elsewhere, 422, "idempotency-key-reused")


async def test_a_key_that_another_request_holds_for_long_is_in_progress(
    database: Database, settings: Settings
) -> None:
    impatient = settings.model_copy(update={"database_command_timeout": 1.0})
    async with in_process(impatient) as client, database.begin() as session:
        from sqlalchemy import text

        await session.execute(
            text(
                "INSERT INTO tasks (id, idempotency_key, request_hash, input)"
                " VALUES (gen_random_uuid(), 'held', '', '{}')"
            )
        )
        key = {"Idempotency-Key": "held"}
        answer = await client.post("/v1/tasks", json=a_goal(), headers=key)
        assert_problem(answer, 409, "idempotency-in-progress")
        assert answer.headers["retry-after"] == "1"
        await session.rollback()


async def test_a_key_outlives_a_short_retention(database: Database, settings: Settings) -> None:
    """It is promised for 72 hours; the task stays as long."""
    old = await accept(database, "Learn SQL")
    young = await accept(database, "Learn Rust", key="young")
    for task_id in (old, young):
        await succeed(database, task_id)
    keeper = Housekeeper(settings.model_copy(update={"retention_days": 1e-9}), database)
    await asyncio.sleep(0.01)  # ids are of a millisecond
    await keeper.run_once()
    assert [one["id"] for one in await rows(database, "SELECT id FROM tasks")] == [young]


# --- many at once ---


async def test_a_batch_is_accepted_as_one(client: httpx2.AsyncClient, database: Database) -> None:
    bodies = [a_goal() | {"metadata": {"n": str(n)}} for n in range(100)]
    answer = await client.post("/v1/tasks:batch", json={"tasks": bodies})
    assert answer.status_code == 202, answer.text
    result = answer.json()
    assert (result["accepted"], result["refused"]) == (100, 0)
    assert [item["task"]["metadata"]["n"] for item in result["data"]] == [
        str(n) for n in range(100)
    ]
    assert [item["index"] for item in result["data"]] == [*range(100)]
    commits = await row(
        database, "SELECT count(*) AS n, count(DISTINCT created_at) AS times FROM tasks"
    )
    assert (commits["n"], commits["times"]) == (100, 1)


async def test_one_wrong_submission_refuses_an_atomic_batch(
    client: httpx2.AsyncClient, database: Database
) -> None:
    bodies = [a_goal(), {"input": {"goal": "x"}}, a_goal(), "no object"]
    answer = await client.post("/v1/tasks:batch", json={"tasks": bodies})
    body = assert_problem(answer, 422, "batch-rejected")
    assert [error["pointer"] for error in body["errors"]] == ["/tasks/1/input/goal", "/tasks/3"]
    assert not await rows(database, "SELECT 1 FROM tasks")

    answer = await client.post("/v1/tasks:batch", json={"tasks": bodies, "atomic": False})
    result = answer.json()
    assert (result["accepted"], result["refused"]) == (2, 2)
    problem = result["data"][1]["problem"]
    assert (problem["code"], problem["errors"][0]["pointer"]) == (
        "validation-failed",
        "/input/goal",
    )
    assert len(await rows(database, "SELECT 1 FROM outbox_messages")) == 2


async def test_a_batch_of_nothing_right_writes_nothing(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/v1/tasks:batch", json={"tasks": [{}], "atomic": False})
    assert (answer.status_code, answer.json()["accepted"]) == (202, 0)


async def test_a_batch_under_one_key_is_made_once(
    client: httpx2.AsyncClient, database: Database
) -> None:
    key = {"Idempotency-Key": "many"}
    body = {"tasks": [a_goal(), {}, a_goal()], "atomic": False}
    answers = await asyncio.gather(
        *(client.post("/v1/tasks:batch", json=body, headers=key) for _ in range(5))
    )
    ids = {
        tuple(item["task"]["id"] for item in answer.json()["data"] if item["task"])
        for answer in answers
    }
    assert len(ids) == 1
    assert len(await rows(database, "SELECT 1 FROM tasks")) == 2
    other = await client.post(
        "/v1/tasks:batch", json={"tasks": [a_goal()], "atomic": False}, headers=key
    )
    assert_problem(other, 422, "idempotency-key-reused")


@pytest.mark.parametrize("tasks", [[], [{}] * 101, {}, None])
async def test_a_batch_has_1_to_100_submissions(client: httpx2.AsyncClient, tasks: Any) -> None:
    answer = await client.post("/v1/tasks:batch", json={"tasks": tasks})
    body = assert_problem(answer, 422, "validation-failed")
    assert body["errors"][0]["pointer"] == "/tasks"


# --- one look ---


async def test_a_known_task_is_not_sent_again(
    client: httpx2.AsyncClient, database: Database
) -> None:
    made = await client.post("/v1/tasks", json=a_goal())
    url, tag = made.headers["location"], made.headers["etag"]
    assert tag == '"1.0"'
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        answer = await client.get(url, headers={"If-None-Match": known})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
    assert (await client.get(url, headers={"If-None-Match": '"0.0"'})).status_code == 200

    await execute(database, "UPDATE outbox_messages SET dispatched_at = now()")
    answer = await client.get(url, headers={"If-None-Match": tag})
    assert (answer.status_code, answer.headers["etag"]) == (200, '"1.1"')
    assert answer.headers["retry-after"]
    await succeed(database, UUID(answer.json()["id"]))
    answer = await client.get(url, headers={"If-None-Match": '"1.1"'})
    assert (answer.status_code, answer.headers["etag"]) == (200, '"4.0"')
    assert "retry-after" not in answer.headers


async def test_a_wait_ends_with_the_next_change(
    client: httpx2.AsyncClient, database: Database
) -> None:
    made = await client.post("/v1/tasks", json=a_goal())
    url, tag = made.headers["location"], made.headers["etag"]
    known = {"Prefer": "wait=30", "If-None-Match": tag}
    waiting = asyncio.create_task(client.get(url, headers=known))
    leases = leases_of(database)
    lease = await leases.acquire(UUID(made.json()["id"]))
    answer = await waiting
    assert (answer.status_code, answer.json()["status"]) == (200, "running")
    assert answer.headers["preference-applied"] == "wait=30"

    ended = asyncio.create_task(client.get(url, headers={"Prefer": "wait=30"}))
    assert lease is not None
    await leases.complete(lease, a_roadmap())
    assert (await ended).json()["status"] == "succeeded"


async def test_a_wait_without_news_says_that_nothing_is_new(client: httpx2.AsyncClient) -> None:
    made = await client.post("/v1/tasks", json=a_goal())
    known = {"Prefer": "wait=1", "If-None-Match": made.headers["etag"]}
    answer = await client.get(made.headers["location"], headers=known)
    assert (answer.status_code, answer.headers["preference-applied"]) == (304, "wait=1")


async def test_a_submission_that_is_waited_for_is_answered_when_it_has_ended(
    client: httpx2.AsyncClient, database: Database
) -> None:
    key = {"Idempotency-Key": "k", "Prefer": "respond-async, wait=30"}
    waiting = asyncio.create_task(client.post("/v1/tasks", json=a_goal(), headers=key))

    async def accepted() -> None:
        assert await rows(database, "SELECT id FROM tasks")

    await eventually(accepted)
    await succeed(database, (await row(database, "SELECT id FROM tasks"))["id"])
    answer = await waiting
    assert (answer.status_code, answer.json()["status"]) == (201, "succeeded")
    assert answer.headers["preference-applied"] == "wait=30"
    again = await client.post("/v1/tasks", json=a_goal(), headers=key)
    assert (again.status_code, again.headers["idempotent-replayed"]) == (201, "true")
    assert again.json() == answer.json()


# --- lists ---


async def test_a_list_is_walked_from_the_newest_to_the_oldest(
    client: httpx2.AsyncClient, database: Database
) -> None:
    made = [str(await accept(database, f"Goal number {n}")) for n in range(25)]
    found: list[str] = []
    url = "/v1/tasks?limit=10"
    pages = 0
    while url:
        answer = await client.get(url)
        page = answer.json()
        found += [task["id"] for task in page["data"]]
        pages += 1
        named = (one.split("; rel=") for one in answer.headers["link"].split(", "))
        links = {rel: address for address, rel in named}
        assert links['"first"'] == "</v1/tasks?limit=10>"
        assert page["has_more"] is ('"next"' in links) is (page["next_cursor"] is not None)
        url = links.get('"next"', "").strip("<>")
        await accept(database, "Newer than what is being read")
    assert (found, pages) == (made[::-1], 3)


async def test_a_list_is_filtered(client: httpx2.AsyncClient, database: Database) -> None:
    ids = {
        name: await accept(database, goal, metadata=metadata)
        for name, goal, metadata in (
            ("sql", "Learn 100% of SQL_basics", {"customer": "42", "plan": "a"}),
            ("rust", "Rust for backend engineers", {"customer": "42", "plan": "b"}),
            ("failed", "Knit a sweater", {}),
            ("canceled", "Learn sql_basics", {"customer": "7"}),
            ("running", "Something that runs", {}),
            ("deleted", "Learn SQL_basics secretly", {"customer": "42"}),
        )
    }
    await succeed(database, ids["sql"])
    await fail(database, ids["failed"])
    await client.post(f"/v1/tasks/{ids['canceled']}/cancel")
    await leases_of(database).acquire(ids["running"])
    await succeed(database, ids["deleted"])
    await client.delete(f"/v1/tasks/{ids['deleted']}")

    async def names(query: str) -> list[str]:
        answer = await client.get(f"/v1/tasks?{query}")
        assert answer.status_code == 200, answer.text
        return [next(n for n, i in ids.items() if str(i) == t["id"]) for t in answer.json()["data"]]

    assert await names("") == ["running", "canceled", "failed", "rust", "sql"]
    for status, expected in (
        ("queued", ["rust"]),
        ("running", ["running"]),
        ("succeeded", ["sql"]),
        ("failed", ["failed"]),
        ("canceled", ["canceled"]),
    ):
        assert await names(f"status={status}") == expected
    assert await names("q=SQL_b") == ["canceled", "sql"]
    assert await names("q=100%25") == ["sql"]
    assert await names("q=%25") == ["sql"]
    assert await names("metadata[customer]=42") == ["rust", "sql"]
    assert await names("metadata[customer]=42&metadata[plan]=b") == ["rust"]
    assert await names("metadata[customer]=42&status=succeeded&q=learn") == ["sql"]
    middle = (await row(database, "SELECT created_at FROM tasks WHERE id = :id", id=ids["failed"]))[
        "created_at"
    ].isoformat()
    after = {"created_after": middle}
    assert [
        task["id"] for task in (await client.get("/v1/tasks", params=after)).json()["data"]
    ] == [str(ids["running"]), str(ids["canceled"])]
    before = {"created_before": middle}
    assert [
        task["id"] for task in (await client.get("/v1/tasks", params=before)).json()["data"]
    ] == [str(ids["rust"]), str(ids["sql"])]


async def test_a_search_that_finds_little_goes_on_from_where_it_stopped(
    client: httpx2.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "WINDOW", 5)
    wanted = str(await accept(database, "The needle"))
    for n in range(12):
        await accept(database, f"Hay {n}")
    found, pages, cursor = [], 0, ""
    while pages < 10:
        page = (await client.get(f"/v1/tasks?q=needle{cursor}")).json()
        found += [task["id"] for task in page["data"]]
        pages += 1
        if not page["has_more"]:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert (found, pages) == ([wanted], 3)


class Busy(Database):
    """Where another task is accepted between the statements of a page."""

    @asynccontextmanager
    async def autocommit(self) -> AsyncIterator[Any]:
        async with super().autocommit() as connection:
            late = partial(self._late, connection)
            yield SimpleNamespace(execute=connection.execute, scalar=late)

    async def _late(self, connection: AsyncConnection, *asked: Any) -> Any:
        beside = Database(self.settings, "beside")
        await accept(beside, "Learn SQL")
        await beside.close()
        return await connection.scalar(*asked)


async def test_a_search_goes_on_where_it_stopped_though_tasks_join_meanwhile(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "WINDOW", 3)
    wanted = [await accept(database, "Learn SQL") for _ in range(5)]
    busy, found, cursor = Busy(settings, "busy"), [], None
    for _ in range(3):
        page = await listing.page_of(busy, "default", TaskQuery(q="SQL", cursor=cursor))
        found += [one["id"] for one in page.rows]
        cursor = page.next_cursor
        if cursor is None:
            break
    await busy.close()
    assert found == wanted[::-1]


async def test_a_total_is_an_estimate_and_only_on_request(
    client: httpx2.AsyncClient, database: Database
) -> None:
    for n in range(30):
        await accept(database, f"Goal number {n}")
    await execute(database, "ANALYZE tasks")
    assert (await client.get("/v1/tasks?limit=5")).json()["total_estimate"] is None
    page = (await client.get("/v1/tasks?limit=5&include_total=estimate")).json()
    assert 20 <= page["total_estimate"] <= 40
    further = f"/v1/tasks?limit=5&include_total=estimate&cursor={page['next_cursor']}"
    assert (await client.get(further)).json()["total_estimate"] == page["total_estimate"]


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("status=done", "/query/status"),
        ("limit=0", "/query/limit"),
        ("limit=101", "/query/limit"),
        ("created_after=yesterday", "/query/created_after"),
        ("created_after=0001-01-01T00:00:00%2B14:00", "/query/created_after"),
        ("q=", "/query/q"),
        ("q=a%00b", "/query/q"),
        ("metadata=42", "/query/metadata"),
        ("include_total=true", "/query/include_total"),
        ("staus=failed", "/query/staus"),
        ("offset=20", "/query/offset"),
    ],
)
async def test_a_wrong_filter_is_refused_by_name(
    client: httpx2.AsyncClient, query: str, pointer: str
) -> None:
    body = assert_problem(await client.get(f"/v1/tasks?{query}"), 422, "validation-failed")
    assert [error["pointer"] for error in body["errors"]] == [pointer]


@pytest.mark.parametrize("cursor", ["x", "e30", "eyJiZWZvcmUiOiAieCJ9", "ü", "0" * 400])
async def test_a_cursor_that_is_not_ours_is_refused(
    client: httpx2.AsyncClient, cursor: str
) -> None:
    answer = await client.get("/v1/tasks", params={"cursor": cursor})
    assert_problem(answer, 400, "invalid-cursor")


# --- acts ---


async def test_a_cancellation_goes_by_the_version_that_was_seen(
    client: httpx2.AsyncClient, database: Database
) -> None:
    made = await client.post("/v1/tasks", json=a_goal())
    url, task_id = made.headers["location"], UUID(made.json()["id"])
    lease = await leases_of(database).acquire(task_id)
    assert lease is not None
    stale = await client.post(f"{url}/cancel", headers={"If-Match": made.headers["etag"]})
    assert_problem(stale, 412, "precondition-failed")
    assert (await row(database, "SELECT * FROM tasks"))["cancel_requested_at"] is None
    for broken in ('"x"', "1", '"99999999999.0"'):
        answer = await client.post(f"{url}/cancel", headers={"If-Match": broken})
        assert_problem(answer, 412, "precondition-failed")

    fresh = (await client.get(url)).headers["etag"]
    answer = await client.post(f"{url}/cancel", headers={"If-Match": fresh})
    assert answer.status_code == 202
    assert (answer.headers["retry-after"], answer.headers["etag"]) == ("1", '"3.0"')
    known = await client.get(url, headers={"If-None-Match": fresh})
    assert known.status_code == 200, "who waits hears of it"
    # To say it twice changes nothing, not even with the tag of before.
    again = await client.post(f"{url}/cancel", headers={"If-Match": made.headers["etag"]})
    assert again.status_code == 202


async def test_a_retry_is_a_new_task_that_names_its_parent(
    client: httpx2.AsyncClient, database: Database
) -> None:
    body = a_goal(weeks=8) | {"priority": "high", "metadata": {"customer": "42"}}
    old = (await client.post("/v1/tasks", json=body)).json()
    url = f"{old['links']['self']}/retry"
    assert_problem(await client.post(url), 409, "task-not-ended")
    await fail(database, UUID(old["id"]))
    before = (await client.get(old["links"]["self"])).json()

    key = {"Idempotency-Key": "again"}
    patch = {"input": {"weeks": None, "hours_per_week": 9}, "metadata": {"try": "2"}}
    answer = await client.post(url, json=patch, headers=key)
    new = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (202, new["links"]["self"])
    assert new["parent_id"] == old["id"] != new["id"]
    assert (new["input"]["weeks"], new["input"]["hours_per_week"]) == (None, 9)
    assert (new["priority"], new["metadata"]) == ("high", {"try": "2"})
    assert (await client.post(url, json=patch, headers=key)).json()["id"] == new["id"]
    assert_problem(await client.post(url, json={}, headers=key), 422, "idempotency-key-reused")
    events = (await client.get(new["links"]["events"])).json()["data"]
    assert (events[0]["type"], events[0]["data"]) == ("task.accepted", {"parent_id": old["id"]})

    assert (await client.get(old["links"]["self"])).json() == before
    bare = (await client.post(url)).json()
    assert (bare["input"], bare["metadata"]) == (old["input"], old["metadata"])


async def test_a_patch_is_judged_like_a_submission(
    client: httpx2.AsyncClient, database: Database
) -> None:
    task_id = await accept(database)
    await fail(database, task_id)
    for patch, pointer in (
        ({"weeks": 0}, "/input/weeks"),
        ({"goal": None}, "/input/goal"),
        ({"gaol": "x"}, "/input/gaol"),
        ({"goal": {"a": 1}}, "/input/goal"),
    ):
        answer = await client.post(f"/v1/tasks/{task_id}/retry", json={"input": patch})
        body = assert_problem(answer, 422, "validation-failed")
        assert [error["pointer"] for error in body["errors"]] == [pointer]


async def test_a_retry_does_not_begin_on_a_day_that_has_passed(
    client: httpx2.AsyncClient, database: Database
) -> None:
    task_id = await accept(database)
    await execute(database, """UPDATE tasks SET input = input || '{"start_date": "2020-01-31"}'""")
    await fail(database, task_id)
    answer = await client.post(f"/v1/tasks/{task_id}/retry")
    assert (answer.status_code, answer.json()["input"]["start_date"]) == (202, None)


def test_a_merge_patch_is_that_of_rfc_7396() -> None:
    target = {"a": "b", "c": {"d": "e", "f": "g"}}
    assert merge_patch(target, {"a": "z", "c": {"f": None}}) == {"a": "z", "c": {"d": "e"}}
    assert merge_patch({"a": [1]}, {"a": {"b": None, "c": 1}}) == {"a": {"c": 1}}
    assert target == {"a": "b", "c": {"d": "e", "f": "g"}}


async def test_a_deletion_goes_by_the_version_that_was_seen(
    client: httpx2.AsyncClient, database: Database
) -> None:
    made = await client.post("/v1/tasks", json=a_goal())
    url = made.headers["location"]
    await succeed(database, UUID(made.json()["id"]))
    stale = await client.delete(url, headers={"If-Match": made.headers["etag"]})
    assert_problem(stale, 412, "precondition-failed")
    seen = await client.get(url)
    assert (await client.delete(url, headers={"If-Match": seen.headers["etag"]})).status_code == 204


async def test_what_is_not_due_has_no_place_in_the_queue(
    client: httpx2.AsyncClient, database: Database
) -> None:
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    for body, position in ((a_goal(), 1), (a_goal() | {"not_before": later}, None)):
        made = await client.post("/v1/tasks", json=body)
        seen = (await client.get(made.headers["location"])).json()
        assert seen["queue"]["position"] == position
        assert seen["queue"]["estimated_wait_seconds"] is None


async def test_a_deleted_task_leaves_nothing_of_what_was_written(
    client: httpx2.AsyncClient, database: Database
) -> None:
    key = {"Idempotency-Key": "secret"}
    body = a_goal() | {"metadata": {"note": "Zanzibar"}}
    body["input"]["goal"] = "Learn Zanzibar"
    made = (await client.post("/v1/tasks", json=body, headers=key)).json()
    url = made["links"]["self"]
    assert_problem(await client.delete(url), 409, "task-not-ended")
    await fail(database, UUID(made["id"]), "No roadmap covers Zanzibar")
    answer = await client.delete(url)
    assert (answer.status_code, answer.content) == (204, b"")

    for method, address in (
        ("GET", url),
        ("GET", f"{url}/events"),
        ("GET", f"{url}/attempts"),
        ("POST", f"{url}/cancel"),
        ("POST", f"{url}/retry"),
        ("DELETE", url),
    ):
        assert_problem(await client.request(method, address), 410, "task-deleted")
    assert_problem(await client.post("/v1/tasks", json=body, headers=key), 410, "task-deleted")
    assert (await client.get("/v1/tasks")).json()["data"] == []
    for table in ("tasks", "task_events", "task_steps", "roadmaps", "dead_letters"):
        found = await rows(database, f"SELECT CAST(one AS text) AS all FROM {table} AS one")
        assert not [one for one in found if "Zanzibar" in one["all"]]
    letter = await row(database, "SELECT resolution FROM dead_letters")
    assert letter["resolution"] == "discarded"
    assert await event_types(database, UUID(made["id"])) != []


async def test_a_deleted_roadmap_is_gone(client: httpx2.AsyncClient, database: Database) -> None:
    task_id = await accept(database)
    await succeed(database, task_id)
    url = (await client.get(f"/v1/tasks/{task_id}")).json()["links"]["roadmap"]
    assert (await client.get(url)).status_code == 200
    assert (await client.delete(f"/v1/tasks/{task_id}")).status_code == 204
    assert_problem(await client.get(url), 410, "task-deleted")


async def test_attempts_tell_what_came_of_each_start(
    client: httpx2.AsyncClient, database: Database
) -> None:
    task_id = await accept(database)
    url = f"/v1/tasks/{task_id}/attempts"
    assert (await client.get(url)).json() == {"data": []}
    one, two = leases_of(database, "one"), leases_of(database, "two")
    lease = await one.acquire(task_id)
    assert lease is not None
    running = (await client.get(url)).json()["data"]
    assert [(a["number"], a["worker"], a["outcome"]) for a in running] == [(1, "one", "running")]
    assert running[0]["finished_at"] is None

    await one.requeue(lease, Transient("the model is away"), 0, charged=True)
    lease = await two.acquire(task_id)
    assert lease is not None
    await two.complete(lease, a_roadmap())
    found = (await client.get(url)).json()["data"]
    assert [(a["number"], a["worker"], a["outcome"]) for a in found] == [
        (1, "one", "failed"),
        (2, "two", "succeeded"),
    ]
    assert found[0]["error"]["detail"] == "the model is away"
    assert found[1]["error"] is None
    assert all(a["duration_seconds"] >= 0 for a in found)
    assert_problem(await client.get(f"/v1/tasks/{uuid4()}/attempts"), 404, "task-not-found")
