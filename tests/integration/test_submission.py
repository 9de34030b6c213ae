"""WRITE IT DOWN, against a real PostgreSQL: all or nothing, once per key, whatever breaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest
import structlog
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from api_service import submission
from api_service.problems import Problem
from api_service.queries import task_by_id
from api_service.submission import TRIES, Submissions
from shared import logs, metrics
from shared.database import Database, connection_lost
from shared.settings import Settings
from tests.eventually import eventually
from tests.factories import event_types, execute, new_task, row, rows
from tests.wire import Strike, Wire


@pytest.fixture
async def wire(settings: Settings) -> AsyncIterator[Wire]:
    """It strikes when it hears what the insert carries; each insert is its own transaction."""
    wire = Wire(settings.require_database(), cue=b'"goal"', confirmed_by=b"SELECT 1")
    await wire.open()
    yield wire
    wire.released.set()
    await wire.close()


@pytest.fixture
async def submissions(database: Database) -> AsyncIterator[Submissions]:
    submissions = Submissions(database)
    yield submissions
    await submissions.close()


@pytest.fixture
async def frail(settings: Settings, database: Database, wire: Wire) -> AsyncIterator[Submissions]:
    """To the same database through the wire; ``database`` looks at it from the safe side."""
    through = settings.model_copy(update={"database_url": SecretStr(wire.url)})
    frail = Database(through, "frail")
    yield Submissions(frail)
    await frail.close()


async def stored(database: Database) -> tuple[int, int, int]:
    """How many tasks, outbox messages and events there are."""
    found = await row(
        database,
        """
        SELECT (SELECT count(*) FROM tasks) AS tasks,
               (SELECT count(*) FROM outbox_messages) AS messages,
               (SELECT count(*) FROM task_events) AS events
        """,
    )
    return found["tasks"], found["messages"], found["events"]


NOTHING, ONE_TASK = (0, 0, 0), (1, 1, 1)


# --- one transaction ---


async def test_a_submission_stores_the_task_its_message_and_its_first_event(
    database: Database,
    submissions: Submissions,
) -> None:
    made = await submissions.submit(new_task("Learn SQL", key="k", priority="high"))
    assert not made.replayed
    message = await row(database, "SELECT * FROM outbox_messages")
    assert message["task_id"] == made.task["id"]
    assert (message["dispatch_no"], message["priority"], message["dispatched_at"]) == (1, 1, None)
    assert made.task["input"]["goal"] == "Learn SQL"
    assert message["available_at"] >= made.task["created_at"]
    assert await event_types(database, made.task["id"]) == ["task.accepted"]


@pytest.mark.parametrize("table", ["outbox_messages", "task_events"])
async def test_if_one_part_cannot_be_stored_nothing_is(
    database: Database, submissions: Submissions, table: str
) -> None:
    await execute(database, f"ALTER TABLE {table} ADD CONSTRAINT broken CHECK (false) NOT VALID")
    try:
        with pytest.raises(IntegrityError, match="broken"):
            await submissions.submit(new_task(key="k"))
    finally:
        await execute(database, f"ALTER TABLE {table} DROP CONSTRAINT broken")
    assert await stored(database) == NOTHING
    assert not (await submissions.submit(new_task(key="k"))).replayed


async def test_what_a_submission_says_of_its_task_is_what_is_stored(
    database: Database, submissions: Submissions
) -> None:
    """It knows the row without reading it back."""
    new = new_task("Learn SQL", key="k", priority="low", deadline_seconds=90)
    made = await submissions.submit(new)
    found = await task_by_id(database, "default", new.id)
    assert found is not None
    # When its message is due is PostgreSQL's to say; its place in the queue is not looked at here.
    told = set(made.task) - {"due_at", "position"}
    assert {name: found[name] for name in told} == {name: made.task[name] for name in told}


async def test_a_task_is_logged_only_when_it_is_committed(
    frail: Submissions, database: Database, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = structlog.testing.LogCapture()
    monkeypatch.setattr(submission, "log", structlog.wrap_logger(None, processors=[lines]))
    wire.strikes.append("hold")
    new = new_task()
    running = asyncio.create_task(frail.submit(new))
    await wire.holding.wait()
    assert lines.entries == []
    assert await stored(database) == NOTHING

    wire.released.set()
    await running
    assert [line["event"] for line in lines.entries] == [logs.TASK_COMMITTED]
    assert lines.entries[0]["task_id"] == new.id


# --- once per key ---


async def test_without_a_key_each_submission_is_a_task(
    database: Database, submissions: Submissions
) -> None:
    first, second = [await submissions.submit(new_task()) for _ in range(2)]
    assert first.task["id"] != second.task["id"]
    assert await stored(database) == (2, 2, 2)


async def test_the_same_key_and_body_lead_to_the_same_task(
    database: Database, submissions: Submissions
) -> None:
    before = metrics.ACCEPTED._value.get()
    first, second = [await submissions.submit(new_task(key="k")) for _ in range(2)]
    assert (first.replayed, second.replayed) == (False, True)
    assert first.task["id"] == second.task["id"]
    assert await stored(database) == ONE_TASK
    assert metrics.ACCEPTED._value.get() == before + 1


async def test_a_replay_shows_the_task_as_it_is_now(
    database: Database, submissions: Submissions
) -> None:
    await submissions.submit(new_task(key="k"))
    await execute(database, "UPDATE tasks SET status = 'canceled', finished_at = now()")
    await execute(database, "DELETE FROM outbox_messages")
    replay = await submissions.submit(new_task(key="k"))
    assert replay.task["status"] == "canceled"
    assert await stored(database) == (1, 0, 1)


async def test_a_key_used_for_another_body_is_refused_and_the_first_task_stays(
    database: Database,
    submissions: Submissions,
) -> None:
    first = await submissions.submit(new_task("Learn SQL", key="k"))
    with pytest.raises(Problem, match=str(first.task["id"])) as refused:
        await submissions.submit(new_task("Learn Git", key="k"))
    assert refused.value.slug == "idempotency-key-reused"
    assert await stored(database) == ONE_TASK


async def test_the_same_key_of_two_tenants_is_two_keys(
    database: Database, submissions: Submissions
) -> None:
    ours = await submissions.submit(new_task(key="k"))
    theirs = await submissions.submit(replace(new_task("Learn Git", key="k"), tenant_id="other"))
    assert not theirs.replayed
    assert ours.task["id"] != theirs.task["id"]


async def test_a_hundred_submissions_at_once_under_one_key_are_one_task(
    database: Database, submissions: Submissions, frail: Submissions
) -> None:
    made = await asyncio.gather(
        *((submissions, frail)[n % 2].submit(new_task(key="k")) for n in range(100))
    )
    assert len({one.task["id"] for one in made}) == 1
    assert [one.replayed for one in made].count(False) == 1
    assert await stored(database) == ONE_TASK


async def test_a_key_raced_for_by_different_bodies_goes_to_one_of_them(
    database: Database,
    submissions: Submissions,
) -> None:
    made = await asyncio.gather(
        *(submissions.submit(new_task(f"Goal {n}", key="k")) for n in range(20)),
        return_exceptions=True,
    )
    refused = [one for one in made if isinstance(one, Problem)]
    assert {one.slug for one in refused} == {"idempotency-key-reused"}
    assert len(refused) == 19
    assert await stored(database) == ONE_TASK


@pytest.mark.parametrize("rival_commits", [True, False])
async def test_a_submission_waits_for_a_rival_under_its_key(
    database: Database, submissions: Submissions, rival_commits: bool
) -> None:
    ours = new_task(key="k")
    async with database.begin() as session:
        rival = await session.scalar(text(RIVAL), {"hash": ours.request_hash})
        waiting = asyncio.create_task(submissions.submit(ours))
        await eventually(lambda: one_waits_for_a_lock(database, "waymark-test"))
        if not rival_commits:
            await session.rollback()
    made = await waiting
    assert made.task["id"] == (rival if rival_commits else ours.id)
    assert made.replayed == rival_commits
    assert len(await rows(database, "SELECT 1 FROM tasks")) == 1


RIVAL = """
    INSERT INTO tasks (id, idempotency_key, request_hash, input)
    SELECT gen_random_uuid(), 'k', :hash, '{}' RETURNING id
