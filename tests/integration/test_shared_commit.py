"""Submissions that share a commit: few statements for many, and nobody pays for a neighbour."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
import structlog
from pydantic import SecretStr
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError

from api_service import submission
from api_service.new_task import NewTask, Submission
from api_service.problems import Problem
from api_service.submission import Submissions
from shared import logs, metrics, shared_commit
from shared.database import Database, connection_lost, sqlstate
from shared.settings import Settings
from shared.shared_commit import MOST
from tests.eventually import eventually
from tests.factories import new_task, row, rows
from tests.integration.test_submission import NOTHING, stored
from tests.wire import Strike, Wire


@pytest.fixture
async def submissions(database: Database) -> AsyncIterator[Submissions]:
    submissions = Submissions(database)
    yield submissions
    await submissions.close()


@pytest.fixture
async def wire(settings: Settings) -> AsyncIterator[Wire]:
    """It strikes when it hears what the insert carries."""
    wire = Wire(settings.require_database(), cue=b'"goal"', confirmed_by=b"SELECT 1")
    await wire.open()
    yield wire
    wire.released.set()
    await wire.close()


@asynccontextmanager
async def over(wire: Wire, settings: Settings, **changes: Any) -> AsyncIterator[Submissions]:
    changes |= {"database_url": SecretStr(wire.url)}
    frail = Database(settings.model_copy(update=changes), "frail")
    yield Submissions(frail)
    await frail.close()


@pytest.fixture
async def frail(settings: Settings, database: Database, wire: Wire) -> AsyncIterator[Submissions]:
    """Of another process, over the wire; ``database`` looks at it from the safe side."""
    async with over(wire, settings) as frail:
        yield frail


@contextmanager
def inserts_of(submissions: Submissions) -> Iterator[list[int]]:
    """The size of each batch that is sent while the block runs."""
    sizes: list[int] = []
    engine = submissions.database.engine.sync_engine

    def sent(_c: Any, _cursor: Any, sql: str, parameters: Sequence[Any], *_: Any) -> None:
        if "INSERT INTO tasks" in sql:
            sizes.append(max(len(one) for one in parameters if isinstance(one, list)))

    event.listen(engine, "before_cursor_execute", sent)
    yield sizes
    event.remove(engine, "before_cursor_execute", sent)


def start(submissions: Submissions, news: Sequence[NewTask]) -> list[asyncio.Task[Submission]]:
    return [asyncio.create_task(submissions.submit(new)) for new in news]


async def all_made(
    submissions: Submissions, news: Sequence[NewTask]
) -> Sequence[Submission | BaseException]:
    running = start(submissions, news)
    return await asyncio.gather(*running, return_exceptions=True)


def ids(made: Sequence[Submission | BaseException]) -> list[UUID]:
    """Of the tasks; that there are no errors among them is held, too."""
    assert [one for one in made if isinstance(one, BaseException)] == []
    return [one.task["id"] for one in made if isinstance(one, Submission)]


async def goals(database: Database) -> set[str]:
    return {one["goal"] for one in await rows(database, "SELECT input->>'goal' AS goal FROM tasks")}


# --- natural batching ---


async def test_one_that_comes_alone_is_one_statement(submissions: Submissions) -> None:
    with inserts_of(submissions) as sizes:
        for _ in range(3):
            await submissions.submit(new_task())
    assert sizes == [1, 1, 1]


async def test_those_that_come_at_once_share_a_commit(
    submissions: Submissions, database: Database
) -> None:
    news = [new_task(f"Goal {n}") for n in range(100)]
    with inserts_of(submissions) as sizes:
        made = await all_made(submissions, news)
    assert sizes == [100]
    assert ids(made) == [new.id for new in news]
    assert await goals(database) == {f"Goal {n}" for n in range(100)}
    assert await stored(database) == (100, 100, 100)


async def test_those_that_come_during_a_commit_are_the_next_batch(
    frail: Submissions, wire: Wire, database: Database
) -> None:
    wire.strikes.append("hold")
    with inserts_of(frail) as sizes:
        first = start(frail, [new_task()])
        await wire.holding.wait()
        others = start(frail, [new_task() for _ in range(50)])
        wire.released.set()
        await asyncio.gather(*first, *others)
    assert sizes == [1, 50]
    assert await stored(database) == (51, 51, 51)


async def test_a_batch_has_a_limit(submissions: Submissions, database: Database) -> None:
    count = 2 * MOST + 1
    with inserts_of(submissions) as sizes:
        ids(await all_made(submissions, [new_task() for _ in range(count)]))
    assert sizes == [MOST, MOST, 1]
    assert await stored(database) == (count, count, count)


async def test_each_task_of_a_batch_is_logged_and_counted_once(
    submissions: Submissions, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = structlog.testing.LogCapture()
    monkeypatch.setattr(submission, "log", structlog.wrap_logger(None, processors=[lines]))
    before = metrics.ACCEPTED._value.get()
    news = [new_task(key=f"{n % 10}") for n in range(20)]
    made = set(ids(await all_made(submissions, news)))
    logged = [line["task_id"] for line in lines.entries if line["event"] == logs.TASK_COMMITTED]
    assert Counter(logged) == Counter(made)
    assert metrics.ACCEPTED._value.get() == before + 10


# --- nobody pays for a neighbour ---

BAD: dict[str, dict[str, Any]] = {
    "not JSON": {"input": "not JSON"},
    "NUL in JSON": {"input": '{"goal": "a\\u0000b"}'},
    "half of a surrogate pair": {"input": '{"goal": "\ud800"}'},
    "NUL in a key": {"idempotency_key": "a\0b"},
    "key too long for an index": {"idempotency_key": "".join(map(chr, range(99, 30_000)))},
    "no such priority": {"priority": 9},
    "priority beyond its type": {"priority": 99_999},
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
async def test_a_bad_row_fails_alone(
    submissions: Submissions, database: Database, bad: dict[str, Any]
) -> None:
    news = [new_task(f"Goal {n}") for n in range(20)]
    news[7] = replace(news[7], **bad)
    made = list(await all_made(submissions, news))
    error = made.pop(7)
    assert isinstance(error, DBAPIError)
    assert not connection_lost(error)
    assert ids(made) == [new.id for new in news if new is not news[7]]
    assert await stored(database) == (19, 19, 19)

    with inserts_of(submissions) as sizes:
        ids(await all_made(submissions, [new_task() for _ in range(20)]))
    assert sizes == [20]


async def test_one_key_twice_in_a_batch_is_one_task(
    submissions: Submissions, database: Database
) -> None:
    news = [new_task(f"Goal {n}") for n in range(5)]
    twins = [new_task("Learn SQL", key="k") for _ in range(3)]
    other = new_task("Learn Git", key="k")
    with inserts_of(submissions) as sizes:
        made = await all_made(submissions, [*news, *twins, other])
    assert sizes == [9]
    assert ids(made[:5]) == [new.id for new in news]
    by_twins = [one for one in made[5:8] if isinstance(one, Submission)]
    winner = made[8]
    if isinstance(winner, Submission):  # whose id is smallest comes first
        assert all(isinstance(one, Problem) for one in made[5:8])
    else:
        assert isinstance(winner, Problem)
        assert len({one.task["id"] for one in by_twins}) == 1
        assert sorted(one.replayed for one in by_twins) == [False, True, True]
    assert await stored(database) == (6, 6, 6)


async def test_who_hangs_up_stops_nobody_else(
    frail: Submissions, wire: Wire, database: Database
) -> None:
    wire.strikes.append("hold")
    first = start(frail, [new_task(f"first {n}") for n in range(10)])
    await wire.holding.wait()
    second = start(frail, [new_task(f"second {n}") for n in range(10)])
    await asyncio.sleep(0)  # they get in line
    for hung_up in (first[3], second[4]):
        hung_up.cancel()
    await asyncio.wait({first[3], second[4]})
    wire.released.set()
    made = await asyncio.gather(*first, *second, return_exceptions=True)
    assert [n for n, one in enumerate(made) if isinstance(one, asyncio.CancelledError)] == [3, 14]
    ids([*made[:3], *made[4:14], *made[15:]])
    # Whose insert was on its way is written; who still waited is not.
    written = {f"{which} {n}" for which in ("first", "second") for n in range(10)}
    assert await goals(database) == written - {"second 4"}


@pytest.mark.parametrize("rival_commits", [True, False])
async def test_a_rival_that_holds_a_key_holds_up_only_who_wants_it(
    submissions: Submissions, database: Database, settings: Settings, rival_commits: bool
) -> None:
    wanted = [new_task(key=f"held {n}") for n in range(3)]
    others = [new_task(key=f"free {n}") for n in range(30)]
    apart = Database(settings, "rival")
    try:
        async with apart.begin() as session:
            for new in wanted:
                await session.execute(
                    text(RIVAL), {"key": new.idempotency_key, "hash": new.request_hash}
                )
            blocked = start(submissions, wanted)
            assert ids(await all_made(submissions, others)) == [new.id for new in others]

            # Nor does it disturb the batches that come later, or who reads.
            with inserts_of(submissions) as sizes:
                ids(await all_made(submissions, [new_task() for _ in range(30)]))
            assert max(sizes) == 30
            assert len(await rows(database, "SELECT 1 FROM tasks")) == 60
            assert not any(one.done() for one in blocked)
            if not rival_commits:
                await session.rollback()
        made = await asyncio.gather(*blocked)
    finally:
        await apart.close()
    assert [one.replayed for one in made] == [rival_commits] * 3
    assert len(await rows(database, "SELECT 1 FROM tasks")) == 63


RIVAL = """
    INSERT INTO tasks (id, idempotency_key, request_hash, input)
    VALUES (gen_random_uuid(), :key, :hash, '{}')
