"""WRITE IT DOWN, against a real PostgreSQL: all or nothing, once per key, whatever breaks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any, Literal
from urllib.parse import urlsplit

import pytest
import structlog
from pydantic import SecretStr
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError

from api_service import submission
from api_service.problems import Problem
from api_service.submission import TRIES, submit
from shared import logs, metrics
from shared.database import Database, connection_lost
from shared.settings import Settings
from tests.eventually import eventually
from tests.factories import event_types, execute, new_task, row, rows

Strike = Literal["lose the request", "lose the reply", "hold"]


class Wire:
    """A TCP proxy in front of PostgreSQL: it can refuse calls, and strike when it hears COMMIT."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._server: asyncio.Server | None = None
        self._calls: set[asyncio.Task[None]] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self.refusals = 0
        self.strikes: list[Strike] = []
        self.frozen = False
        self.holding = asyncio.Event()
        self.released = asyncio.Event()

    @property
    def url(self) -> str:
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        return self._target.geturl().replace(f":{self._target.port}/", f":{port}/")

    async def open(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._call, "127.0.0.1", port)

    async def close(self) -> None:
        """As if the server were gone: new connections are refused, open ones break."""
        assert self._server is not None
        self._server.close()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._calls)

    async def _call(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if self.refusals:
            self.refusals -= 1
            to_client.close()
            return
        self._calls.add(task)
        server, to_server = await asyncio.open_connection(self._target.hostname, self._target.port)
        answers = asyncio.create_task(_forward(server, to_client))
        requests = asyncio.create_task(self._listen_for_commit(client, server, to_server, answers))
        self._pumps |= {answers, requests}
        await asyncio.wait({answers, requests}, return_when=asyncio.FIRST_COMPLETED)
        if not answers.cancelled():
            requests.cancel()
        await asyncio.wait({requests})
        answers.cancel()
        await asyncio.wait({answers})
        self._pumps -= {answers, requests}
        for writer in (to_client, to_server):
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        self._calls.discard(task)

    async def _listen_for_commit(
        self,
        client: asyncio.StreamReader,
        server: asyncio.StreamReader,
        to_server: asyncio.StreamWriter,
        answers: asyncio.Task[None],
    ) -> None:
        while data := await client.read(65536):
            if self.frozen:
                continue
            strike = self.strikes.pop(0) if b"COMMIT;" in data and self.strikes else None
            if strike == "lose the request":
                return
            if strike == "hold":
                self.holding.set()
                await self.released.wait()
            if strike == "lose the reply":
                answers.cancel()
                await asyncio.wait({answers})
                to_server.write(data)
                assert b"COMMIT" in await server.read(65536)
                return
            to_server.write(data)
            await to_server.drain()


async def _forward(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()


@pytest.fixture
async def wire(settings: Settings) -> AsyncIterator[Wire]:
    wire = Wire(settings.require_database())
    await wire.open()
    yield wire
    wire.released.set()
    await wire.close()


@pytest.fixture
async def frail(settings: Settings, database: Database, wire: Wire) -> AsyncIterator[Database]:
    """The same database through the wire; ``database`` looks at it from the safe side."""
    through = settings.model_copy(update={"database_url": SecretStr(wire.url)})
    frail = Database(through, "frail")
    yield frail
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
) -> None:
    made = await submit(database, new_task("Learn SQL", key="k", priority="high"))
    assert not made.replayed
    message = await row(database, "SELECT * FROM outbox_messages")
    assert message["task_id"] == made.task["id"]
    assert (message["dispatch_no"], message["priority"], message["dispatched_at"]) == (1, 1, None)
    assert made.task["input"]["goal"] == "Learn SQL"
    assert made.task["created_at"] == made.task["available_at"] == message["available_at"]
    assert await event_types(database, made.task["id"]) == ["task.accepted"]


@pytest.mark.parametrize("table", ["outbox_messages", "task_events"])
async def test_if_one_part_cannot_be_stored_nothing_is(database: Database, table: str) -> None:
    await execute(database, f"ALTER TABLE {table} ADD CONSTRAINT broken CHECK (false) NOT VALID")
    try:
        with pytest.raises(IntegrityError, match="broken"):
            await submit(database, new_task(key="k"))
    finally:
        await execute(database, f"ALTER TABLE {table} DROP CONSTRAINT broken")
    assert await stored(database) == NOTHING
    assert not (await submit(database, new_task(key="k"))).replayed


async def test_a_submission_is_one_statement_and_one_commit(database: Database) -> None:
    said: list[str] = []
    engine = database.engine.sync_engine

    def statement(_c: Any, _cursor: Any, text: str, *_: Any) -> None:
        said.append(text)

    def committed(_connection: Any) -> None:
        said.append("COMMIT")

    event.listen(engine, "before_cursor_execute", statement)
    event.listen(engine, "commit", committed)
    await submit(database, new_task(key="k"))
    assert len(said) == 2
    assert said[0].lstrip().startswith("WITH task AS")
    assert said[1] == "COMMIT"


async def test_a_task_is_logged_only_when_it_is_committed(
    frail: Database, database: Database, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = structlog.testing.LogCapture()
    monkeypatch.setattr(submission, "log", structlog.wrap_logger(None, processors=[lines]))
    wire.strikes.append("hold")
    new = new_task()
    running = asyncio.create_task(submit(frail, new))
    await wire.holding.wait()
    assert lines.entries == []
    assert await stored(database) == NOTHING

    wire.released.set()
    await running
    assert [line["event"] for line in lines.entries] == [logs.TASK_COMMITTED]
    assert lines.entries[0]["task_id"] == new.id


# --- once per key ---


async def test_without_a_key_each_submission_is_a_task(database: Database) -> None:
    first, second = [await submit(database, new_task()) for _ in range(2)]
    assert first.task["id"] != second.task["id"]
    assert await stored(database) == (2, 2, 2)


async def test_the_same_key_and_body_lead_to_the_same_task(database: Database) -> None:
    before = metrics.ACCEPTED._value.get()
    first, second = [await submit(database, new_task(key="k")) for _ in range(2)]
    assert (first.replayed, second.replayed) == (False, True)
    assert first.task["id"] == second.task["id"]
    assert await stored(database) == ONE_TASK
    assert metrics.ACCEPTED._value.get() == before + 1


async def test_a_replay_shows_the_task_as_it_is_now(database: Database) -> None:
    await submit(database, new_task(key="k"))
    await execute(database, "UPDATE tasks SET status = 'canceled', finished_at = now()")
    await execute(database, "DELETE FROM outbox_messages")
    replay = await submit(database, new_task(key="k"))
    assert replay.task["status"] == "canceled"
    assert await stored(database) == (1, 0, 1)


async def test_a_key_used_for_another_body_is_refused_and_the_first_task_stays(
    database: Database,
) -> None:
    first = await submit(database, new_task("Learn SQL", key="k"))
    with pytest.raises(Problem, match=str(first.task["id"])) as refused:
        await submit(database, new_task("Learn Git", key="k"))
    assert refused.value.slug == "idempotency-key-reused"
    assert await stored(database) == ONE_TASK


async def test_the_same_key_of_two_tenants_is_two_keys(database: Database) -> None:
    ours = await submit(database, new_task(key="k"))
    theirs = await submit(database, replace(new_task("Learn Git", key="k"), tenant_id="other"))
    assert not theirs.replayed
    assert ours.task["id"] != theirs.task["id"]


async def test_a_hundred_submissions_at_once_under_one_key_are_one_task(
    database: Database, settings: Settings
) -> None:
    other = Database(settings, "other")
    try:
        made = await asyncio.gather(
            *(submit((database, other)[n % 2], new_task(key="k")) for n in range(100))
        )
    finally:
        await other.close()
    assert len({one.task["id"] for one in made}) == 1
    assert [one.replayed for one in made].count(False) == 1
    assert await stored(database) == ONE_TASK


async def test_a_key_raced_for_by_different_bodies_goes_to_one_of_them(
    database: Database,
) -> None:
    made = await asyncio.gather(
        *(submit(database, new_task(f"Goal {n}", key="k")) for n in range(20)),
        return_exceptions=True,
    )
    refused = [one for one in made if isinstance(one, Problem)]
    assert {one.slug for one in refused} == {"idempotency-key-reused"}
    assert len(refused) == 19
    assert await stored(database) == ONE_TASK


@pytest.mark.parametrize("rival_commits", [True, False])
async def test_a_submission_waits_for_a_rival_under_its_key(
    database: Database, frail: Database, wire: Wire, rival_commits: bool
) -> None:
    wire.strikes.append("hold" if rival_commits else "lose the request")
    rival, ours = new_task(key="k"), new_task(key="k")
    if rival_commits:
        first = asyncio.create_task(submit(frail, rival))
        await wire.holding.wait()
        second = asyncio.create_task(submit(database, ours))
        await eventually(lambda: one_waits_for_a_lock(database, "waymark-test"))
        wire.released.set()
        await first
        assert (await second).task["id"] == rival.id
    else:
        async with database.begin() as session:
            await submission._insert_once(session, rival)
            second = asyncio.create_task(submit(frail, ours))
            await eventually(lambda: one_waits_for_a_lock(database, "waymark-frail"))
            await session.rollback()
        assert (await second).task["id"] == ours.id
    assert await stored(database) == ONE_TASK


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
    database: Database, frail: Database
) -> None:
    new = new_task()
    async with database.begin() as session:
        connection = await session.connection()
        await connection.exec_driver_sql("LOCK TABLE outbox_messages IN SHARE MODE")
        running = asyncio.create_task(submit(frail, new))
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
    database: Database, frail: Database, wire: Wire, strikes: Sequence[Strike], key: str | None
) -> None:
    before = metrics.ACCEPTED._value.get()
    wire.strikes.extend(strikes)
    new = new_task(key=key)
    made = await submit(frail, new)
    assert wire.strikes == []
    assert (made.task["id"], made.replayed) == (new.id, False)
    assert await stored(database) == ONE_TASK
    assert metrics.ACCEPTED._value.get() == before + 1


@pytest.mark.parametrize(
    ("strike", "left"), [("lose the request", NOTHING), ("lose the reply", ONE_TASK)]
)
async def test_a_submission_that_gives_up_can_be_repeated_by_the_client(
    database: Database, frail: Database, wire: Wire, strike: Strike, left: tuple[int, int, int]
) -> None:
    wire.strikes.extend([strike] * TRIES)
    with pytest.raises(Exception, match=r".") as given_up:
        await submit(frail, new_task(key="k"))
    assert connection_lost(given_up.value)
    assert wire.strikes == []
    assert await stored(database) == left

    repeated = await submit(frail, new_task(key="k"))
    assert repeated.replayed == (left == ONE_TASK)
    assert await stored(database) == ONE_TASK


async def test_a_canceled_submission_can_be_repeated_by_the_client(
    database: Database, frail: Database, wire: Wire
) -> None:
    wire.strikes.append("hold")
    running = asyncio.create_task(submit(frail, new_task(key="k")))
    await wire.holding.wait()
    running.cancel()
    await asyncio.wait({running})
    assert running.cancelled()
    wire.released.set()
    await submit(frail, new_task(key="k"))
    assert await stored(database) == ONE_TASK