"""


async def one_waits_for_a_lock(database: Database, who: str) -> None:
    assert await rows(
        database,
        """
        SELECT 1 FROM pg_stat_activity
        WHERE application_name = :who AND wait_event_type = 'Lock' AND query LIKE '%WITH task%'
        """,
        who=who,
    )


# --- connections that break ---


async def test_a_submission_whose_connection_is_killed_ends_as_one_task(
    database: Database, frail: Submissions
) -> None:
    new = new_task()
    async with database.begin() as session:
        connection = await session.connection()
        await connection.exec_driver_sql("LOCK TABLE outbox_messages IN SHARE MODE")
        running = asyncio.create_task(frail.submit(new))
        await eventually(lambda: one_waits_for_a_lock(database, "waymark-frail"))
        killed = await rows(
            database,
            """
            SELECT pg_terminate_backend(pid) AS done FROM pg_stat_activity
            WHERE application_name = 'waymark-frail'
            """,
        )
        assert [one["done"] for one in killed] == [True]
    made = await running
    assert (made.task["id"], made.replayed) == (new.id, False)
    assert await stored(database) == ONE_TASK


@pytest.mark.parametrize("key", [None, "k"])
@pytest.mark.parametrize(
    "strikes",
    [
        ["lose the reply"],
        ["lose the request"],
        ["lose the reply", "lose the reply"],
        ["lose the request", "lose the reply", "lose the request"],
    ],
    ids=", ".join,
)
async def test_a_commit_whose_outcome_is_unknown_ends_as_one_task(
    database: Database, frail: Submissions, wire: Wire, strikes: Sequence[Strike], key: str | None
) -> None:
    before = metrics.ACCEPTED._value.get()
    wire.strikes.extend(strikes)
    new = new_task(key=key)
    made = await frail.submit(new)
    assert wire.strikes == []
    assert (made.task["id"], made.replayed) == (new.id, False)
    assert await stored(database) == ONE_TASK
    assert metrics.ACCEPTED._value.get() == before + 1


@pytest.mark.parametrize(
    ("strike", "left"), [("lose the request", NOTHING), ("lose the reply", ONE_TASK)]
)
async def test_a_submission_that_gives_up_can_be_repeated_by_the_client(
    database: Database, frail: Submissions, wire: Wire, strike: Strike, left: tuple[int, int, int]
) -> None:
    wire.strikes.extend([strike] * TRIES)
    with pytest.raises(Exception, match=r".") as given_up:
        await frail.submit(new_task(key="k"))
    assert connection_lost(given_up.value)
    assert wire.strikes == []
    assert await stored(database) == left

    repeated = await frail.submit(new_task(key="k"))
    assert repeated.replayed == (left == ONE_TASK)
    assert await stored(database) == ONE_TASK


async def test_a_canceled_submission_can_be_repeated_by_the_client(
    database: Database, frail: Submissions, wire: Wire
) -> None:
    wire.strikes.append("hold")
    running = asyncio.create_task(frail.submit(new_task(key="k")))
    await wire.holding.wait()
    running.cancel()
    await asyncio.wait({running})
    assert running.cancelled()
    wire.released.set()
    await frail.submit(new_task(key="k"))
    assert await stored(database) == ONE_TASK
