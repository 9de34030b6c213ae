"""The clients when answers are lost, servers restart, fall silent or ask for patience."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from shared.database import Database
from shared.errors import Permanent
from shared.views import TASK_EXAMPLE
from tests.clients import KINDS, Kind, Peer, a_client, answering
from tests.conftest import Servers
from tests.eventually import eventually
from tests.factories import accept, leases_of, rows
from tests.http import Api
from tests.wire import Wire
from waymark import AsyncClient, RateLimited, Unavailable, Unreachable
from waymark.exchange import TRIES
from worker_service.leases import Lease

Making = Callable[[AsyncClient, UUID], Awaitable[object]]
END = "event: stream.end\ndata\n\n"
TASK = json.dumps(TASK_EXAMPLE)
MAKING: dict[str, Making] = {
    "submit": lambda client, _parent: client.submit("Learn SQL"),
    "submit_many": lambda client, _parent: client.submit_many(["Learn SQL"]),
    "retry": lambda client, parent: client.retry(parent, priority="low"),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


async def failed(database: Database) -> UUID:
    task_id = await accept(database)
    await fails(database, await taken(database, task_id))
    return task_id


async def fails(database: Database, lease: Lease) -> None:
    assert await leases_of(database).fail(lease, Permanent("No way.", code="goal_not_covered"))


async def taken(database: Database, task_id: UUID) -> Lease:
    lease = await leases_of(database).acquire(task_id)
    assert lease is not None
    return lease


@asynccontextmanager
async def meeting(
    kind: Kind, *answers: bytes, falls_silent: bool = False, **options: Any
) -> AsyncIterator[tuple[Peer, AsyncClient]]:
    async with (
        Peer.giving(*answers, falls_silent=falls_silent) as peer,
        a_client(kind, peer.url, **options) as client,
    ):
        yield peer, client


def event(seq: int, kind: str) -> str:
    at = "2026-11-25T12:00:00Z"
    document = {"seq": seq, "type": kind, "data": {}, "created_at": at}
    return f"id: {seq}\nevent: {kind}\ndata: {json.dumps(document)}\n\n"


def streaming(*frames: str) -> bytes:
    return answering("200 OK", "".join(frames), Content_Type="text/event-stream")


# --- lost answers ---


@pytest.mark.parametrize("what", MAKING)
async def test_whatever_makes_a_task_repeats_its_key_when_the_answer_is_lost(
    kind: Kind, what: str, api: Api, database: Database
) -> None:
    parent = await failed(database)
    cue = b'"priority"' if what == "retry" else b'"goal"'
    wire = Wire(f"{api.url}/", cue=cue, confirmed_by=b"HTTP/1.1 202")
    await wire.open()
    try:
        wire.strikes = ["lose the reply", "lose the reply"]
        async with a_client(kind, wire.url) as client:
            await MAKING[what](client, parent)
    finally:
        await wire.close()
    assert wire.strikes == []
    (made,) = await rows(database, "SELECT id FROM tasks WHERE id <> :parent", parent=parent)
    assert made["id"] != parent


async def test_a_request_that_reaches_nobody_in_time_may_have_been_heard(kind: Kind) -> None:
    async with meeting(kind, b"", falls_silent=True, timeout=0.1) as (peer, client):
        with pytest.raises(Unreachable) as error:
            await client.submit("Learn SQL")
    assert error.value.heard
    assert len(peer.heard) == TRIES
    assert len(keys_of(peer)) == 1


def keys_of(peer: Peer) -> set[str]:
    lines = [line for heard in peer.heard for line in heard.decode().split("\r\n")]
    return {line for line in lines if line.lower().startswith("idempotency-key:")}


# --- asked for patience ---


@pytest.mark.parametrize("status", ["429 Too Many Requests", "503 Service Unavailable"])
async def test_who_is_asked_to_come_back_soon_does(kind: Kind, status: str) -> None:
    busy = answering(status, "{}", Retry_After="0")
    async with meeting(kind, busy, busy, answering("202 Accepted", TASK)) as (peer, client):
        assert (await client.submit("Learn SQL")).version == 1
    assert len(peer.heard) == 3
    assert len(keys_of(peer)) == 1


async def test_who_is_asked_to_come_back_much_later_is_told_when(kind: Kind) -> None:
    problem = json.dumps({"code": "rate-limited", "detail": "Too fast.", "status": 429})
    limited = answering("429 Too Many Requests", problem, Retry_After="3600")
    async with meeting(kind, limited) as (peer, client):
        with pytest.raises(RateLimited, match="Too fast") as error:
            await client.submit("Learn SQL")
    assert error.value.retry_after == 3600
    assert len(peer.heard) == 1


async def test_a_post_without_a_key_is_not_repeated_when_it_may_have_been_carried_out(
    kind: Kind,
) -> None:
    async with meeting(kind, answering("503 Service Unavailable", "{}")) as (peer, client):
        with pytest.raises(Unavailable):
            await client.call("POST", "/v1/ops/outbox/pause", json={"reason": "deploy"})
    assert len(peer.heard) == 1


# --- streams ---


async def test_a_stream_goes_on_over_a_restart_of_the_api(
    kind: Kind, database: Database, servers: Servers, tmp_path: Path
) -> None:
    """Behind one address, as with a proxy or a service: the new process is another one."""
    task_id = await accept(database)
    old = await started(servers, tmp_path)
    new: Api | None = None
    wire = Wire(f"{old.url}/")
    await wire.open()
    seen: list[tuple[int, str]] = []

    async def follow() -> None:
        async with a_client(kind, wire.url) as client:
            async for one in client.stream(task_id):
                seen.append((one.seq, one.type))  # noqa: PERF401 - read while it grows

    following = asyncio.create_task(follow())
    try:
        await tells(seen, "task.accepted")
        lease = await taken(database, task_id)
        await tells(seen, "task.started")
        await asyncio.to_thread(old.stop)
        assert await leases_of(database).hand_over(lease)
        lease = await taken(database, task_id)
        new = await started(servers, tmp_path)
        wire.lead_to(f"{new.url}/")
        await fails(database, lease)
        await following
    finally:
        following.cancel()
        await wire.close()
        for api in (old, new):
            if api is not None:
                await asyncio.to_thread(api.stop)
    assert [seq for seq, _ in seen] == list(range(1, len(seen) + 1))
    assert seen[-1][1] == "task.failed"


async def started(servers: Servers, folder: Path) -> Api:
    api = Api.start(folder, servers.environment())

    async def ready() -> None:
        api.has_logged("api_ready")

    await eventually(ready)
    return api


async def tells(seen: list[tuple[int, str]], kind: str) -> None:
    async def told() -> None:
        assert kind in [one for _, one in seen]

    await eventually(told)


async def test_a_stream_that_falls_silent_is_asked_for_again_from_where_it_was(kind: Kind) -> None:
    first = streaming("retry: 1\n\n", event(1, "task.accepted"), "id: 2\ndata: half of an ev")
    rest = streaming(
        event(1, "task.accepted"), event(2, "task.canceled"), "event: stream.end\ndata\n\n"
    )
    async with meeting(kind, first, rest, falls_silent=True, silence=0.2) as (peer, client):
        assert [one.seq async for one in client.stream(TASK_EXAMPLE["id"])] == [1, 2]
    assert [b"last-event-id: 0" in heard.lower() for heard in peer.heard] == [True, False]
    assert b"last-event-id: 1" in peer.heard[1].lower()


async def test_a_stream_without_its_last_word_ends_when_there_is_nothing_more(kind: Kind) -> None:
    first = streaming("retry: 1\n\n", event(1, "task.accepted"))
    async with meeting(kind, first, answering("204 No Content")) as (peer, client):
        assert [one.seq async for one in client.stream(TASK_EXAMPLE["id"])] == [1]
    assert len(peer.heard) == 2


async def test_a_wait_outlives_a_restart(kind: Kind) -> None:
    away = answering("502 Bad Gateway")
    ended = json.dumps(TASK_EXAMPLE | {"status": "canceled", "version": 2})
    answers = [answering("200 OK", TASK), *[away] * (TRIES + 2), answering("200 OK", ended)]
    async with meeting(kind, *answers) as (peer, client):
        assert (await client.wait(TASK_EXAMPLE["id"])).status == "canceled"
    assert len(peer.heard) == len(answers)
