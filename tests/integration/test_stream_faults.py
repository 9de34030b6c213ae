"""Streams in trouble: many of them, clients that vanish or dawdle, servers that come and go."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import UUID

import httpx2
import pytest
from sqlalchemy import text

from api_service.cancellation import cancel
from shared.database import Database
from shared.settings import Settings
from tests.conftest import Servers
from tests.eventually import eventually
from tests.factories import accept, event_types, fill, row
from tests.http import Api, a_goal
from tests.integration.test_stream import seqs
from tests.streams import PATIENCE, Heard, Served, Stream, move_on, served, stream
from waymark.processes import LOCALHOST

MANY = 500
WAIT = {"Prefer": "wait=60"}
COMMITTED = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"


@pytest.fixture
async def serving(settings: Settings, database: Database) -> AsyncIterator[Served]:
    quick = {"stream_poll": 0.02, "api_write_timeout": 0.3}
    async with served(settings.model_copy(update=quick)) as serving:
        yield serving


async def nobody_is_left(serving: Served, database: Database) -> None:
    """No follower, no place, no connection of the pool, and no query at work."""
    services = serving.services

    async def left() -> None:
        assert services.changes.watched == 0
        assert not services.places.taken
        assert services.database.engine.pool.checkedout() == 0  # type: ignore[attr-defined] # of a queue
        sql = """
            SELECT count(*) FROM pg_stat_activity
            WHERE application_name = 'waymark-api' AND state <> 'idle'
        """
        assert (await row(database, sql))["count"] == 0

    await eventually(left)


# --- many ---


@pytest.mark.parametrize("tasks", [1, MANY])
async def test_many_streams_cost_one_look(serving: Served, database: Database, tasks: int) -> None:
    ids = [await accept(database)] if tasks == 1 else await born(database, tasks)
    changes = serving.services.changes
    async with AsyncExitStack() as stack:
        opening = [
            stack.enter_async_context(stream(serving.port, ids[n % tasks])) for n in range(MANY)
        ]
        streams = [await one for one in opening]
        for one in streams:
            await one.hear_event()
        assert changes.watched == tasks
        before, looks = await commits(database), changes.looks

        async def looked_often() -> None:
            assert changes.looks >= looks + 60

        await eventually(looked_often)
        # PostgreSQL counts with a delay, so those that opened the streams are among them.
        looked = changes.looks - looks
        assert await commits(database) - before < looked * MANY / 10
        await move_on(database, *ids)
        told = await asyncio.gather(*(one.hear_event() for one in streams))
        assert [one.id for one in told] == [2] * MANY
    await nobody_is_left(serving, database)


async def born(database: Database, count: int) -> list[UUID]:
    """Many tasks, each with its first event."""
    ids = await fill(database, count)
    async with database.begin() as session:
        first = "INSERT INTO task_events (task_id, seq, type) SELECT id, 1, 'task.accepted'"
        await session.execute(text(f"{first} FROM tasks"))
    return ids


async def commits(database: Database) -> int:
    found: int = (await row(database, COMMITTED))["xact_commit"]
    return found


# --- clients ---


async def test_who_vanishes_amid_a_stream_leaves_nothing_behind(
    serving: Served, database: Database
) -> None:
    task_id = await accept(database)
    streams = [await Stream.open(serving.port, task_id) for _ in range(20)]
    for one in streams:
        await one.hear_event()
    assert sum(serving.services.places.taken.values()) == 20
    for one in streams:
        one.vanish()
    await nobody_is_left(serving, database)


async def test_who_vanishes_amid_a_wait_leaves_nothing_behind(
    serving: Served, database: Database
) -> None:
    task_id = await accept(database)
    root = f"http://{LOCALHOST}:{serving.port}/v1/tasks"
    url = f"{root}/{task_id}"
    async with httpx2.AsyncClient(verify=False, timeout=70) as client:
        known = {"If-None-Match": (await client.get(url)).headers["etag"], **WAIT}
        asked = [client.get(url, headers=known) for _ in range(8)]
        asked.append(client.get(url, headers=WAIT))
        asked.append(client.post(root, json=a_goal(), headers=WAIT))
        waits = [asyncio.create_task(one) for one in asked]

        async def all_wait() -> None:
            assert sum(serving.services.places.taken.values()) == len(waits)

        await eventually(all_wait)
        for one in waits:
            one.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
    await nobody_is_left(serving, database)


async def test_who_takes_nothing_of_a_stream_is_cut_off(
    serving: Served, database: Database
) -> None:
    """Others who follow the same task hear all of it."""
    task_id = await accept(database)
    dawdler = socket.socket()
    dawdler.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    dawdler.setblocking(False)
    with dawdler:
        await asyncio.get_running_loop().sock_connect(dawdler, (LOCALHOST, serving.port))
        request = f"GET /v1/tasks/{task_id}/events HTTP/1.1\r\nHost: x\r\n"
        dawdler.send(f"{request}Accept: text/event-stream\r\n\r\n".encode())
        async with stream(serving.port, task_id) as events:
            await events.hear_event()

            async def both_are_there() -> None:
                assert sum(serving.services.places.taken.values()) == 2

            await eventually(both_are_there)
            for _ in range(20):
                await move_on(database, task_id, data={"text": "x" * 1_000_000})
            for seq in range(2, 22):
                assert (await events.hear_event()).id == seq

            async def one_is_cut_off() -> None:
                assert sum(serving.services.places.taken.values()) == 1

            await eventually(one_is_cut_off)
    await nobody_is_left(serving, database)


# --- servers ---


def started(servers: Servers, folder: Path, port: int | None = None) -> Api:
    """``port``: of the one that it follows."""
    environment = servers.environment(WAYMARK_DRAIN="300", WAYMARK_STREAM_POLL="0.02")
    if port is None:
        return Api.start(folder, environment)
    log = folder / "api.log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "api_service"],
            env=os.environ | environment | {"WAYMARK_API_PORT": str(port)},
            stderr=stderr,
        )
    return Api(process, port, log)


async def ready(api: Api) -> None:
    async def is_ready() -> None:
        api.has_logged("api_ready")

    await eventually(is_ready)


async def test_a_process_that_is_told_to_stop_ends_its_streams_at_once(
    servers: Servers, database: Database, tmp_path: Path
) -> None:
    """It would give answers that are under way 300 seconds. No stream is told that it is over."""
    task_id = await accept(database)
    api = started(servers, tmp_path)
    try:
        await ready(api)
        async with stream(api.port, task_id) as events:
            await events.hear_event()
            api.process.send_signal(signal.SIGTERM)
            assert await events.hear_all() == []
        assert await asyncio.to_thread(api.process.wait, PATIENCE) == 0
    finally:
        await asyncio.to_thread(api.stop)


async def test_a_process_that_is_told_to_stop_answers_who_waits_at_once(
    servers: Servers, database: Database, tmp_path: Path
) -> None:
    task_id = await accept(database)
    api = started(servers, tmp_path)

    async def looks_for_news() -> None:
        sql = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%AS known (id%'"
        assert (await row(database, f"{sql} AND pid <> pg_backend_pid()"))["count"]

    try:
        await ready(api)
        url = f"{api.url}/v1/tasks/{task_id}"
        async with httpx2.AsyncClient(verify=False) as client:
            tag = (await client.get(url)).headers["etag"]
            known = {"If-None-Match": tag, **WAIT}
            wait = asyncio.create_task(client.get(url, headers=known, timeout=70))
            await eventually(looks_for_news)
            api.process.send_signal(signal.SIGTERM)
            answer = await wait
            assert (answer.status_code, answer.headers["preference-applied"]) == (304, "wait=60")
        assert await asyncio.to_thread(api.process.wait, PATIENCE) == 0
    finally:
        await asyncio.to_thread(api.stop)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_over_a_restart_nothing_is_missing_and_nothing_comes_twice(
    servers: Servers, database: Database, tmp_path: Path, how: signal.Signals
) -> None:
    task_id = await accept(database)
    api = started(servers, tmp_path)
    heard: list[Heard] = []

    async def listen() -> None:
        """As a browser does: again from the last id, until there is an end."""
        while not heard or heard[-1].event != "stream.end":
            last = max((one.id for one in heard if one.id is not None), default=0)
            try:
                async with stream(api.port, task_id, Last_Event_ID=str(last)) as events:
                    while (one := await events.hear()) is not None:
                        if one.event is not None:
                            heard.append(one)
            except (OSError, asyncio.IncompleteReadError):
                await asyncio.sleep(0.02)

    async def has_heard(seq: int) -> None:
        async def so_far() -> None:
            assert seqs(heard)[-1:] == [seq]

        await eventually(so_far)

    try:
        await ready(api)
        listening = asyncio.create_task(listen())
        await move_on(database, task_id)
        await has_heard(2)
        for seq in (3, 5):
            api.process.send_signal(how)
            await move_on(database, task_id)
            await asyncio.to_thread(api.process.wait, PATIENCE)
            api = started(servers, tmp_path, api.port)
            await move_on(database, task_id)
            await has_heard(seq + 1)
        await cancel(database, "default", task_id)
        async with asyncio.timeout(PATIENCE):
            await listening
    finally:
        await asyncio.to_thread(api.stop)
    assert seqs(heard) == list(range(1, 8))
    assert [one.event for one in heard[:-1]] == await event_types(database, task_id)


async def test_streams_outlive_a_restart_of_postgres(
    servers: Servers, database: Database, tmp_path: Path
) -> None:
    task_id = await accept(database)
    api = started(servers, tmp_path)
    try:
        await ready(api)
        async with stream(api.port, task_id) as events:
            await events.hear_event()
            servers.postgres.restart("immediate")
            await database.close()  # its connections died too, while the loop stood still
            await move_on(database, task_id)
            assert (await events.hear_event()).id == 2
            await cancel(database, "default", task_id)
            assert [one.event for one in await events.hear_all()] == [
                "task.canceled",
                "stream.end",
            ]
    finally:
        await asyncio.to_thread(api.stop)
