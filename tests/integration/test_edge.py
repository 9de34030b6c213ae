"""What a connection may do to the API: raw bytes, slow bytes, too many of them, and too often."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from sqlalchemy import text

from api_service.body_limit import DEEPEST, is_too_deep
from api_service.rate import MOST_CALLERS, WINDOW, Counts, Rate
from shared.database import Database
from shared.settings import Settings
from tests.conftest import Servers
from tests.eventually import eventually, eventually_sync
from tests.http import Api, a_goal, assert_problem, in_process, raw
from tests.integration.test_submission import NOTHING, stored
from waymark.processes import LOCALHOST

HEAD = b"POST /v1/tasks HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
WAITING = "SELECT count(*) FROM pg_locks WHERE relation = 'tasks'::regclass AND NOT granted"
BODY = json.dumps(a_goal()).encode()
HIDDEN = b"GET /v1/tasks HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def hasty(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An API that waits for nobody."""
    environment = servers.environment(
        WAYMARK_API_READ_TIMEOUT="0.5", WAYMARK_API_WRITE_TIMEOUT="0.5"
    )
    api = Api.start(tmp_path_factory.mktemp("hasty"), environment)
    try:
        eventually_sync(lambda: api.has_logged("api_ready"))
        yield api
    finally:
        api.stop()


