"""The history of a task as it happens: whole and in order, to everybody who listens."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from uuid import UUID

import httpx2
import pytest
from uuid_utils.compat import uuid7

from api_service.cancellation import cancel
from api_service.changes import AT_ONCE
from shared.database import Database
from tests.conftest import Servers
from tests.eventually import eventually, eventually_sync
from tests.factories import accept, execute, leases_of, task
from tests.http import Api, assert_problem
from tests.streams import Heard, Stream, move_on, stream

STREAM = {"Accept": "text/event-stream"}


@pytest.fixture(scope="module")
def strict(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An API that lets nobody have more than two streams, and says often that it is there."""
    environment = servers.environment(WAYMARK_API_STREAMS="2", WAYMARK_STREAM_PING="0.1")
    api = Api.start(tmp_path_factory.mktemp("strict"), environment)
    try:
        eventually_sync(lambda: api.has_logged("api_ready"))
        yield api
    finally:
        api.stop()


async def end(database: Database, task_id: UUID) -> None:
    await cancel(database, "default", task_id)


def seqs(heard: Sequence[Heard]) -> list[int]:
    return [one.id for one in heard if one.id is not None and one.event != "task.snapshot"]


# --- from the snapshot to the end ---


async def test_a_stream_starts_with_a_snapshot_and_goes_on_without_a_gap_to_the_end(
    api: Api, database: Database
) -> None:
    task_id = await accept(database)
    await move_on(database, task_id)
    async with stream(api.port, task_id) as events:
        assert events.status == 200
        assert events.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert events.headers["cache-control"] == "no-store"
        assert events.headers["x-accel-buffering"] == "no"
        first = await events.hear()
        assert first is not None
        assert (first.id, first.event, first.retry) == (2, "task.snapshot", 2000)
        await move_on(database, task_id)
        assert seqs([await events.hear_event()]) == [3]
        await move_on(database, task_id, count=2)
        await end(database, task_id)
        *rest, last = await events.hear_all()
    assert seqs(rest) == [4, 5, 6]
    assert rest[-1].event == "task.canceled"
    assert (last.event, last.data, last.id) == ("stream.end", {"reason": "terminal"}, None)


async def test_the_snapshot_is_the_task_as_it_is_read(
    api: Api, client: httpx2.AsyncClient, database: Database
) -> None:
    task_id = await accept(database, "学习 SQL and “more”")
    async with stream(api.port, task_id) as events:
        first = await events.hear_event()
    assert first.data == (await client.get(f"/v1/tasks/{task_id}")).json()


async def test_an_event_is_the_same_in_a_stream_as_on_a_page(
    api: Api, client: httpx2.AsyncClient, database: Database
) -> None:
    task_id = await accept(database)
    await move_on(
        database, task_id, data={"note": "\r\n\n \u2028 “é” \\", "list": [1, {"a": None}]}
    )
    await execute(
        database,
        "UPDATE task_events SET created_at = '2026-11-25 12:00:00+00' WHERE seq = 1",
    )
    await end(database, task_id)
    page = (await client.get(f"/v1/tasks/{task_id}/events")).json()
    async with stream(api.port, task_id, "?after=0") as events:
        *heard, _ = await events.hear_all()
    assert [one.data for one in heard] == page["data"]
    assert [one.event for one in heard] == [one["type"] for one in page["data"]]
    assert seqs(heard) == [1, 2, 3]


async def test_a_stream_of_an_ended_task_is_its_snapshot_and_the_end(
    api: Api, database: Database
) -> None:
    task_id = await accept(database)
    await end(database, task_id)
    async with stream(api.port, task_id) as events:
        heard = await events.hear_all()
    assert [(one.event, one.id) for one in heard] == [("task.snapshot", 2), ("stream.end", None)]


# --- from where it was left ---


async def test_a_stream_goes_on_after_the_last_event_that_was_heard(
    api: Api, database: Database
) -> None:
    task_id = await accept(database)
    await move_on(database, task_id, count=3)
    async with (
        stream(api.port, task_id, Last_Event_ID="2") as by_header,
        stream(api.port, task_id, "?after=2") as by_query,
        stream(api.port, task_id, "?after=0", Last_Event_ID="3") as by_both,
    ):
        first = await by_header.hear()
        assert first == Heard(retry=2000)
        await move_on(database, task_id)
        await end(database, task_id)
        for events, expected in (
            (by_header, [3, 4, 5, 6]),
            (by_query, [3, 4, 5, 6]),
            (by_both, [4, 5, 6]),
        ):
            *heard, last = await events.hear_all()
            assert seqs(heard) == expected
            assert last.event == "stream.end"


