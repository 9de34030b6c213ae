"""What one message may cost, counted without a clock: round trips, WAL, dead rows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
import redis
from sqlalchemy import event, text

from api_service.submission import Submissions
from relay_service.outbox import PLANNING
from relay_service.publisher import Publisher, connect
from relay_service.relay import Relay
from relay_service.wakeup import Wakeup
from shared.database import Database
from shared.settings import Settings
from tests.eventually import eventually
from tests.factories import carry_all, execute, fill, leases_of, new_task, row, rows

MESSAGES = 800
KIB = 1024


@pytest.fixture
async def relay(
    settings: Settings, database: Database, valkey: redis.Redis, deployment_id: UUID
) -> AsyncIterator[Relay]:
    roomy = settings.model_copy(update={"relay_window": 100_000})
    planned, client = Database(roomy, "relay", PLANNING), connect(roomy)
    relay = Relay(roomy, planned, Publisher(client), Wakeup(planned), deployment_id)
    await fill(database, 1)
    await carry_all(relay)  # scripts loaded, statements prepared, lanes known
    yield relay
    await client.aclose()
    await planned.close()


async def test_the_relay_needs_few_round_trips_per_message(
    relay: Relay, database: Database, valkey: redis.Redis
) -> None:
    to_postgres: list[object] = []
    for name in ("before_cursor_execute", "begin", "commit"):
        event.listen(
            relay.database.engine.sync_engine, name, lambda *args: to_postgres.append(args)
        )
    await fill(database, MESSAGES)
    before = calls(valkey)
    assert await carry_all(relay) == MESSAGES
    assert len(to_postgres) <= 0.05 * MESSAGES
    assert calls(valkey) - before <= 0.02 * MESSAGES


def calls(valkey: redis.Redis) -> int:
    """Round trips, not what scripts call within."""
    found = valkey.info("commandstats")
    sent = ("cmdstat_evalsha", "cmdstat_eval", "cmdstat_lrange", "cmdstat_ping")
    return sum(found[name]["calls"] for name in sent if name in found)


async def test_a_message_costs_little_wal_from_its_acceptance_until_it_is_taken(
    relay: Relay, database: Database
) -> None:
    await execute_alone(database, "CHECKPOINT")
    before = await wal(database)
    submissions = Submissions(database)
    accepted = await asyncio.gather(*(submissions.submit(new_task()) for _ in range(MESSAGES)))
    assert await carry_all(relay) == MESSAGES
    leases = leases_of(database, owner="host:1")
    for one in accepted:
        assert await leases.acquire(one.task["id"])
    assert (await wal(database) - before) / MESSAGES <= 2.5 * KIB


async def execute_alone(database: Database, sql: str) -> None:
    async with database.autocommit() as connection:
        await connection.execute(text(sql))


async def wal(database: Database) -> int:
    sql = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0') AS bytes"
    return int((await row(database, sql))["bytes"])


async def test_a_message_leaves_two_dead_rows_and_its_settling_touches_no_index(
    relay: Relay, database: Database
) -> None:
    before = await written(database)
    await fill(database, MESSAGES)
    await carry_all(relay)
    await execute(database, "DELETE FROM outbox_messages WHERE dispatched_at IS NOT NULL")

    async def counted() -> None:
        after = await written(database)
        assert after["died"] - before["died"] >= 2 * MESSAGES
        updates = after["updated"] - before["updated"]
        assert after["died"] - before["died"] <= 2 * MESSAGES + 2  # the fixture's own
        assert after["hot"] - before["hot"] >= 0.9 * updates

    await eventually(counted)


async def written(database: Database) -> dict[str, int]:
    sql = """
        SELECT n_tup_upd AS updated, n_tup_hot_upd AS hot, n_tup_upd + n_tup_del AS died
        FROM pg_stat_user_tables WHERE relname = 'outbox_messages'
    """
    await rows(database, "SELECT pg_stat_force_next_flush()")
    return dict(await row(database, sql))