def problem_of(answer: bytes) -> dict[str, Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    document: dict[str, Any] = json.loads(body)
    return document


@pytest.mark.parametrize(
    "request_bytes",
    [
        HEAD + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
        HEAD + b"Content-Length: 2\r\nContent-Length: 44\r\n\r\n{}" + HIDDEN,
        HEAD + b"Content-Length: 2, 2\r\n\r\n{}",
        HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
        HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + HIDDEN,
        HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + HIDDEN,
        HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + HIDDEN,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\n{}\n0\n\n" + HIDDEN,
        b"GET /v1/tasks HTTP/1.1\nHost: x\n\n",
        b"GET /v1/tasks HTTP/1.1\r\nHost: x\nA: b\r\n\r\n",
        b"GET /v1/tasks HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET /v1/tasks HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n",
        b"GET /v1/tasks HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n",
        b"GET /v1/tasks HTTP/1.1\r\n\r\n",
        b"GET /v1/tasks HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        b"GET /v1/tasks HTTP/1.2\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
async def test_a_request_that_two_servers_could_read_in_two_ways_is_refused(
    api: Api, database: Database, request_bytes: bytes
) -> None:
    """And the connection is closed: what follows is not read as a request of its own."""
    status, answer = await raw(api, request_bytes)
    assert status == 400
    assert answer.count(b"\r\n\r\n") == 1
    assert b"connection: close" in answer.lower()
    problem = problem_of(answer)
    assert (problem["code"], problem["status"]) == ("malformed-request", 400)
    assert await stored(database) == NOTHING


@pytest.mark.parametrize(
    "head",
    [
        b"".join(b"X-%d: y\r\n" % n for n in range(101)) + b"\r\n",
        b"X: " + b"y" * 33_000 + b"\r\n\r\n",
        b"X: " + b"y" * 40_000,  # and no end
        b"".join(b"X-%d: %s\r\n" % (n, b"y" * 400) for n in range(90)) + b"\r\n",
    ],
)
async def test_a_flood_of_headers_is_refused(api: Api, head: bytes) -> None:
    status, answer = await raw(api, b"GET /livez HTTP/1.1\r\nHost: x\r\n" + head)
    assert (status, problem_of(answer)["code"]) == (431, "header-too-large")


async def test_an_endless_address_is_refused(api: Api) -> None:
    status, answer = await raw(api, b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (status, problem_of(answer)["code"]) == (431, "header-too-large")


async def test_a_hundred_headers_are_taken(api: Api) -> None:
    head = b"".join(b"X-%d: y\r\n" % n for n in range(98)) + b"Connection: close\r\n\r\n"
    status, _ = await raw(api, b"GET /livez HTTP/1.1\r\nHost: x\r\n" + head)
    assert status == 200


async def drip(api: Api, request: bytes, seconds: float) -> bytes:
    """One byte after the other until the server has had enough."""
    reader, writer = await asyncio.open_connection(LOCALHOST, api.port)
    try:
        for byte in request:
            writer.write(bytes([byte]))
            try:
                async with asyncio.timeout(seconds):
                    return await reader.read()
            except TimeoutError:
                continue
            except ConnectionError:
                return b""
        raise AssertionError("the server took all of it")
    finally:
        writer.close()


async def test_a_head_that_drips_is_cut_off(hasty: Api) -> None:
    answer = await drip(hasty, HEAD, 0.1)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert problem_of(answer)["code"] == "request-timeout"


async def test_a_body_that_drips_is_cut_off(hasty: Api, database: Database) -> None:
    reader, writer = await asyncio.open_connection(LOCALHOST, hasty.port)
    writer.write(HEAD + b"Content-Length: %d\r\n\r\n{" % len(BODY))
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert problem_of(answer)["code"] == "request-timeout"
    assert await stored(database) == NOTHING


async def test_a_second_head_that_drips_is_cut_off_as_well(hasty: Api) -> None:
    reader, writer = await asyncio.open_connection(LOCALHOST, hasty.port)
    writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\nGET /li")
    answer = await reader.read()
    writer.close()
    first, _, second = answer.partition(b'{"status":"ok"}')
    assert first.startswith(b"HTTP/1.1 200 ")
    assert second.startswith(b"HTTP/1.1 408 ")


async def test_who_connects_and_says_nothing_is_hung_up_on(hasty: Api) -> None:
    reader, writer = await asyncio.open_connection(LOCALHOST, hasty.port)
    assert await reader.read() == b""
    writer.close()


async def test_who_takes_nothing_of_an_answer_is_cut_off(hasty: Api) -> None:
    """Its buffers fill up; then the server has waited long enough."""
    with socket.create_connection((LOCALHOST, hasty.port)) as client:
        client.setblocking(False)
        request = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 50

        async def cut_off() -> None:
            try:
                client.send(request)
            except ConnectionError:
                return
            except BlockingIOError:
                pass
            raise AssertionError("the server still waits")

        await eventually(cut_off)
    assert not [line for line in hasty.lines() if line["level"] == "error"]


async def test_a_deep_body_is_refused_before_it_is_parsed(api: Api) -> None:
    body = b'{"input":' + b"[" * 60_000
    head = HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    status, answer = await raw(api, head + body)
    assert (status, problem_of(answer)["code"]) == (400, "malformed-request")
    assert f"{DEEPEST} levels" in problem_of(answer)["detail"]


def test_depth_is_that_of_brackets_outside_of_strings() -> None:
    assert not is_too_deep(b"[" * DEEPEST + b"]" * DEEPEST)
    assert is_too_deep(b"[" * (DEEPEST + 1))
    assert is_too_deep(b'{"a":' * (DEEPEST + 1))
    assert not is_too_deep(b"[]" * 1000)
    assert not is_too_deep(b'{"goal": "' + b"[{" * 1000 + b'"}')
    assert not is_too_deep(b'{"goal": "\\"' + b"[{" * 1000 + b'\\\\"}')


async def test_a_promise_of_too_much_is_refused_before_it_is_sent(api: Api) -> None:
    head = HEAD + b"Expect: 100-continue\r\nContent-Length: 9999999\r\n\r\n"
    status, answer = await raw(api, head)
    assert (status, problem_of(answer)["code"]) == (413, "body-too-large")


# --- what every answer carries ---


async def test_every_answer_says_which_request_it_is_to(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/livez", headers={"Request-Id": "my.own-id_1"})
    assert answer.headers["request-id"] == "my.own-id_1"
    made = [(await client.get("/livez")).headers["request-id"] for _ in range(2)]
    assert made[0] != made[1]
    for broken in ("a b", "x" * 129, ""):
        answer = await client.get("/livez", headers={"Request-Id": broken})
        assert answer.headers["request-id"] != broken


async def test_a_problem_names_the_request_in_answer_and_log(
    api: Api, client: httpx2.AsyncClient
) -> None:
    body = assert_problem(
        await client.get("/nowhere", headers={"Request-Id": "lost"}), 404, "not-found"
    )
    assert body["request_id"] == "lost"


async def test_log_lines_of_a_request_name_it_and_no_other(
    api: Api, client: httpx2.AsyncClient, database: Database
) -> None:
    answers = await asyncio.gather(
        *(
            client.post("/v1/tasks", json=a_goal(), headers={"Request-Id": f"submission-{n}"})
            for n in range(20)
        )
    )
    ids = {answer.json()["id"] for answer in answers}
    url = f"/v1/tasks/{ids.pop()}"
    await client.post(f"{url}/cancel", headers={"Request-Id": "the-cancellation"})
    lines = api.lines()
    assert [one["event"] for one in lines if one.get("request_id") == "the-cancellation"] == [
        "task_cancel"
    ]
    # A commit is many submissions': its lines carry none of their ids.
    assert not [one for one in lines if str(one.get("request_id")).startswith("submission-")]


async def test_every_answer_is_safe_for_a_browser(client: httpx2.AsyncClient) -> None:
    for answer in (
        await client.get("/livez"),
        await client.get("/nowhere"),
        await client.post("/v1/tasks", json={}),
        await client.post("/v1/tasks", json=a_goal()),
    ):
        headers = answer.headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert "server" not in headers
        assert re.fullmatch(r"db;dur=\d+\.\d, total;dur=\d+\.\d", headers["server-timing"]), (
            headers["server-timing"]
        )


async def test_time_in_the_database_is_told(client: httpx2.AsyncClient) -> None:
    for answer in (
        await client.post("/v1/tasks", json=a_goal()),
        await client.get("/v1/tasks"),
    ):
        found = re.findall(r"dur=([\d.]+)", answer.headers["server-timing"])
        database, total = map(float, found)
        assert 0 < database <= total


# --- too often, too much at once ---


async def test_who_asks_too_often_is_told_when_to_go_on(
    settings: Settings, database: Database
) -> None:
    async with in_process(settings.model_copy(update={"api_rate": 3})) as client:
        for left in (2, 1, 0):
            answer = await client.post("/v1/tasks", json=a_goal())
            assert answer.status_code == 202
            assert answer.headers["ratelimit-policy"] == f'"default";q=3;w={WINDOW}'
            assert re.fullmatch(rf'"default";r={left};t=\d+', answer.headers["ratelimit"])
        answer = await client.post("/v1/tasks", json=a_goal())
        assert_problem(answer, 429, "rate-limited")
        assert 1 <= int(answer.headers["retry-after"]) <= WINDOW
        assert answer.headers["ratelimit"].startswith('"default";r=0;')
        assert (await client.get("/livez")).status_code == 200
        assert (await client.get("/readyz")).status_code == 200


def test_callers_are_counted_apart_and_not_for_ever() -> None:
    rate = Rate(1)
    assert [rate.hit("one")[0], rate.hit("two")[0], rate.hit("one")[0]] == [True, True, False]
    counts = Counts(wrap_exceptions=False)
    for n in range(MOST_CALLERS + 10):
        counts.incr(str(n), 60)
    assert len(counts.counts) <= MOST_CALLERS
    assert (counts.get("0"), counts.get(str(MOST_CALLERS))) == (0, 1)


async def test_more_at_once_than_can_be_done_is_refused_at_once(
    settings: Settings, database: Database
) -> None:
    """Whoever is let in is served; a wait does not take the place of work."""
    async with in_process(settings.model_copy(update={"api_in_flight": 2})) as client:
        made = await client.post("/v1/tasks", json=a_goal())
        known = {"If-None-Match": made.headers["etag"], "Prefer": "wait=2"}
        url = made.headers["location"]
        waits = [asyncio.create_task(client.get(url, headers=known)) for _ in range(2)]
        await asyncio.sleep(0)

        async def still_served() -> None:
            assert (await client.get("/v1/tasks")).status_code == 200

        await eventually(still_served)
        assert {(await one).status_code for one in waits} == {304}

        async with database.begin() as session:
            await session.execute(text("LOCK TABLE tasks"))
            stuck = [asyncio.create_task(client.get("/v1/tasks")) for _ in range(2)]

            async def both_wait() -> None:
                found = await session.scalar(text(WAITING))
                assert found == 2

            await eventually(both_wait)
            answer = await client.get("/v1/tasks")
            assert_problem(answer, 503, "overloaded")
            assert answer.headers["retry-after"] == "1"
            assert (await client.get("/livez")).status_code == 200
            await session.rollback()
        assert {(await one).status_code for one in stuck} == {200}
