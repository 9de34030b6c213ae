"""The clients at their limits: times that are kept, many at once, answers of somebody else."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

import waymark
from shared.views import TASK_EXAMPLE
from tests.clients import KINDS, Kind, Peer, a_client, answering
from tests.eventually import eventually
from waymark import (
    ApiError,
    AsyncClient,
    Conflict,
    NotFinished,
    NotFound,
    RateLimited,
    Unavailable,
    Unreachable,
)
from waymark.exchange import TRIES, Answer, Call, Pause
from waymark.transport import request_of

QUEUED = json.dumps(TASK_EXAMPLE | {"status": "queued"})
ENDED = json.dumps(TASK_EXAMPLE | {"status": "canceled", "version": 9})
LIMITED = answering(
    "429 Too Many Requests",
    json.dumps({"code": "rate-limited", "detail": "Too fast.", "status": 429}),
    Retry_After="0",
)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


# --- times ---


async def test_a_wait_does_not_end_because_the_rate_is_limited(kind: Kind) -> None:
    answers = [answering("200 OK", QUEUED), *[LIMITED] * (TRIES + 1), answering("200 OK", ENDED)]
    async with Peer.giving(*answers) as peer, a_client(kind, peer.url, patience=0) as client:
        assert (await client.wait(TASK_EXAMPLE["id"])).status == "canceled"
    assert len(peer.heard) == len(answers)


async def test_who_waits_without_an_end_comes_back_whenever_the_api_asks_for_it(kind: Kind) -> None:
    busy = answering("429 Too Many Requests", "{}", Retry_After="3600")
    pauses: list[Pause] = []

    def too_long(pause: Pause) -> None:
        pauses.append(pause)
        raise InterruptedError  # nobody has an hour here

    async with (
        Peer.giving(busy) as peer,
        a_client(kind, peer.url, pausing=too_long) as client,
    ):
        with pytest.raises(InterruptedError):
            await client.wait(TASK_EXAMPLE["id"])
        with pytest.raises(RateLimited):
            await client.wait(TASK_EXAMPLE["id"], timeout=5)
    (pause,) = pauses
    assert pause.seconds >= 3600
    assert "429" in pause.why


async def test_an_api_that_is_away_for_long_is_not_waited_for_beyond_patience(kind: Kind) -> None:
    away = answering("503 Service Unavailable", '{"code": "x"}', Retry_After="3600")
    async with Peer.giving(away) as peer, a_client(kind, peer.url, patience=0) as client:
        for timeout in (None, 7200):
            with pytest.raises(Unavailable):
                await client.wait(TASK_EXAMPLE["id"], timeout=timeout)
    assert len(peer.heard) == 2


async def test_a_stream_does_not_end_because_the_rate_is_limited(kind: Kind) -> None:
    over = answering("200 OK", "event: stream.end\ndata\n\n", Content_Type="text/event-stream")
    answers = [*[LIMITED] * 3, over]
    async with Peer.giving(*answers) as peer, a_client(kind, peer.url, patience=0) as client:
        assert [one async for one in client.stream(TASK_EXAMPLE["id"])] == []
    assert len(peer.heard) == len(answers)


async def test_a_wait_keeps_its_time_though_the_api_says_nothing(kind: Kind) -> None:
    answers = (answering("200 OK", QUEUED, ETag='"1.0"', Content_Length=str(len(QUEUED))), b"")
    async with (
        Peer.giving(*answers, falls_silent=True) as peer,
        a_client(kind, peer.url) as client,
    ):
        with pytest.raises(NotFinished, match=r"is still queued after 0\.2 s"):
            await client.wait(TASK_EXAMPLE["id"], timeout=0.2)
    assert len(peer.heard) == 2, "nobody asks again when the time is over"


@pytest.mark.parametrize("name", ["Prefer", "prefer"])
def test_an_answer_that_is_to_be_held_is_waited_for(name: str) -> None:
    call = Call("GET", "/v1/tasks", headers={name: "respond-async, wait=30"})
    assert request_of("http://x", call, 10)["timeout"].read == 40


@pytest.mark.parametrize("seconds", [-1, float("nan")])
async def test_times_that_are_none_are_refused_before_anything_is_sent(
    kind: Kind, seconds: float
) -> None:
    async with Peer.giving(b"") as peer, a_client(kind, peer.url) as client:
        with pytest.raises(ValueError, match="a number of seconds, 0 or more"):
            await client.submit("Learn SQL", wait=seconds)
        with pytest.raises(ValueError, match="a number of seconds, 0 or more"):
            await client.wait(TASK_EXAMPLE["id"], timeout=seconds)
    assert peer.heard == []


async def test_no_end_is_a_time(kind: Kind) -> None:
    async with (
        Peer.giving(answering("200 OK", ENDED)) as peer,
        a_client(kind, peer.url) as client,
    ):
        await client.submit("Learn SQL", wait=float("inf"))
        assert (await client.wait(TASK_EXAMPLE["id"], timeout=float("inf"))).version == 9
    assert b"wait=60" in peer.heard[0]


def test_the_time_to_come_back_may_be_told_by_the_clock() -> None:
    then = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    told = Answer("http://x", 503, {"retry-after": then}, b"").retry_after
    assert told is not None
    assert 90 < told <= 100
    unzoned = then.replace("GMT", "-0000")
    assert Answer("http://x", 503, {"retry-after": unzoned}, b"").retry_after is not None
    assert Answer("http://x", 503, {"retry-after": "soon"}, b"").retry_after is None


# --- many at once, and from anywhere ---


async def test_nobody_queues_behind_those_who_wait() -> None:
    many = 120

    async def all_have_arrived() -> None:
        assert len(peer.heard) == many

    async with (
        Peer.giving(b"", falls_silent=True) as peer,
        AsyncClient(peer.url, timeout=60) as client,
    ):
        waits = [asyncio.create_task(client.wait(TASK_EXAMPLE["id"])) for _ in range(many)]
        await eventually(all_have_arrived)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


def test_a_client_says_that_it_is_of_one_event_loop() -> None:
    client = AsyncClient("http://127.0.0.1:9", timeout=1)

    async def ask() -> None:
        with pytest.raises(Unreachable):
            await client.task("1")

    asyncio.run(ask())
    with pytest.raises(RuntimeError, match="make one inside this one"):
        asyncio.run(client.task("1"))


async def test_headers_of_the_client_go_along(kind: Kind) -> None:
    async with (
        Peer.giving(answering("200 OK", ENDED)) as peer,
        a_client(kind, peer.url, headers={"Authorization": "Bearer gate"}) as client,
    ):
        await client.task(TASK_EXAMPLE["id"])
    assert b"authorization: bearer gate" in peer.heard[0].lower()


# --- errors ---


@pytest.mark.parametrize(
    "error",
    [
        Conflict({"code": "task-already-ended", "detail": "It has ended."}, 409, 3.0),
        Unreachable("http://x", "refused", heard=True),
        NotFinished(TASK_EXAMPLE, 2.0),
    ],
)
def test_errors_survive_a_journey_to_another_process(error: waymark.Error) -> None:
    for there in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301 - our own
        assert type(there) is type(error)
        assert str(there) == str(error)
        assert vars(there) == vars(error)


async def test_no_password_of_an_address_is_told(kind: Kind) -> None:
    url = "http://bob:s3cret@127.0.0.1:9"
    async with a_client(kind, url, timeout=1) as client:
        with pytest.raises(Unreachable) as error:
            await client.task("1")
    assert "s3cret" not in repr(error.value)
    assert "http://127.0.0.1:9" in str(error.value)


FOREIGN = {
    "a page": answering("404 Not Found", "<h1>Not Found</h1>"),
    "erased pages": answering("410 Gone", "<h1>Gone</h1>"),
    "another API": answering("404 Not Found", '{"errors": ["x"]}'),
    "another API's 422": answering("422 Unprocessable Content", '{"detail": [{"loc": []}]}'),
}


@pytest.mark.parametrize("answer", FOREIGN.values(), ids=FOREIGN)
async def test_that_something_is_not_there_is_for_waymark_to_say(kind: Kind, answer: bytes) -> None:
    async with Peer.giving(answer) as peer, a_client(kind, peer.url) as client:
        with pytest.raises(ApiError, match="is the URL right") as error:
            await client.delete(TASK_EXAMPLE["id"])
    assert not isinstance(error.value, NotFound)
    assert error.value.problem.code == ""


async def test_a_gate_that_is_busy_is_busy(kind: Kind) -> None:
    answer = answering("503 Service Unavailable", "<h1>Busy</h1>", Retry_After="3600")
    async with Peer.giving(answer) as peer, a_client(kind, peer.url) as client:
        with pytest.raises(Unavailable):
            await client.task(TASK_EXAMPLE["id"])


async def test_who_is_pointed_elsewhere_is_told_where(kind: Kind) -> None:
    answer = answering("301 Moved Permanently", Location="https://x.example/v1")
    async with Peer.giving(answer) as peer, a_client(kind, peer.url) as client:
        with pytest.raises(ApiError, match=r"points to https://x\.example/v1"):
            await client.task(TASK_EXAMPLE["id"])


async def test_an_answer_without_what_it_should_have_is_none(kind: Kind) -> None:
    async with Peer.giving(answering("200 OK", "{}")) as peer, a_client(kind, peer.url) as client:
        for ask in (client.wait, client.events):
            with pytest.raises(ApiError, match="not as Waymark does"):
                await ask(TASK_EXAMPLE["id"])
        with pytest.raises(ApiError, match="not as Waymark does"):
            _ = [one async for one in client.tasks()]


def test_a_problem_of_another_shape_is_still_one() -> None:
    error = ApiError({"code": "odd", "detail": "It is odd.", "errors": ["x"]}, 400)
    assert (error.problem.code, error.problem.detail) == ("odd", "It is odd.")


# --- what is asked ---


async def test_one_goal_is_no_list_of_goals(kind: Kind) -> None:
    async with Peer.giving(b"") as peer, a_client(kind, peer.url) as client:
        with pytest.raises(TypeError, match="a list of goals"):
            await client.submit_many("Learn SQL")
    assert peer.heard == []


@pytest.mark.parametrize("key", ["é", "a\nb"])
async def test_a_key_that_no_header_can_hold_is_refused_at_once(kind: Kind, key: str) -> None:
    async with Peer.giving(b"") as peer, a_client(kind, peer.url) as client:
        with pytest.raises(ValueError, match="printable ASCII"):
            await client.submit("Learn SQL", idempotency_key=key)
    assert peer.heard == []


def test_what_the_clients_give_can_be_named() -> None:
    assert {one for one in waymark.__all__ if getattr(waymark, one, None) is None} == set()
