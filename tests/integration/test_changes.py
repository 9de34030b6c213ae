"""The hub that looks once for all: who waits is told in time, who follows misses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from api_service.cancellation import cancel
from api_service.changes import Changes, Ear, Mark
from shared.database import Database
from shared.settings import Settings
from tests.eventually import eventually
from tests.factories import accept, execute
from tests.streams import move_on
from tests.wire import Wire

NEW = Mark(1, published=False)
PUBLISH = "UPDATE outbox_messages SET dispatched_at = now() WHERE task_id = :id"
WITHDRAW = "UPDATE outbox_messages SET dispatched_at = NULL WHERE task_id = :id"
LONG = 30


@asynccontextmanager
async def looking(settings: Settings, **changes: Any) -> AsyncIterator[Changes]:
    """A hub at work, on connections of its own."""
    quick = settings.model_copy(update={"stream_poll": 0.02, **changes})
    database = Database(quick, "hub")
    hub = Changes(database)
    loop = asyncio.create_task(hub.run())
    try:
        yield hub
    finally:
        hub.stop()
        await loop
        await database.close()


async def heard(ear: Ear) -> list[int]:
    async with asyncio.timeout(LONG):
        news = await ear.get()
    assert news is not None
    return [event.seq for event in news.events]


async def is_watched(changes: Changes) -> None:
    async def watched() -> None:
        assert changes.watched

    await eventually(watched)


async def is_said(lines: Sequence[Mapping[str, Any]], name: str) -> None:
    async def said() -> None:
        assert name in [line["event"] for line in lines]

    await eventually(said)


# --- who waits ---


@pytest.mark.parametrize("change", ["event", "publication"])
async def test_who_waits_is_told_of_the_next_change(
    settings: Settings, database: Database, change: str
) -> None:
    task_id = await accept(database)
    async with looking(settings) as changes:
        waiting = asyncio.create_task(changes.news(task_id, NEW, LONG))
        await is_watched(changes)
        if change == "event":
            await move_on(database, task_id)
        else:
            await execute(database, PUBLISH, id=task_id)
        assert await waiting


async def test_what_has_changed_before_the_wait_is_told_too(
    settings: Settings, database: Database
) -> None:
    task_id = await accept(database)
    await move_on(database, task_id, count=3)
    async with looking(settings) as changes:
        assert await changes.news(task_id, NEW, LONG)


async def test_who_waits_for_nothing_is_told_that_there_was_nothing(
    settings: Settings, database: Database
) -> None:
    task_id = await accept(database)
    await execute(database, PUBLISH, id=task_id)
    async with looking(settings) as changes:
        with changes.follow(task_id, 0), changes.follow(task_id, 99):
            assert not await changes.news(task_id, Mark(1, published=True), 0.3)
        assert changes.looks > 1
        assert not changes.watched


async def test_two_who_know_different_things_are_told_each_what_is_news_to_them(
    settings: Settings, database: Database
) -> None:
    """A message that is published, and withdrawn, leaves the version as it is."""
    task_id = await accept(database)
    async with looking(settings) as changes:
        for change, known in ((PUBLISH, False), (WITHDRAW, True)):
            first = asyncio.create_task(changes.news(task_id, Mark(1, published=known), LONG))
            await is_watched(changes)
            await execute(database, change, id=task_id)
            assert await first
            behind = changes.news(task_id, Mark(1, published=known), LONG)
            ahead = changes.news(task_id, Mark(1, published=not known), 0.2)
            assert list(await asyncio.gather(ahead, behind)) == [False, True]


# --- who follows ---


async def test_who_comes_late_misses_nothing_and_takes_nothing_from_others(
    settings: Settings, database: Database
) -> None:
    task_id = await accept(database)
    async with looking(settings) as changes:
        with changes.follow(task_id, 0) as first:
            assert await heard(first) == [1]
            await move_on(database, task_id, count=2)
            assert await heard(first) == [2, 3]
            with changes.follow(task_id, 1) as late:
                assert await heard(late) == [2, 3]
                await move_on(database, task_id)
                assert (await heard(late))[-1] == 4
            assert await heard(first) == [2, 3]  # a stream passes over what it has told
            assert await heard(first) == [4]


async def test_the_last_event_is_known_as_the_last(settings: Settings, database: Database) -> None:
    task_id = await accept(database)
    async with looking(settings) as changes:
        with changes.follow(task_id, 1) as ear:
            await move_on(database, task_id)
            news = await ear.get()
            assert news is not None
            assert not news.ended
            await cancel(database, "default", task_id)
            news = await ear.get()
            assert news is not None
            assert news.ended


# --- what it costs, and what may happen to it ---


async def test_while_nobody_waits_nobody_looks(settings: Settings, database: Database) -> None:
    task_id = await accept(database)
    async with looking(settings) as changes:
        assert await changes.news(task_id, Mark(0, published=False), LONG)
        looks = changes.looks
        await asyncio.sleep(10 * changes.database.settings.stream_poll)
        assert changes.looks == looks


async def test_all_that_is_followed_costs_one_look(settings: Settings, database: Database) -> None:
    ids = [await accept(database, f"Learn {number}") for number in range(3)]
    changes = Changes(database)
    with (
        changes.follow(ids[0], 0) as first,
        changes.follow(ids[0], 0) as again,
        changes.follow(ids[1], 0) as second,
        changes.follow(ids[2], 1) as third,
    ):
        assert await changes.run_once() == 3
        assert [ear.qsize() for ear in (first, again, second, third)] == [1, 1, 1, 0]
        assert first.get_nowait() is again.get_nowait()
    assert (changes.looks, await changes.run_once()) == (1, 0)


async def test_a_database_that_is_away_is_waited_for(
    settings: Settings, database: Database
) -> None:
    task_id = await accept(database)
    wire = Wire(settings.require_database())
    await wire.open()
    try:
        port = int(wire.url.rsplit(":", 1)[1].partition("/")[0])
        with capture_logs() as lines:
            async with looking(settings, database_url=SecretStr(wire.url)) as changes:
                with changes.follow(task_id, 0) as ear:
                    assert await heard(ear) == [1]
                    await wire.close()
                    await is_said(lines, "changes_not_seen")
                    await move_on(database, task_id)
                    await wire.open(port)
                    assert await heard(ear) == [2]
    finally:
        await wire.close()
    assert not [line for line in lines if line.get("exc_info")]


async def test_whatever_goes_wrong_it_looks_again(settings: Settings, database: Database) -> None:
    """Else all streams of the process would fall silent, and nobody would know why."""
    task_id = await accept(database)
    with capture_logs() as lines:
        async with looking(settings) as changes:
            await execute(database, "ALTER TABLE task_events RENAME TO elsewhere")
            try:
                with changes.follow(task_id, 0) as ear:
                    await is_said(lines, "changes_not_seen")
                    await execute(database, "ALTER TABLE elsewhere RENAME TO task_events")
                    assert await heard(ear) == [1]
            finally:
                await execute(database, "ALTER TABLE IF EXISTS elsewhere RENAME TO task_events")
    assert [line for line in lines if line.get("exc_info")]


async def test_when_the_process_stops_nobody_waits_any_more(
    settings: Settings, database: Database
) -> None:
    task_id = await accept(database)
    async with looking(settings) as changes:
        waiting = asyncio.create_task(changes.news(task_id, NEW, LONG))
        with changes.follow(task_id, 1) as ear:
            await is_watched(changes)
            changes.stop()
            assert not await waiting
            assert await ear.get() is None
        with changes.follow(task_id, 1) as too_late:
            assert await too_late.get() is None
        assert not await changes.news(task_id, NEW, LONG)
