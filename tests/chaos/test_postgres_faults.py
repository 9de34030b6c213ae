"""PostgreSQL in trouble: the relay waits, charges nothing, and carries on by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import redis
from pydantic import SecretStr
from sqlalchemy import text
from structlog.testing import capture_logs

from relay_service import wakeup
from relay_service.wakeup import Wakeup
from shared import logs
from shared.database import Database
from shared.settings import Settings
from tests.chaos.relays import (
    Lines,
    each_rings_once,
    nothing_was_charged,
    queued,
    relay_at_work,
    waiting,
    waits,
)
from tests.chaos.standby import standby_of
from tests.conftest import Servers
from tests.eventually import eventually
from tests.factories import execute, fill, rows
from tests.wire import Wire


@pytest.fixture
async def wire(settings: Settings) -> AsyncIterator[Wire]:
    wire = Wire(settings.require_database())
    await wire.open()
    yield wire
    await wire.close()


def through(settings: Settings, url: str, **changes: Any) -> Settings:
    return settings.model_copy(update={"database_url": SecretStr(url), **changes})


# --- trouble that passes ---


@asynccontextmanager
async def full_disk(database: Database) -> AsyncIterator[None]:
    """PostgreSQL's own error for it, on whatever the relay would note."""
    await execute(
        database,
        """
        CREATE FUNCTION disk_is_full() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE 'no space left on device' USING ERRCODE = 'disk_full'; END $$
        """,
    )
    planted = "CREATE TRIGGER disk_is_full BEFORE UPDATE ON outbox_messages"
    await execute(database, f"{planted} FOR EACH ROW EXECUTE FUNCTION disk_is_full()")
    try:
        yield
    finally:
        await execute(database, "DROP FUNCTION disk_is_full CASCADE")


async def test_a_full_disk_is_waited_out_and_what_redis_took_meanwhile_is_not_doubled(
    settings: Settings, database: Database, deployment_id: UUID, valkey: redis.Redis
) -> None:
    async with relay_at_work(settings, deployment_id):
        with capture_logs() as lines:
            async with full_disk(database):
                accepted = await fill(database, 5)
                await waits(lines, "no space left")
                assert sorted(queued(valkey)) == sorted(accepted)
                assert await waiting(database) == sorted(accepted)
            await each_rings_once(valkey, database, accepted)
    assert {line["repeated"] for line in lines if line["event"] == logs.TASK_DISPATCHED} == {5}
    await nothing_was_charged(database, accepted)