"""


async def test_two_processes_with_crossing_keys_do_not_deadlock(
    submissions: Submissions,
    frail: Submissions,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(submission, "PATIENCE", "9s")  # longer than PostgreSQL's own search
    errors: list[str] = []
    for one in (submissions, frail):
        engine = one.database.engine.sync_engine
        event.listen(
            engine, "handle_error", lambda e: errors.append(sqlstate(e.sqlalchemy_exception))
        )
    for turn in range(20):
        keys = [f"{turn} {n}" for n in range(100)]
        ours, theirs = await asyncio.gather(
            all_made(submissions, [new_task(key=key) for key in keys]),
            all_made(frail, [new_task(key=key) for key in reversed(keys)]),
        )
        assert ids(ours) == ids(theirs)[::-1]
    assert errors == []
    assert await stored(database) == (2000, 2000, 2000)


# --- when the database is lost ---


@pytest.mark.parametrize(
    "strikes",
    [["lose the reply"], ["lose the request"], ["lose the reply", "lose the request"]],
    ids=", ".join,
)
async def test_a_batch_whose_outcome_is_unknown_ends_as_one_task_each(
    frail: Submissions, database: Database, wire: Wire, strikes: list[Strike]
) -> None:
    before = metrics.ACCEPTED._value.get()
    wire.strikes.extend(strikes)
    news = [new_task(f"Goal {n}", key=f"{n}" if n % 2 else None) for n in range(40)]
    made = await all_made(frail, news)
    assert wire.strikes == []
    assert ids(made) == [new.id for new in news]
    assert not any(one.replayed for one in made if isinstance(one, Submission))
    assert await stored(database) == (40, 40, 40)
    assert metrics.ACCEPTED._value.get() == before + 40


async def test_while_the_database_is_silent_each_waits_as_long_as_it_may_and_no_longer(
    settings: Settings, database: Database, wire: Wire
) -> None:
    async with over(wire, settings, database_command_timeout=0.5) as frail:
        await frail.submit(new_task())
        wire.frozen = True
        running = start(frail, [new_task() for _ in range(20)])
        await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        running += start(frail, [new_task() for _ in range(20)])
        made = await asyncio.gather(*running, return_exceptions=True)
        assert all(isinstance(one, Exception) and connection_lost(one) for one in made)
        wire.frozen = False

        async def recovered() -> None:
            assert isinstance((await all_made(frail, [new_task()]))[0], Submission)

        await eventually(recovered)


async def test_a_batch_that_hangs_does_not_hold_up_the_next(
    frail: Submissions, wire: Wire, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_commit, "SLOW", 0.05)
    wire.strikes.append("hold")
    hanging = start(frail, [new_task()])
    await wire.holding.wait()
    ids(await all_made(frail, [new_task() for _ in range(10)]))
    assert not hanging[0].done()
    wire.released.set()
    ids(await asyncio.gather(*hanging))
    assert await stored(database) == (11, 11, 11)


# --- the end ---


async def test_closing_finishes_what_is_pending(
    frail: Submissions, wire: Wire, database: Database
) -> None:
    wire.strikes.append("hold")
    running = start(frail, [new_task() for _ in range(10)])
    await wire.holding.wait()
    running += start(frail, [new_task() for _ in range(10)])
    await asyncio.sleep(0)  # they get in line
    closing = asyncio.create_task(frail.close())
    assert await stored(database) == NOTHING
    assert not closing.done()
    wire.released.set()
    await closing
    assert await stored(database) == (20, 20, 20)
    ids(await asyncio.gather(*running))
    await frail.close()
    assert (await row(database, "SELECT count(*) AS count FROM tasks"))["count"] == 20