async def test_what_an_ended_task_had_left_to_tell_is_told(api: Api, database: Database) -> None:
    task_id = await accept(database)
    await move_on(database, task_id, count=2)
    await end(database, task_id)
    async with stream(api.port, task_id, Last_Event_ID="3") as events:
        heard = await events.hear_all()
    assert [one.event for one in heard] == ["task.canceled", "stream.end"]


@pytest.mark.parametrize("last_heard", ["2", "3", "2147483647"])
async def test_when_nothing_is_left_to_tell_there_is_no_content(
    client: httpx2.AsyncClient, database: Database, last_heard: str
) -> None:
    """So a browser stops to ask."""
    task_id = await accept(database)
    await end(database, task_id)
    answer = await client.get(
        f"/v1/tasks/{task_id}/events", headers=STREAM | {"Last-Event-ID": last_heard}
    )
    assert (answer.status_code, answer.content) == (204, b"")


async def test_who_has_heard_more_than_there_is_is_refused(
    client: httpx2.AsyncClient, database: Database
) -> None:
    """Such a stream would pass over what is still to come."""
    url = f"/v1/tasks/{await accept(database)}/events"
    by_header = await client.get(url, headers=STREAM | {"Last-Event-ID": "2"})
    assert_problem(by_header, 400, "invalid-header")
    assert_problem(await client.get(f"{url}?after=2", headers=STREAM), 422, "validation-failed")
    assert (await client.get(f"{url}?after=2")).json() == {"data": [], "has_more": False}


async def test_a_page_says_where_the_next_one_is(
    client: httpx2.AsyncClient, database: Database
) -> None:
    task_id = await accept(database)
    await move_on(database, task_id, count=3)
    seqs, url = [], f"/v1/tasks/{task_id}/events?limit=2"
    for _ in range(2):
        answer = await client.get(url)
        seqs += [one["seq"] for one in answer.json()["data"]]
        url = answer.links.get("next", {}).get("url", "")
    assert (seqs, url) == ([1, 2, 3, 4], "")


async def test_a_long_history_comes_whole(api: Api, database: Database) -> None:
    task_id = await accept(database)
    await move_on(database, task_id, count=2 * AT_ONCE + 50)
    await end(database, task_id)
    async with stream(api.port, task_id, "?after=0") as events:
        *heard, last = await events.hear_all()
    assert seqs(heard) == list(range(1, 2 * AT_ONCE + 53))
    assert last.event == "stream.end"


# --- refusals ---


@pytest.mark.parametrize("broken", ["", "x", "-1", "+1", "1.5", "²", "2147483648", "1" * 5000])
async def test_a_last_event_id_that_is_none_of_ours_is_refused(
    client: httpx2.AsyncClient, database: Database, broken: str
) -> None:
    """To pass it over would repeat, or lose, events in silence."""
    task_id = await accept(database)
    headers = [(b"Accept", STREAM["Accept"].encode()), (b"Last-Event-ID", broken.encode())]
    answer = await client.get(f"/v1/tasks/{task_id}/events", headers=headers)
    body = assert_problem(answer, 400, "invalid-header")
    assert body["errors"][0]["pointer"] == "/header/Last-Event-ID"


@pytest.mark.parametrize("accept_header", ["text/event-stream", "application/json"])
async def test_there_is_no_history_without_a_task(
    client: httpx2.AsyncClient, database: Database, accept_header: str
) -> None:
    headers = {"Accept": accept_header}
    answer = await client.get(f"/v1/tasks/{uuid7()}/events", headers=headers)
    assert_problem(answer, 404, "task-not-found")
    task_id = await accept(database)
    await end(database, task_id)
    await execute(database, "UPDATE tasks SET deleted_at = now()")
    answer = await client.get(f"/v1/tasks/{task_id}/events", headers=headers)
    assert_problem(answer, 410, "task-deleted")


@pytest.mark.parametrize("query", ["after=-1", "after=x", "limit=0", "limit=501", "afte=1"])
async def test_a_query_that_says_nothing_is_refused(
    client: httpx2.AsyncClient, database: Database, query: str
) -> None:
    task_id = await accept(database)
    for headers in ({}, STREAM):
        answer = await client.get(f"/v1/tasks/{task_id}/events?{query}", headers=headers)
        body = assert_problem(answer, 422, "validation-failed")
        assert body["errors"][0]["pointer"] == f"/query/{query.partition('=')[0]}"