@asynccontextmanager
async def lock_on(table: str, database: Database) -> AsyncIterator[None]:
    async with database.begin() as session:
        await session.execute(text(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
        yield


@pytest.mark.parametrize("table", ["outbox_messages", "tasks", "deployment"])
async def test_a_lock_that_somebody_holds_for_too_long_is_waited_out(
    settings: Settings, database: Database, deployment_id: UUID, valkey: redis.Redis, table: str
) -> None:
    """With the smallest pool, so that the loops wait for each other's connections, too."""
    limits = {"database_lock_timeout": 0.2, "database_command_timeout": 0.5, "database_pool": 2}
    hasty = settings.model_copy(update=limits)
    accepted = await fill(database, 5)
    async with AsyncExitStack() as held:
        await held.enter_async_context(lock_on(table, database))
        async with relay_at_work(hasty, deployment_id):
            with capture_logs() as lines:
                await waits(lines, "lock timeout", times=3)
            assert queued(valkey) == []
            await held.aclose()
            await each_rings_once(valkey, database, accepted)
    await nothing_was_charged(database, accepted)


async def test_a_listener_that_finds_no_free_connection_tries_again(
    settings: Settings, database: Database
) -> None:
    """All may be in hand while PostgreSQL stands still; the relay must outlive that."""
    limits = {"database_command_timeout": 0.3, "database_pool": 2}
    small = Database(settings.model_copy(update=limits), "relay")
    listener = Wakeup(small)
    with capture_logs() as lines:
        async with asyncio.TaskGroup() as group:
            async with small.begin(), small.begin():
                group.create_task(listener.listen())
                await logged(lines, "listen_failed")
            await logged(lines, "doorbell_heard")
            listener.stop()
    await small.close()


async def logged(lines: Lines, event: str) -> None:
    async def said() -> None:
        assert event in [line["event"] for line in lines]

    await eventually(said)


# --- another server ---


@asynccontextmanager
async def demoted(database: Database) -> AsyncIterator[None]:
    """Its sessions stay, and may only read."""
    await alter_system(database, "SET default_transaction_read_only = on")
    try:
        yield
    finally:
        await alter_system(database, "RESET default_transaction_read_only")


async def alter_system(database: Database, what: str) -> None:
    async with database.autocommit() as connection:
        await connection.execute(text(f"ALTER SYSTEM {what}"))
        await connection.execute(text("SELECT pg_reload_conf()"))


@asynccontextmanager
async def writing_to(settings: Settings) -> AsyncIterator[Database]:
    """Whatever the server's default says."""
    database = Database(settings, "test", {"default_transaction_read_only": "off"})
    yield database
    await database.close()


@pytest.mark.parametrize("sessions", ["are cut", "stay open"])
async def test_a_relay_follows_when_its_primary_is_demoted_and_a_standby_is_promoted(
    sessions: str,
    settings: Settings,
    servers: Servers,
    database: Database,
    deployment_id: UUID,
    valkey: redis.Redis,
    wire: Wire,
    tmp_path: Path,
) -> None:
    async with AsyncExitStack() as stack:
        standby = stack.enter_context(standby_of(servers.postgres, tmp_path / "standby"))
        old = await stack.enter_async_context(writing_to(settings))
        new = await stack.enter_async_context(writing_to(through(settings, standby.url)))
        async with relay_at_work(through(settings, wire.url), deployment_id):
            before = await fill(old, 5)
            await each_rings_once(valkey, old, before)
            async with demoted(database):
                with capture_logs() as lines:
                    meanwhile = await fill(old, 5)
                    await waits(lines, "read-only transaction")
                await eventually(lambda: has_all(new, before + meanwhile))
                await execute(new, "SELECT pg_promote()")
                wire.lead_to(standby.url)
                if sessions == "are cut":
                    await wire.cut()
                since = await fill(new, 5)
                await each_rings_once(valkey, new, before + meanwhile + since)
        await nothing_was_charged(new, before + meanwhile + since)


async def has_all(database: Database, accepted: list[UUID]) -> None:
    """It has replayed what was committed."""
    assert len(await rows(database, "SELECT 1 FROM outbox_messages")) == len(accepted)


# --- a pooler in between ---


async def test_a_pooler_that_swallows_the_doorbell_is_noticed_and_polling_carries_everything(
    settings: Settings,
    database: Database,
    deployment_id: UUID,
    valkey: redis.Redis,
    wire: Wire,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wakeup, "PROOF", 0.3)
    wire.swallows = b"A"  # NotificationResponse
    pooled = through(settings, f"{wire.url}?sslmode=disable", relay_poll_listening=3600.0)
    with capture_logs() as lines:
        async with relay_at_work(pooled, deployment_id) as relay:
            await logged(lines, "doorbell_not_heard")
            assert relay.wakeup.poll == settings.relay_poll
            accepted = await fill(database, 5)
            await each_rings_once(valkey, database, accepted)
    await nothing_was_charged(database, accepted)


async def test_a_doorbell_that_is_heard_makes_the_polls_rare_and_carries_everything(
    settings: Settings, database: Database, deployment_id: UUID, valkey: redis.Redis, wire: Wire
) -> None:
    direct = through(settings, wire.url, relay_poll_listening=3600.0)
    with capture_logs() as lines:
        async with relay_at_work(direct, deployment_id) as relay:
            await logged(lines, "doorbell_heard")
            assert relay.wakeup.poll == 3600.0
            accepted = await fill(database, 5)
            await execute(database, "NOTIFY waymark_outbox")
            await each_rings_once(valkey, database, accepted)
    await nothing_was_charged(database, accepted)
