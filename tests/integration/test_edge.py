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
import uvicorn
from sqlalchemy import text
from starlette.responses import Response
from uvicorn.server import ServerState

from api_service.body_limit import DEEPEST, is_too_deep
from api_service.protocol import connection_of
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
LAST = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
TWICE = b"Transfer-Encoding: chunked\r\n" * 2
OTHER_PROTOCOL = b"Connection: Upgrade\r\nUpgrade: h2c\r\n"


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
        HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
        HEAD + TWICE + b"\r\n0\r\n\r\n" + HIDDEN,
        HEAD + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + HIDDEN,
        HEAD + b"Transfer-Encoding:\r\n\r\n" + HIDDEN,
        HEAD.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\n{}\n0\n\n" + HIDDEN,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n2;a\nb\r\n{}\r\n0\r\n\r\n" + HIDDEN,
        HEAD + OTHER_PROTOCOL + b"Content-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
        HEAD + OTHER_PROTOCOL + b"Transfer-Encoding: chunked\r\n\r\n" + HIDDEN,
        b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n" + HIDDEN,
        b"GET /v1/tasks HTTP/1.1\nHost: x\n\n",
        b"GET /v1/tasks HTTP/1.1\r\nHost: x\nA: b\r\n\r\n",
        b"GET /v1/tasks HTTP/1.1\r\nHost: x\r\n\n",
        b"GET /v1/tasks HTTP/1.1\r\nHost: x\r\nA: b\rC: d\r\n\r\n",
        b"GET /v1/tasks HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET /v1/tasks HTTP/1.1\r\n Host: x\r\n\r\n",
        b"GET /v1/tasks HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n",
        b"GET /v1/tasks HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n",
        b"GET /v1/tasks HTTP/1.1\r\n\r\n",
        b"GET /v1/tasks HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        b"GET /v1/tasks HTTP/1.2\r\nHost: x\r\n\r\n",
        b"GET /v1/tasks HTTP/2.0\r\nHost: x\r\n\r\n",
        b"GET /v1/tasks\r\n\r\n",
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


async def test_a_refusal_by_the_server_itself_has_an_id_that_the_log_knows(api: Api) -> None:
    _, answer = await raw(api, b"NONSENSE\r\n\r\n")
    request_id = problem_of(answer)["request_id"]
    assert f"request-id: {request_id}\r\n".encode() in answer
    assert b"x-content-type-options: nosniff\r\n" in answer
    line = next(line for line in api.lines() if line.get("request_id") == request_id)
    assert (line["event"], line["code"]) == ("request_refused", "malformed-request")


async def test_a_request_in_the_body_of_another_is_not_answered(
    api: Api, database: Database
) -> None:
    request = HEAD + b"Content-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN + LAST
    status, answer = await raw(api, request)
    assert status == 400
    assert (answer.count(b"HTTP/1.1 "), answer.count(b'{"status":"ok"}')) == (2, 1)


async def test_a_refusal_does_not_overtake_the_answer_to_what_came_before(
    api: Api, database: Database
) -> None:
    """Or the client would take it for the answer to its submission."""
    request = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
    _, answer = await raw(api, request + b"NONSENSE\r\n\r\n")
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"202", b"400"]
    broken = HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"
    _, answer = await raw(api, request + broken + LAST)
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"202", b"400"]
    assert await stored(database) == (2, 2, 2)


async def test_many_requests_at_once_are_no_flood_of_headers(api: Api) -> None:
    """However the network cuts them."""
    alive = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
    upgrade = b"GET /livez HTTP/1.1\r\nHost: x\r\n" + OTHER_PROTOCOL + b"\r\n"
    _, answer = await raw(api, (alive + upgrade) * 1000 + LAST)
    assert answer.count(b"HTTP/1.1 200 ") == 2001


async def test_what_follows_a_body_is_not_taken_for_headers(api: Api, database: Database) -> None:
    """They are read when the request is being worked on already."""
    request = HEAD + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    request += b"%x\r\n" % len(BODY) + BODY + b"\r\n0\r\nIdempotency-Key: k\r\n\r\n"
    for _ in range(2):
        assert (await raw(api, request))[0] == 202
    assert await stored(database) == (2, 2, 2)


@pytest.mark.parametrize("line", [b"0\r\nX: ", b"2;x="], ids=["trailer", "chunk extension"])
async def test_a_line_without_an_end_is_refused_after_the_head_as_well(
    api: Api, line: bytes
) -> None:
    reader, writer = await asyncio.open_connection(LOCALHOST, api.port)
    writer.write(HEAD + b"Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n")
    await reader.readuntil(b"100 Continue\r\n\r\n")
    writer.write(line + b"y" * 1_000_000)
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert problem_of(answer)["code"] == "header-too-large"


@pytest.mark.parametrize(
    "head",
    [
        b"".join(b"X-%d: y\r\n" % n for n in range(101)) + b"\r\n",
        b"X: " + b"y" * 33_000 + b"\r\n\r\n",
        b"X: " + b"y" * 40_000,
        b"X: " + b"y" * 4_000_000,
        b"".join(b"X-%d: %s\r\n" % (n, b"y" * 400) for n in range(90)) + b"\r\n",
    ],
    ids=["too many", "a long one", "without an end", "far too long", "many long ones"],
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


async def drip(api: Api, request: bytes, seconds: float, *, at_once: bytes = b"") -> bytes:
    """One byte after the other until the server has had enough."""
    reader, writer = await asyncio.open_connection(LOCALHOST, api.port)
    writer.write(at_once)
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
    head = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY)
    answer = await drip(hasty, BODY, 0.1, at_once=head)
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


async def test_blank_lines_do_not_keep_a_connection(hasty: Api) -> None:
    reader, writer = await asyncio.open_connection(LOCALHOST, hasty.port)
    writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readuntil(b'{"status":"ok"}')
    writer.write(b"\r\n")
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


async def answering(size: int, settings: Settings) -> tuple[ServerState, socket.socket]:
    """A connection with small buffers on which an answer of so many bytes has been asked for."""
    ours, client = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    client.setblocking(False)
    config, state = uvicorn.Config(Response(b"x" * size), log_config=None), ServerState()
    hasty = settings.model_copy(update={"api_write_timeout": 0.3})
    connection = connection_of(hasty)
    await asyncio.get_running_loop().connect_accepted_socket(
        lambda: connection(config, state, {}), ours
    )
    client.send(LAST)
    return state, client


@pytest.mark.parametrize("size", [40_000, 400_000], ids=["the rest", "the most"])
async def test_what_a_client_leaves_of_an_answer_is_not_kept_for_ever(
    settings: Settings, size: int
) -> None:
    """Whether the application still writes or the connection is closed but for what is left."""
    state, client = await answering(size, settings)

    async def nothing_is_left() -> None:
        assert not state.connections

    with client:
        assert state.connections
        await eventually(nothing_is_left)


async def test_who_takes_an_answer_slowly_gets_all_of_it(settings: Settings) -> None:
    _, client = await answering(40_000, settings)
    loop, taken = asyncio.get_running_loop(), 0
    with client:
        while part := await loop.sock_recv(client, 4000):
            taken += len(part)
            await asyncio.sleep(0.1)
    assert taken > 40_000


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
    counts = Counts(wrap_exceptions=False)
    assert [counts.incr(one, 0) for one in ("one", "two", "one")] == [1, 1, 1]
    assert list(counts.counts) == ["one"]  # the window of the other is over as well


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