async def test_a_history_is_read_page_by_page(
    client: httpx2.AsyncClient, database: Database
) -> None:
    task_id = await accept(database)
    await move_on(database, task_id, count=4)
    url, seen = f"/v1/tasks/{task_id}/events", [0]
    while True:
        page = (await client.get(url, params={"after": seen[-1], "limit": 2})).json()
        seen += [one["seq"] for one in page["data"]]
        if not page["has_more"]:
            break
    assert seen == [0, 1, 2, 3, 4, 5]
    assert (await client.get(url, params={"after": 5})).json() == {"data": [], "has_more": False}


# --- while nothing happens, and when too many listen ---


async def test_a_stream_without_news_says_that_it_is_there(strict: Api, database: Database) -> None:
    task_id = await accept(database)
    async with stream(strict.port, task_id) as events:
        await events.hear_event()
        assert await events.hear() == Heard(comment="ping")
        assert await events.hear() == Heard(comment="ping")
        await move_on(database, task_id)
        assert seqs([await events.hear_event()]) == [2]


async def test_who_has_too_many_streams_gets_no_more_until_one_is_closed(
    strict: Api, database: Database
) -> None:
    task_id = await accept(database)
    url = f"{strict.url}/v1/tasks/{task_id}"

    async def there_is_a_place() -> Stream:
        opened = await Stream.open(strict.port, task_id)
        if opened.status != 200:
            opened.vanish()
        assert opened.status == 200
        return opened

    first, second = await there_is_a_place(), await there_is_a_place()
    try:
        async with httpx2.AsyncClient(verify=False, timeout=30) as client:
            answer = await client.get(f"{url}/events", headers=STREAM)
            assert_problem(answer, 429, "too-many-streams")
            assert int(answer.headers["retry-after"]) > 0
            # A wait needs a place as well, but is only a wish.
            tag = (await client.get(url)).headers["etag"]
            known = {"If-None-Match": tag, "Prefer": "wait=60"}
            answer = await client.get(url, headers=known)
            assert answer.status_code == 304
            assert "preference-applied" not in answer.headers
        first.vanish()
        third: list[Stream] = []

        async def let_in() -> None:
            third.append(await there_is_a_place())

        await eventually(let_in)
        third[0].vanish()
    finally:
        for opened in (first, second):
            opened.vanish()


# --- many at once ---


async def test_streams_of_several_tasks_do_not_mix(api: Api, database: Database) -> None:
    ids = [await accept(database, f"Learn SQL {number}") for number in range(5)]
    opened = [await Stream.open(api.port, task_id) for task_id in ids]
    try:
        for number, task_id in enumerate(ids):
            await move_on(database, task_id, count=number + 1, data={"of": str(task_id)})
        await asyncio.gather(*(end(database, task_id) for task_id in ids))
        heard = await asyncio.gather(*(events.hear_all() for events in opened))
    finally:
        for events in opened:
            events.vanish()
    for number, (task_id, (snapshot, *events_of)) in enumerate(zip(ids, heard, strict=True)):
        assert snapshot.data["id"] == str(task_id)
        assert seqs(events_of) == list(range(2, number + 4))
        assert {one.data["data"].get("of", str(task_id)) for one in events_of[:-1]} == {
            str(task_id)
        }


async def test_whoever_joins_wherever_hears_all_that_follows(api: Api, database: Database) -> None:
    """While events come thick and fast, and some are far behind the others."""
    task_id = await accept(database)
    await move_on(database, task_id, count=AT_ONCE)
    joined: list[asyncio.Task[tuple[int, list[Heard]]]] = []

    async def join(after: int) -> tuple[int, list[Heard]]:
        async with stream(api.port, task_id, Last_Event_ID=str(after)) as events:
            return after, await events.hear_all()

    for number in range(60):
        after = number * 37 % (AT_ONCE + number)
        joined.append(asyncio.create_task(join(after)))
        await move_on(database, task_id, count=1 + number % 3)
    await end(database, task_id)
    last = (await task(database, task_id))["version"]
    for after, heard in await asyncio.gather(*joined):
        assert seqs(heard) == list(range(after + 1, last + 1))
        assert heard[-1].event == "stream.end"


async def test_a_running_task_is_told_of_until_its_worker_has_let_go(
    api: Api, client: httpx2.AsyncClient, database: Database
) -> None:
    task_id = await accept(database)
    async with stream(api.port, task_id) as events:
        await events.hear_event()
        lease = await leases_of(database).acquire(task_id)
        assert lease is not None
        assert (await events.hear_event()).event == "task.started"
        assert (await client.post(f"/v1/tasks/{task_id}/cancel")).status_code == 202
        assert (await events.hear_event()).event == "task.cancel_requested"
        await leases_of(database).cancel(lease)
        assert [one.event for one in await events.hear_all()] == ["task.canceled", "stream.end"]
