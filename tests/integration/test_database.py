"""Connections to a real PostgreSQL: had, lost, told apart, and the first look at start."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from shared.database import Database, connection_lost, retriable, sqlstate, wait_for_database
from shared.errors import StartupError
from shared.migrate import REVISION
from shared.settings import Settings
from tests.conftest import Servers
from tests.eventually import eventually
from tests.factories import execute, row, rows
from tests.wire import Wire

INSERT = text("INSERT INTO task_events (task_id, seq, type) VALUES (gen_random_uuid(), 1, 'x')")


@pytest.fixture
async def wire(settings: Settings) -> AsyncIterator[Wire]:
    wire = Wire(settings.require_database())
    await wire.open()
    yield wire
    await wire.close()


def through(settings: Settings, url: str, **changes: Any) -> Database:
    return Database(
        settings.model_copy(update={"database_url": SecretStr(url), **changes}), "probe"
    )


async def count(database: Database) -> int:
    return len(await rows(database, "SELECT 1 FROM task_events"))


# --- transactions ---


async def test_a_block_that_ends_well_is_committed(database: Database) -> None:
    async with database.begin() as session:
        await session.execute(INSERT)
        assert await count(database) == 0
    assert await count(database) == 1


async def test_a_block_that_raises_is_rolled_back_and_its_connection_is_given_back(
    database: Database,
) -> None:
    for _ in range(database.settings.database_pool + 1):
        with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the block is the subject
            async with database.begin() as session:
                await session.execute(INSERT)
                raise ZeroDivisionError
    assert await count(database) == 0


async def test_the_server_knows_our_limits_and_our_name(settings: Settings) -> None:
    limits = {"database_command_timeout": 7.0, "database_lock_timeout": 2.5}
    database = through(settings, settings.require_database(), **limits)
    try:
        for name, value in {
            "application_name": "waymark-probe",
            "timezone": "UTC",
            "statement_timeout": "7s",
            "lock_timeout": "2500ms",
            "idle_in_transaction_session_timeout": "7s",
        }.items():
            assert list((await row(database, f"SHOW {name}")).values()) == [value]
    finally:
        await database.close()


# --- connections that are lost ---


async def test_a_connection_that_died_while_idle_is_not_handed_out(
    settings: Settings, database: Database
) -> None:
    probe = through(settings, settings.require_database())
    try:
        await execute(probe, "SELECT 1")
        sql = "FROM pg_stat_activity WHERE application_name = 'waymark-probe'"
        assert await rows(database, f"SELECT pg_terminate_backend(pid, 5000) {sql}")
        assert await rows(database, f"SELECT pid {sql}") == []
        await execute(probe, "SELECT 1")
    finally:
        await probe.close()


@pytest.mark.parametrize("refusals", [1, 2])
async def test_a_connection_is_asked_for_three_times(
    settings: Settings, wire: Wire, refusals: int
) -> None:
    probe = through(settings, wire.url)
    wire.refusals = refusals
    try:
        await execute(probe, "SELECT 1")
        assert wire.refusals == 0
    finally:
        await probe.close()


async def test_after_three_refusals_the_caller_is_told(settings: Settings, wire: Wire) -> None:
    probe = through(settings, wire.url)
    wire.refusals = 4
    try:
        with pytest.raises(Exception, match=r".") as told:
            await execute(probe, "SELECT 1")
        assert wire.refusals == 1
        assert connection_lost(told.value)
    finally:
        await probe.close()


async def test_a_statement_whose_connection_dies_is_not_repeated_behind_the_caller(
    settings: Settings, database: Database
) -> None:
    with pytest.raises(DBAPIError) as told:  # noqa: PT012 - the block is the subject
        async with database.begin() as session:
            await session.execute(INSERT)
            await session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    assert connection_lost(told.value)
    assert await count(database) == 0


async def test_a_transaction_that_sleeps_too_long_is_ended_by_the_server(
    settings: Settings, database: Database
) -> None:
    """Or a frozen process would hold its locks for ever."""
    probe = through(settings, settings.require_database(), database_command_timeout=0.2)

    async def gone() -> None:
        sql = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'waymark-probe'"
        assert await rows(database, sql) == []

    try:
        with pytest.raises(Exception, match=r".") as told:  # noqa: PT012 - as above
            async with probe.begin() as session:
                await session.execute(INSERT)
                await eventually(gone)
                await session.execute(INSERT)
        assert connection_lost(told.value)
    finally:
        await probe.close()
    assert await count(database) == 0


async def test_a_server_that_does_not_answer_does_not_hold_up_our_end(
    settings: Settings, wire: Wire
) -> None:
    probe = through(settings, wire.url, database_command_timeout=60.0)
    await execute(probe, "SELECT 1")
    wire.frozen = True
    async with asyncio.timeout(20):
        await probe.close()


# --- what an error means ---


@pytest.mark.parametrize(
    ("state", "lost", "again"),
    [
        ("08006", True, True),  # connection failure
        ("57P01", True, True),  # admin shutdown
        ("57P03", True, True),  # cannot connect now
        ("53300", True, True),  # too many connections
        ("25006", True, True),  # read-only: a demoted primary
        ("40001", False, True),  # serialization failure
        ("40P01", False, True),  # deadlock
        ("55P03", False, True),  # lock not available
        ("23505", False, False),  # unique violation
        ("42601", False, False),  # syntax error
        ("P0001", False, False),  # raised by hand
    ],
)
async def test_an_error_of_the_server_says_whether_to_try_again(
    database: Database, state: str, lost: bool, again: bool
) -> None:
    with pytest.raises(DBAPIError) as told:
        await execute(database, f"DO $$ BEGIN RAISE SQLSTATE '{state}'; END $$")
    assert sqlstate(told.value) == state
    assert (connection_lost(told.value), retriable(told.value)) == (lost, again)


async def test_a_lock_is_not_waited_for_without_end(settings: Settings, database: Database) -> None:
    hasty = through(settings, settings.require_database(), database_lock_timeout=0.1)
    try:
        async with database.begin() as session:
            await session.execute(text("LOCK TABLE task_events"))
            with pytest.raises(DBAPIError) as told:
                await execute(hasty, INSERT.text)
    finally:
        await hasty.close()
    assert sqlstate(told.value) == "55P03"
    assert retriable(told.value)


async def test_a_pool_that_is_empty_for_too_long_is_told_as_a_lost_connection(
    settings: Settings,
) -> None:
    small = through(
        settings, settings.require_database(), database_pool=1, database_command_timeout=0.3
    )
    try:
        with pytest.raises(PoolTimeout) as told:
            async with small.begin(), small.begin():
                pass
        assert connection_lost(told.value)
    finally:
        await small.close()


def test_an_error_of_ours_is_no_reason_to_try_again() -> None:
    for error in (ValueError("x"), RuntimeError("x"), StartupError("x"), KeyError("x")):
        assert not retriable(error)


# --- the first look ---


async def refusal(settings: Settings, url: str, connect_timeout: float = 5) -> str:
    limits = {"startup_timeout": 0.2, "database_connect_timeout": connect_timeout}
    probe = through(settings, url, **limits)
    try:
        with pytest.raises(StartupError) as refused:
            await wait_for_database(probe, REVISION)
        return str(refused.value)
    finally:
        await probe.close()


async def test_a_current_database_tells_its_deployment(
    database: Database, deployment_id: UUID
) -> None:
    assert await wait_for_database(database, REVISION) == deployment_id


async def test_a_database_that_appears_in_time_is_waited_for(
    settings: Settings, wire: Wire, deployment_id: UUID
) -> None:
    wire.refusals = 7  # of three calls each: the third look succeeds
    probe = through(settings, wire.url, startup_timeout=30.0)
    try:
        assert await wait_for_database(probe, REVISION) == deployment_id
        assert wire.refusals == 0
    finally:
        await probe.close()


async def test_an_older_schema_is_refused_and_a_newer_one_is_not(
    database: Database, deployment_id: UUID
) -> None:
    with pytest.raises(StartupError, match=f"is at {REVISION}, this release needs 0099: run `way"):
        await wait_for_database(database, "0099")
    assert await wait_for_database(database, "0000") == deployment_id


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("127.0.0.1:1", "PostgreSQL at 127.0.0.1:1/waymark did not answer within 0.2 s"),
        ("127.0.0.1:1,127.0.0.1:2", "PostgreSQL at 127.0.0.1:1,127.0.0.1:2/waymark did not"),
        ("nowhere.invalid", "PostgreSQL at nowhere.invalid/waymark did not answer"),
        ("localhost:port", "WAYMARK_DATABASE_URL is not usable: "),
        ("127.0.0.1:99999", "WAYMARK_DATABASE_URL is not usable: "),
    ],
)
async def test_a_place_without_a_database_is_named_without_the_password(
    settings: Settings, place: str, told: str
) -> None:
    said = await refusal(settings, f"postgresql://waymark:s3cret@{place}/waymark")
    assert told in said
    assert "s3cret" not in said


async def test_an_option_that_does_not_exist_is_told(settings: Settings) -> None:
    said = await refusal(settings, "postgresql://u@localhost/db?sslmode=mostly")
    assert "refused: `sslmode` parameter must be one of" in said


async def test_another_kind_of_server_is_told(settings: Settings, servers: Servers) -> None:
    port = urlsplit(servers.valkey.url).port
    said = await refusal(settings, f"postgresql://waymark@127.0.0.1:{port}/waymark", 0.3)
    assert "did not answer within 0.2 s" in said


async def test_a_database_that_does_not_exist_is_told(settings: Settings) -> None:
    url = settings.require_database().rpartition("/")[0] + "/nowhere"
    assert 'refused: database "nowhere" does not exist' in await refusal(settings, url)


async def test_a_user_without_rights_is_told(settings: Settings, database: Database) -> None:
    await execute(database, "CREATE ROLE visitor LOGIN PASSWORD 'x'")
    parts = urlsplit(settings.require_database())
    url = parts._replace(netloc=f"visitor:x@{parts.hostname}:{parts.port}").geturl()
    try:
        assert "refused: permission denied for table" in await refusal(settings, url)
    finally:
        await execute(database, "DROP ROLE visitor")
