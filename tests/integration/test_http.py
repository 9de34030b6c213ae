"""The API as its clients meet it: a real process, real bytes, every error as a problem."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit
from uuid import UUID, uuid4

import httpx2
import pytest
from pydantic import SecretStr

from api_service.problems import TYPES
from shared.database import Database
from shared.errors import Permanent
from shared.roadmap import RoadmapRequest
from shared.settings import Settings
from tests.conftest import Servers
from tests.eventually import eventually
from tests.factories import accept, execute, leases_of, rows, small_roadmap
from tests.http import JSON, PROBLEM, Api, a_goal, assert_problem, in_process, raw
from tests.integration.test_submission import NOTHING, ONE_TASK, stored
from tests.wire import Wire

NOBODY = UUID("01a20a9f-2bbd-728b-87a2-3d216770b6f7")
"""No task of ours."""

# --- what goes well ---


async def test_a_submission_is_accepted_and_can_be_followed(
    client: httpx2.AsyncClient, database: Database
) -> None:
    answer = await client.post("/v1/tasks", json=a_goal(hours_per_week=6, weeks=8))
    assert answer.status_code == 202
    task = answer.json()
    assert UUID(task["id"]).version == 7
    assert answer.headers["location"] == f"/v1/tasks/{task['id']}" == task["links"]["self"]
    assert "idempotent-replayed" not in answer.headers
    assert set(task) == {
        *("id", "status", "stage", "version", "priority", "attempts", "takeovers", "input"),
        *("progress", "usage", "result", "error", "links", "deadline_at", "cancel_requested_at"),
        *("metadata", "parent_id", "delivery", "queue", "not_before"),
        *("created_at", "dispatched_at", "started_at", "finished_at"),
    }
    assert (task["status"], task["stage"], task["version"]) == ("queued", "accepted", 1)
    assert (task["priority"], task["attempts"], task["result"]) == ("normal", 0, None)
    assert task["input"]["goal"] == "Learn SQL"
    assert (task["input"]["hours_per_week"], task["input"]["weeks"]) == (6, 8)
    assert await stored(database) == ONE_TASK

    again = await client.get(answer.headers["location"])
    assert (again.status_code, again.json() | {"queue": task["queue"]}) == (200, task)

    events = (await client.get(task["links"]["events"])).json()
    assert events["has_more"] is False
    assert [(one["seq"], one["type"]) for one in events["data"]] == [(1, "task.accepted")]


async def test_a_submission_is_logged_with_its_trace(
    api: Api, client: httpx2.AsyncClient, database: Database
) -> None:
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    headers = {"traceparent": trace}
    task = (await client.post("/v1/tasks", json=a_goal(), headers=headers)).json()
    line = next(line for line in api.lines() if line.get("task_id") == task["id"])
    assert (line["event"], line["traceparent"]) == ("task_created_and_committed", trace)


@pytest.mark.parametrize("broken", ["", "x", f"00-{'0' * 32}-{'b' * 16}-01"])
async def test_a_broken_trace_is_replaced(
    api: Api, client: httpx2.AsyncClient, database: Database, broken: str
) -> None:
    headers = {"traceparent": broken}
    task = (await client.post("/v1/tasks", json=a_goal(), headers=headers)).json()
    line = next(line for line in api.lines() if line.get("task_id") == task["id"])
    assert len(line["traceparent"]) == 55


@pytest.mark.parametrize("key", ["k", "k" * 255, "! ~", '"quoted"'])
async def test_the_same_key_is_answered_with_the_same_task(
    client: httpx2.AsyncClient, database: Database, key: str
) -> None:
    headers = {"Idempotency-Key": key}
    first = await client.post("/v1/tasks", json=a_goal(), headers=headers)
    again = await client.post("/v1/tasks", json=a_goal(level="beginner"), headers=headers)
    assert (first.status_code, again.status_code) == (202, 202)
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["location"] == first.headers["location"]
    assert again.json() == first.json()
    assert await stored(database) == ONE_TASK


@pytest.mark.parametrize("body", [a_goal(weeks=3), a_goal() | {"deadline_seconds": 60}])
async def test_a_key_with_another_body_is_refused(
    client: httpx2.AsyncClient, database: Database, body: dict[str, Any]
) -> None:
    headers = {"Idempotency-Key": "k"}
    first = await client.post("/v1/tasks", json=a_goal(), headers=headers)
    other = await client.post("/v1/tasks", json=body, headers=headers)
    problem = assert_problem(other, 422, "idempotency-key-reused")
    assert first.json()["id"] in problem["detail"]
    assert await stored(database) == ONE_TASK


async def test_events_come_in_pages(client: httpx2.AsyncClient, database: Database) -> None:
    task_id = await accept(database)
    await execute(
        database,
        """
        INSERT INTO task_events (task_id, seq, type)
        SELECT :task_id, seq, 'task.retrying' FROM generate_series(2, 5) AS seq
        """,
        task_id=task_id,
    )
    url = f"/v1/tasks/{task_id}/events"
    first = (await client.get(url, params={"limit": 3})).json()
    assert ([one["seq"] for one in first["data"]], first["has_more"]) == ([1, 2, 3], True)
    rest = (await client.get(url, params={"limit": 3, "after": 3})).json()
    assert ([one["seq"] for one in rest["data"]], rest["has_more"]) == ([4, 5], False)


async def test_a_succeeded_task_leads_to_its_roadmap(
    client: httpx2.AsyncClient, database: Database
) -> None:
    task_id, roadmap_id = await accept(database), uuid4()
    request = RoadmapRequest(goal="Learn SQL")
    document = small_roadmap(request, today=date(2030, 1, 1)).model_dump(mode="json")
    await execute(
        database,
        """
        WITH roadmap AS (
            INSERT INTO roadmaps (task_id, id, tenant_id, lease_token, document)
            VALUES (:task_id, :id, 'default', 1, CAST(:document AS jsonb))
        ), running AS (
            DELETE FROM outbox_messages
        )
        UPDATE tasks SET status = 'running', lease_owner = 'w', lease_expires_at = now()
        """,
        task_id=task_id,
        id=roadmap_id,
        document=json.dumps(document),
    )
    await execute(
        database,
        """
        UPDATE tasks SET status = 'succeeded', stage = 'done', roadmap_id = :id,
               finished_at = now(), lease_owner = NULL, lease_expires_at = NULL
        """,
        id=roadmap_id,
    )
    task = (await client.get(f"/v1/tasks/{task_id}")).json()
    assert (task["status"], task["stage"]) == ("succeeded", "done")
    assert task["result"] == {"roadmap_id": str(roadmap_id), "url": f"/v1/roadmaps/{roadmap_id}"}
    assert task["links"]["roadmap"] == task["result"]["url"]

    answer = await client.get(task["result"]["url"])
    assert answer.status_code == 200
    roadmap = answer.json()
    assert (roadmap.pop("id"), roadmap.pop("task_id")) == (str(roadmap_id), str(task_id))
    assert datetime.fromisoformat(roadmap.pop("created_at")).tzinfo == UTC
    assert roadmap == document


@pytest.mark.parametrize("media_type", ["application/json; charset=utf-8", "application/x+json"])
async def test_json_by_any_of_its_names_is_taken(
    client: httpx2.AsyncClient, database: Database, media_type: str
) -> None:
    content = json.dumps(a_goal())
    answer = await client.post("/v1/tasks", content=content, headers={"Content-Type": media_type})
    assert answer.status_code == 202


@pytest.mark.parametrize("days", [0, 5 * 365 - 1])
async def test_a_plan_may_start_today_or_within_five_years(
    client: httpx2.AsyncClient, database: Database, days: int
) -> None:
    start = (datetime.now(UTC) + timedelta(days=days)).date().isoformat()
    answer = await client.post("/v1/tasks", json=a_goal(start_date=start))
    assert answer.status_code == 202
    assert answer.json()["input"]["start_date"] == start


# --- what is refused ---

TOMORROW = (datetime.now(UTC) + timedelta(days=1)).date().isoformat()
IN_TWO_WEEKS = (datetime.now(UTC) + timedelta(weeks=2)).date().isoformat()
IN_FOUR_WEEKS = (datetime.now(UTC) + timedelta(weeks=4)).date().isoformat()
YESTERDAY = (datetime.now(UTC) - timedelta(days=2)).date().isoformat()

REFUSED: dict[str, tuple[object, str, str]] = {
    "empty goal": (a_goal(goal=""), "/input/goal", "too short"),
    "blank goal": (a_goal(goal="   "), "/input/goal", "too short"),
    "goal of two characters": (a_goal(goal="Go"), "/input/goal", "too short"),
    "goal of 301 characters": (a_goal(goal="x" * 301), "/input/goal", "at most 300"),
    "goal that grows": (a_goal(goal="ﷺ" * 100), "/input/goal", "at most 300"),
    "NUL in goal": (a_goal(goal="Learn\0SQL"), "/input/goal", "control characters"),
    "newline in goal": (a_goal(goal="Learn\nSQL"), "/input/goal", "control characters"),
    "lone surrogate": (a_goal(goal="Learn \ud800 SQL"), "/input/goal", "surrogate"),
    "goal is a number": (a_goal(goal=5), "/input/goal", "valid string"),
    "goal is a list": (a_goal(goal=["Learn SQL"]), "/input/goal", "valid string"),
    "goal is null": (a_goal(goal=None), "/input/goal", "valid string"),
    "goal is an object": (a_goal(goal={"a": 1}), "/input/goal", "valid string"),
    "goal is true": (a_goal(goal=True), "/input/goal", "valid string"),
    "goal is missing": ({"input": {}}, "/input/goal", "is required"),
    "unknown field outside": (a_goal() | {"tenant": "x"}, "/tenant", "not a known field"),
    "unknown field inside": (a_goal(gaol="x"), "/input/gaol", "not a known field"),
    "field with a slash": (a_goal(**{"a/b~": 1}), "/input/a~1b~0", "not a known field"),
    "input is missing": ({}, "/input", "is required"),
    "input is a string": ({"input": "Learn SQL"}, "/input", "must be a JSON object"),
    "input is null": ({"input": None}, "/input", "must be a JSON object"),
    "input is a list": ({"input": [1]}, "/input", "must be a JSON object"),
    "body is an array": ([a_goal()], "", "must be a JSON object"),
    "body is a string": ("Learn SQL", "", "must be a JSON object"),
    "body is null": (None, "", ""),
    "hours 0": (a_goal(hours_per_week=0), "/input/hours_per_week", "equal to 1"),
    "hours 10000": (a_goal(hours_per_week=10_000), "/input/hours_per_week", "equal to 80"),
    "hours NaN": (a_goal(hours_per_week=float("nan")), "/input/hours_per_week", "finite"),
    "hours infinite": (a_goal(hours_per_week=float("inf")), "/input/hours_per_week", "finite"),
    "hours as text": (a_goal(hours_per_week="5"), "/input/hours_per_week", "valid number"),
    "hours true": (a_goal(hours_per_week=True), "/input/hours_per_week", "valid number"),
    "hours null": (a_goal(hours_per_week=None), "/input/hours_per_week", "valid number"),
    "weeks 0": (a_goal(weeks=0), "/input/weeks", "equal to 1"),
    "weeks 105": (a_goal(weeks=105), "/input/weeks", "equal to 104"),
    "weeks huge": (a_goal(weeks=10**400), "/input/weeks", "equal to 104"),
    "weeks 2.5": (a_goal(weeks=2.5), "/input/weeks", "valid integer"),
    "weeks true": (a_goal(weeks=True), "/input/weeks", "valid integer"),
    "start in the past": (a_goal(start_date=YESTERDAY), "/input/start_date", "in the past"),
    "start in 9999": (a_goal(start_date="9999-12-31"), "/input/start_date", "too far ahead"),
    "start as a number": (a_goal(start_date=4102444800), "/input/start_date", "2030-01-31"),
    "start on no day": (a_goal(start_date="2031-02-30"), "/input/start_date", "valid date"),
    "end in the past": (a_goal(until=YESTERDAY), "/input/until", "in the past"),
    "end within a week": (a_goal(until=TOMORROW), "/input/until", "less than a week ahead"),
    "end before its start": (
        a_goal(start_date=IN_FOUR_WEEKS, until=IN_TWO_WEEKS),
        "/input",
        "at least a week after start_date",
    ),
    "two ends": (a_goal(weeks=3, until=IN_FOUR_WEEKS), "/input", "send one of them"),
    "no study day": (a_goal(study_days=[]), "/input/study_days", "names no day"),
    "an odd study day": (a_goal(study_days=["someday"]), "/input/study_days/0", "'mon'"),
    "51 known topics": (a_goal(known_topics=["x"] * 51), "/input/known_topics", "at most 50"),
    "21 exclusions": (a_goal(exclude=["x"] * 21), "/input/exclude", "at most 20"),
    "topics as text": (a_goal(known_topics="SQL"), "/input/known_topics", "JSON array"),
    "empty topic": (a_goal(known_topics=["a", ""]), "/input/known_topics/1", "is empty"),
    "long topic": (a_goal(exclude=["x" * 101]), "/input/exclude/0", "at most 100"),
    "unsupported language": (a_goal(language="tlh"), "/input/language", "choose one of: en, zh"),
    "bad level": (a_goal(level="god"), "/input/level", "'beginner', 'intermediate' or"),
    "bad priority": (a_goal() | {"priority": "urgent"}, "/priority", "'high', 'normal' or 'low'"),
    "priority as a number": (a_goal() | {"priority": 1}, "/priority", "'high', 'normal' or 'low'"),
    "deadline 0": (a_goal() | {"deadline_seconds": 0}, "/deadline_seconds", "equal to 1"),
    "deadline -1": (a_goal() | {"deadline_seconds": -1}, "/deadline_seconds", "equal to 1"),
    "deadline 2.5": (a_goal() | {"deadline_seconds": 2.5}, "/deadline_seconds", "valid integer"),
    "deadline true": (a_goal() | {"deadline_seconds": True}, "/deadline_seconds", "valid integer"),
    "deadline as text": (a_goal() | {"deadline_seconds": "9"}, "/deadline_seconds", "integer"),
    "deadline far": (a_goal() | {"deadline_seconds": 10**9}, "/deadline_seconds", "equal to 2592"),
}


async def test_a_task_shows_its_deadline_its_progress_and_what_it_took(
    client: httpx2.AsyncClient, database: Database
) -> None:
    answer = await client.post("/v1/tasks", json=a_goal() | {"deadline_seconds": 60})
    task = answer.json()
    begins = {"completed": 0, "total": 100, "unit": "percent", "message": None}
    assert (task["progress"], task["usage"]) == (begins, None)
    created, deadline = task["created_at"], task["deadline_at"]
    assert datetime.fromisoformat(deadline) - datetime.fromisoformat(created) == timedelta(
        minutes=1
    )
    found = (await client.get(answer.headers["location"])).json()
    assert found | {"queue": task["queue"]} == task  # its place is looked for on request only
    await execute(database, "UPDATE tasks SET progress = 40, progress_message = '2 of 5 lessons'")
    await execute(
        database,
        """
        INSERT INTO task_steps (task_id, step, step_version, input_hash, lease_token, entry_id,
                                tries, failures, calls, tokens_in, tokens_out, cost, seconds)
        SELECT id, step, 1, '', 1, gen_random_uuid(), 1, 0, 1, 100, 50, 0.25, 1
        FROM tasks CROSS JOIN unnest(ARRAY['design', 'lesson:a']) AS step
        """,
    )
    task = (await client.get(answer.headers["location"])).json()
    assert task["progress"] == begins | {"completed": 40, "message": "2 of 5 lessons"}
    assert task["usage"] == {"calls": 2, "tokens_in": 200, "tokens_out": 100, "cost_usd": 0.5}


async def test_a_task_is_canceled_asked_to_end_or_had_ended(
    client: httpx2.AsyncClient, database: Database
) -> None:
    waiting, running = await accept(database), await accept(database)
    lease = await leases_of(database).acquire(running)
    assert lease is not None

    for _ in range(2):
        answer = await client.post(f"/v1/tasks/{waiting}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (200, "canceled")
        assert answer.headers["location"] == f"/v1/tasks/{waiting}"
    for _ in range(2):
        answer = await client.post(f"/v1/tasks/{running}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (202, "running")
        assert answer.json()["cancel_requested_at"] is not None
    assert await leases_of(database).cancel(lease)
    assert (await client.post(f"/v1/tasks/{running}/cancel")).status_code == 200

    failed = await leases_of(database).acquire(await accept(database))
    assert failed is not None
    assert await leases_of(database).fail(failed, Permanent("no"))
    answer = await client.post(f"/v1/tasks/{failed.task_id}/cancel")
    assert_problem(answer, 409, "task-already-ended")
    assert_problem(await client.post(f"/v1/tasks/{uuid4()}/cancel"), 404, "task-not-found")
    assert (await client.post("/v1/tasks/nonsense/cancel")).status_code == 422


@pytest.mark.parametrize(("body", "pointer", "told"), REFUSED.values(), ids=REFUSED)
async def test_a_bad_field_is_named_and_nothing_is_stored(
    client: httpx2.AsyncClient, database: Database, body: object, pointer: str, told: str
) -> None:
    answer = await client.post("/v1/tasks", content=json.dumps(body), headers=JSON)
    problem = assert_problem(answer, 422, "validation-failed")
    found = {one["pointer"]: one["detail"] for one in problem["errors"]}
    assert set(found) == {pointer}
    assert told in found[pointer]
    assert (pointer or "The body") in problem["detail"]
    assert await stored(database) == NOTHING


async def test_all_bad_fields_are_named_at_once(
    client: httpx2.AsyncClient, database: Database
) -> None:
    answer = await client.post("/v1/tasks", json=a_goal(weeks=0, level="god", more=1))
    found = assert_problem(answer, 422, "validation-failed")["errors"]
    assert {one["pointer"] for one in found} == {"/input/weeks", "/input/level", "/input/more"}


UNREADABLE = {
    "cut off": b'{"input": {"goal": "Learn',
    "trailing comma": b'{"input": {"goal": "Learn SQL"},}',
    "no json": b"goal=Learn SQL",
    "raw NUL": b'{"input": {"goal": "Learn\x00SQL"}}',
    "not UTF-8": b'{"input": {"goal": "Learn \xff\xfe"}}',
    "30,000 brackets": b"[" * 30_000,
    "30,000 brackets in the goal": b'{"input": {"goal": ' + b"[" * 15_000 + b"]" * 15_000 + b"}}",
    "9,000 objects": b'{"a":' * 9_000 + b"1" + b"}" * 9_000,
    "number of 5,000 digits": b'{"input": {"goal": "Learn SQL", "weeks": ' + b"9" * 5_000 + b"}}",
}


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
async def test_a_body_that_is_not_json_is_refused(
    client: httpx2.AsyncClient, database: Database, body: bytes
) -> None:
    answer = await client.post("/v1/tasks", content=body, headers=JSON)
    assert_problem(answer, 400, "malformed-request")
    assert await stored(database) == NOTHING


async def test_an_empty_body_is_refused(client: httpx2.AsyncClient, database: Database) -> None:
    answer = await client.post("/v1/tasks", headers=JSON)
    problem = assert_problem(answer, 422, "validation-failed")
    assert problem["detail"].startswith("The body is required.")
    assert await stored(database) == NOTHING


@pytest.mark.parametrize(
    "media_type", [None, "text/plain", "text/json", "application/x-www-form-urlencoded", "json"]
)
async def test_a_body_of_another_media_type_is_refused(
    client: httpx2.AsyncClient, database: Database, media_type: str | None
) -> None:
    headers = {} if media_type is None else {"Content-Type": media_type}
    answer = await client.post("/v1/tasks", content=json.dumps(a_goal()), headers=headers)
    problem = assert_problem(answer, 415, "unsupported-media-type")
    assert (media_type or "absent") in problem["detail"]
    assert await stored(database) == NOTHING


@pytest.mark.parametrize("announced", [True, False], ids=["content-length", "chunked"])
async def test_a_body_of_100_kilobytes_is_refused(
    client: httpx2.AsyncClient, database: Database, announced: bool
) -> None:
    body = json.dumps(a_goal(goal="x" * 100_000)).encode()

    async def in_chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 10_000):
            yield body[start : start + 10_000]

    content = body if announced else in_chunks()
    answer = await client.post("/v1/tasks", content=content, headers=JSON)
    problem = assert_problem(answer, 413, "body-too-large")
    assert "65536 bytes" in problem["detail"]
    assert await stored(database) == NOTHING


async def test_a_body_just_within_the_limit_is_read(
    client: httpx2.AsyncClient, database: Database
) -> None:
    body = json.dumps(a_goal()).encode()
    for size, status in ((64 * 1024, 202), (64 * 1024 + 1, 413)):
        padded = body + b" " * (size - len(body))
        answer = await client.post("/v1/tasks", content=padded, headers=JSON)
        assert answer.status_code == status


@pytest.mark.parametrize("key", [b"k" * 256, "schlüssel".encode(), b"", b'""', b"a\tb"])
async def test_a_bad_idempotency_key_is_refused(
    client: httpx2.AsyncClient, database: Database, key: bytes
) -> None:
    headers = [(b"Idempotency-Key", key)]
    answer = await client.post("/v1/tasks", json=a_goal(), headers=headers)
    problem = assert_problem(answer, 400, "invalid-header")
    assert problem["errors"] == [
        {
            "pointer": "/header/Idempotency-Key",
            "detail": "must be 1 to 255 printable ASCII characters",
        }
    ]
    assert await stored(database) == NOTHING


# --- what is not there ---


@pytest.mark.parametrize(
    ("address", "slug"),
    [
        ("/v1/tasks/{id}", "task-not-found"),
        ("/v1/tasks/{id}/events", "task-not-found"),
        ("/v1/roadmaps/{id}", "roadmap-not-found"),
    ],
)
async def test_an_unknown_id_is_not_found(
    client: httpx2.AsyncClient, database: Database, address: str, slug: str
) -> None:
    unknown = str(uuid4())
    answer = await client.get(address.format(id=unknown))
    assert unknown in assert_problem(answer, 404, slug)["detail"]


@pytest.mark.parametrize(
    ("address", "pointer"),
    [
        ("/v1/tasks/seven", "/path/task_id"),
        ("/v1/tasks/%00", "/path/task_id"),
        ("/v1/tasks/seven/events", "/path/task_id"),
        ("/v1/roadmaps/seven", "/path/roadmap_id"),
        (f"/v1/tasks/{NOBODY}/events?after=-1", "/query/after"),
        (f"/v1/tasks/{NOBODY}/events?after=99999999999", "/query/after"),
        (f"/v1/tasks/{NOBODY}/events?limit=0", "/query/limit"),
        (f"/v1/tasks/{NOBODY}/events?limit=501", "/query/limit"),
        (f"/v1/tasks/{NOBODY}/events?limit=many", "/query/limit"),
    ],
)
async def test_a_bad_part_of_an_address_is_named(
    client: httpx2.AsyncClient, database: Database, address: str, pointer: str
) -> None:
    problem = assert_problem(await client.get(address), 422, "validation-failed")
    assert [one["pointer"] for one in problem["errors"]] == [pointer]


async def test_a_task_of_another_tenant_is_not_found(
    client: httpx2.AsyncClient, database: Database
) -> None:
    task_id = await accept(database)
    await execute(database, "UPDATE tasks SET tenant_id = 'other'")
    for address in (f"/v1/tasks/{task_id}", f"/v1/tasks/{task_id}/events"):
        assert_problem(await client.get(address), 404, "task-not-found")
    canceled = await client.post(f"/v1/tasks/{task_id}/cancel")
    assert_problem(canceled, 404, "task-not-found")
    assert (await rows(database, "SELECT status FROM tasks"))[0]["status"] == "queued"


@pytest.mark.parametrize("address", ["/", "/v1", "/v1/task", "/%00%ff", "/problems/none"])
async def test_an_unknown_address_is_a_problem(client: httpx2.AsyncClient, address: str) -> None:
    assert_problem(await client.get(address), 404, "not-found")


@pytest.mark.parametrize(
    ("method", "address", "allowed"),
    [
        ("PUT", "/v1/tasks", "GET, HEAD, POST"),
        ("DELETE", "/v1/tasks", "GET, HEAD, POST"),
        ("OPTIONS", "/v1/tasks", "GET, HEAD, POST"),
        ("PUT", f"/v1/tasks/{NOBODY}", "DELETE, GET, HEAD"),
        ("PATCH", f"/v1/tasks/{NOBODY}", "DELETE, GET, HEAD"),
        ("GET", "/v1/tasks:batch", "POST"),
        ("POST", "/livez", "GET, HEAD"),
    ],
)
async def test_a_wrong_method_is_a_problem_that_names_the_right_one(
    client: httpx2.AsyncClient, method: str, address: str, allowed: str
) -> None:
    answer = await client.request(method, address)
    assert_problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == allowed


@pytest.mark.parametrize("address", ["/livez", "/v1/tasks", f"/v1/tasks/{NOBODY}", "/nowhere"])
async def test_a_head_request_breaks_nothing(client: httpx2.AsyncClient, address: str) -> None:
    looked, answer = await client.get(address), await client.head(address)
    assert (answer.status_code, answer.content) == (looked.status_code, b"")
    assert answer.headers["content-type"] == looked.headers["content-type"]


async def test_the_head_of_a_stream_is_that_of_a_page(
    client: httpx2.AsyncClient, database: Database
) -> None:
    url = f"/v1/tasks/{await accept(database)}/events"
    answer = await client.head(url, headers={"Accept": "text/event-stream"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")


@pytest.mark.parametrize(
    "query", ["/v1/tasks?limit=2&limit=3", "/v1/tasks?metadata[a]=1&metadata[a]=2"]
)
async def test_what_a_query_says_twice_is_refused(client: httpx2.AsyncClient, query: str) -> None:
    body = assert_problem(await client.get(query), 422, "validation-failed")
    (error,) = body["errors"]
    assert error["pointer"] == "/query/" + query.split("&")[1].split("=")[0]
    assert "say it once" in error["detail"]


@pytest.mark.parametrize(
    ("method", "address"),
    [
        ("POST", "/v1/tasks"),
        ("GET", f"/v1/tasks/{NOBODY}"),
        ("GET", "/v1/ops/workers"),
        ("POST", f"/v1/tasks/{NOBODY}/cancel"),
    ],
)
async def test_a_query_that_nobody_reads_is_refused(
    client: httpx2.AsyncClient, method: str, address: str
) -> None:
    answer = await client.request(method, f"{address}?fast=1", json=a_goal())
    body = assert_problem(answer, 422, "validation-failed")
    assert [one["pointer"] for one in body["errors"]] == ["/query/fast"]


async def test_a_list_may_come_on_several_lines(
    client: httpx2.AsyncClient, database: Database
) -> None:
    url = f"/v1/tasks/{await accept(database)}"
    lines = [("If-None-Match", '"9.9"'), ("If-None-Match", '"1.0"')]
    assert (await client.get(url, headers=lines)).status_code == 304
    wish = [*lines, ("Prefer", "respond-async"), ("Prefer", "wait=1")]
    assert (await client.get(url, headers=wish)).headers["preference-applied"] == "wait=1"


@pytest.mark.parametrize("name", ["Idempotency-Key", "Last-Event-ID"])
async def test_two_of_what_there_is_one_of_are_refused(
    client: httpx2.AsyncClient, name: str
) -> None:
    answer = await client.post("/v1/tasks", json=a_goal(), headers=[(name, "1"), (name, "2")])
    body = assert_problem(answer, 400, "invalid-header")
    assert [one["pointer"] for one in body["errors"]] == [f"/header/{name}"]


@pytest.mark.parametrize("slug", TYPES)
async def test_the_type_of_each_problem_is_an_address_that_explains_it(
    client: httpx2.AsyncClient, slug: str
) -> None:
    answer = await client.get(urljoin("/v1/tasks", f"/problems/{slug}"))
    assert answer.status_code == 200
    assert TYPES[slug].title in answer.text
    assert TYPES[slug].advice in answer.text


async def test_the_description_of_the_api_documents_problems(client: httpx2.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    assert {"/v1/tasks", "/v1/tasks/{task_id}/events", "/v1/roadmaps/{roadmap_id}"} <= set(paths)
    for operation in (one for path in paths.values() for one in path.values()):
        for status, answer in operation["responses"].items():
            assert (PROBLEM in answer.get("content", {})) is (int(status) >= 400), operation


@pytest.mark.parametrize(
    "length", [b"abc", b"-5", b"", b"+5", b"9" * 30, b"9" * 5_000, b"5\r\nContent-Length: 6"]
)
async def test_nonsense_for_a_content_length_does_not_break_the_server(
    api: Api, database: Database, length: bytes
) -> None:
    request = b"POST /v1/tasks HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    status, _ = await raw(
        api,
        request + b"Content-Type: application/json\r\nContent-Length: " + length + b"\r\n\r\n{}",
    )
    assert 400 <= status < 500
    assert await stored(database) == NOTHING


@pytest.mark.parametrize("length", [b"abc", b"-5", b"", b"\xb2", b"9" * 5_000])
async def test_nonsense_for_a_content_length_does_not_break_the_application(
    settings: Settings, database: Database, length: bytes
) -> None:
    """Behind a server that lets it through."""
    body = json.dumps(a_goal()).encode()
    headers = [(b"Content-Type", b"application/json"), (b"Content-Length", length)]
    async with in_process(settings) as client:
        answer = await client.post("/v1/tasks", content=body, headers=headers)
    assert answer.status_code == 202


# --- when something is broken behind the API ---


async def test_what_nobody_foresaw_is_a_problem_without_a_traceback(
    api: Api, client: httpx2.AsyncClient, database: Database
) -> None:
    task_id = await accept(database)
    await execute(database, "ALTER TABLE task_events RENAME TO mislaid")
    try:
        answer = await client.get(f"/v1/tasks/{task_id}/events")
        submitted = await client.post("/v1/tasks", json=a_goal())
    finally:
        await execute(database, "ALTER TABLE mislaid RENAME TO task_events")
    for broken in (answer, submitted):
        assert_problem(broken, 500, "internal-error")
        for secret in ("Traceback", "task_events", "sqlalchemy", "asyncpg"):
            assert secret not in broken.text
    assert await stored(database) == ONE_TASK
    errors = [line for line in api.lines() if line["level"] == "error"]
    assert "task_events" in errors[-1]["exception"]

    assert (await client.get(f"/v1/tasks/{task_id}/events")).status_code == 200


async def test_if_the_message_cannot_be_stored_there_is_no_202(
    client: httpx2.AsyncClient, database: Database
) -> None:
    await execute(
        database, "ALTER TABLE outbox_messages ADD CONSTRAINT broken CHECK (false) NOT VALID"
    )
    try:
        answer = await client.post("/v1/tasks", json=a_goal())
    finally:
        await execute(database, "ALTER TABLE outbox_messages DROP CONSTRAINT broken")
    assert_problem(answer, 500, "internal-error")
    assert await stored(database) == NOTHING


async def test_without_its_database_the_api_says_so_lives_on_and_recovers(
    servers: Servers, database: Database, tmp_path: Path
) -> None:
    task_id = await accept(database)
    wire = Wire(servers.postgres.url)
    await wire.open()
    api = Api.start(tmp_path, servers.environment(WAYMARK_DATABASE_URL=wire.url))
    requests = (
        ("POST", "/v1/tasks"),
        ("GET", f"/v1/tasks/{task_id}"),
        ("GET", f"/v1/tasks/{task_id}/events"),
        ("GET", f"/v1/roadmaps/{task_id}"),
    )

    async def ready() -> None:
        api.has_logged("api_ready")

    async def doorbells() -> int:
        rung = "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'NOTIFY%'"
        return len(await rows(database, rung))

    async def one_more_doorbell() -> None:
        assert await doorbells() > doorbells_before

    try:
        await eventually(ready)
        doorbells_before = await doorbells()
        async with httpx2.AsyncClient(base_url=api.url, timeout=30) as client:
            assert (await client.get("/readyz")).json() == {"status": "ok"}
            assert (await client.post("/v1/tasks", json=a_goal())).status_code == 202

            await eventually(one_more_doorbell)  # nobody is about to connect

            port = urlsplit(wire.url).port or 0
            await wire.close()
            for method, address in requests:
                body = a_goal() if method == "POST" else None
                answer = await client.request(method, address, json=body)
                assert_problem(answer, 503, "database-unavailable")
                assert int(answer.headers["retry-after"]) >= 1
            answer = await client.get("/readyz")
            assert_problem(answer, 503, "not-ready")
            assert int(answer.headers["retry-after"]) >= 1
            assert (await client.get("/livez")).status_code == 200
            assert await stored(database) == (2, 2, 2)

            await wire.open(port)
            assert (await client.post("/v1/tasks", json=a_goal())).status_code == 202
            assert (await client.get("/readyz")).status_code == 200
            assert await stored(database) == (3, 3, 3)
    finally:
        await asyncio.to_thread(api.stop)
        await wire.close()
    assert "Traceback" not in api.log.read_text()


async def test_a_database_that_takes_no_more_clients_is_told_as_such(
    settings: Settings, database: Database
) -> None:
    """PostgreSQL refuses at login, before there is a connection to speak of."""
    await execute(database, "CREATE ROLE crowd LOGIN PASSWORD 'x' CONNECTION LIMIT 0")
    parts = urlsplit(settings.require_database())
    url = parts._replace(netloc=f"crowd:x@{parts.hostname}:{parts.port}").geturl()
    try:
        crowded = settings.model_copy(update={"database_url": SecretStr(url)})
        async with in_process(crowded) as client:
            answer = await client.post("/v1/tasks", json=a_goal())
            assert_problem(answer, 503, "database-unavailable")
            answer = await client.get(f"/v1/tasks/{uuid4()}")
            assert_problem(answer, 503, "database-unavailable")
            assert_problem(await client.get("/readyz"), 503, "not-ready")
    finally:
        await execute(database, "DROP ROLE crowd")
