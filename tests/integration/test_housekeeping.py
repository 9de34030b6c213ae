"""Retention: what is over goes, all of it and nothing else; and what the gauges count."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest
from sqlalchemy import text

from relay_service import gauges, housekeeping
from relay_service.gauges import Gauges
from relay_service.housekeeping import Housekeeper
from relay_service.outbox import PLANNING
from shared import metrics
from shared.database import Database
from shared.settings import Settings
from tests.factories import accept, execute, leases_of, row, rows, task
from worker_service.statements import COMPLETE

LONG_AGO = 31
"""Days; retention is 30 in these tests."""

TABLES = ("tasks", "roadmaps", "task_events", "dead_letters", "operator_acts", "outbox_messages")


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"retention_days": 30})


@pytest.fixture
def housekeeper(settings: Settings, database: Database) -> Housekeeper:
    return Housekeeper(settings, database)


# An ended task never changes, so it has to be born old. Its id says when that was.
BORN_OLD = """
    WITH born AS (
        SELECT CAST(overlay(replace(CAST(gen_random_uuid() AS text), '-', '') PLACING
            lpad(to_hex(CAST(extract(epoch FROM at) * 1000 AS bigint)), 12, '0') || '7'
            FROM 1 FOR 13) AS uuid) AS id, at
        FROM (SELECT now() - make_interval(days => :age) AS at) AS birth
    ), task AS (
        INSERT INTO tasks (id, request_hash, input, version, created_at, status, stage, finished_at,
                           roadmap_id, error, lease_owner, lease_expires_at)
        SELECT id, '', '{}', 3, at, :status, 'done',
               CASE WHEN :status NOT IN ('queued', 'running')
                    THEN now() - make_interval(days => :ended) END,
               CASE WHEN :status = 'succeeded' THEN id END,
               CASE WHEN :status = 'failed' THEN CAST('{}' AS jsonb) END,
               CASE WHEN :status = 'running' THEN 'one' END,
               CASE WHEN :status = 'running' THEN now() + interval '1 minute' END
        FROM born RETURNING id
    ), roadmap AS (
        INSERT INTO roadmaps (task_id, id, tenant_id, lease_token, document)
        SELECT id, id, 'default', 1, '{}' FROM task WHERE :status = 'succeeded'
    ), event AS (
        INSERT INTO task_events (task_id, seq, type)
        SELECT id, seq, 'task.of_old' FROM task, generate_series(1, 3) AS seq
    )
    SELECT id FROM task
"""


async def born(
    database: Database, age: int = LONG_AGO, *, status: str = "succeeded", ended: int | None = None
) -> UUID:
    """A task accepted ``age`` days ago, that ended at once or ``ended`` days ago."""
    ages = {"age": age, "ended": age if ended is None else ended}
    sql = BORN_OLD.replace(":status", f"'{status}'")
    found: UUID = (await row(database, sql, **ages))["id"]
    return found


async def letter(
    database: Database, task_id: UUID | None, *, resolved: int | None = None, age: int = LONG_AGO
) -> int:
    """A dead letter ``age`` days old; ``resolved`` so many days ago."""
    found = await row(
        database,
        """
        INSERT INTO dead_letters (task_id, source, reason, detail, created_at, resolution,
                                  resolved_at)
        VALUES (:task_id, 'worker', 'goal_not_covered', '{"code": "x", "detail": "my goal"}',
                now() - make_interval(days => :age), CASE WHEN :resolved >= 0 THEN 'discarded' END,
                CASE WHEN :resolved >= 0 THEN now() - make_interval(days => :resolved) END)
        RETURNING id
        """,
        task_id=task_id,
        age=age,
        resolved=-1 if resolved is None else resolved,
    )
    return int(found["id"])


async def act(database: Database, age: int) -> None:
    await execute(
        database,
        """
        INSERT INTO operator_acts (actor, act, reason, created_at)
        VALUES ('somebody', 'pause', 'why', now() - make_interval(days => :age))
        """,
        age=age,
    )


async def ids(database: Database, table: str) -> set[UUID | int]:
    return {found["id"] for found in await rows(database, f"SELECT id FROM {table}")}


async def counts(database: Database) -> dict[str, int]:
    counted = ", ".join(f"(SELECT count(*) FROM {table}) AS {table}" for table in TABLES)
    return dict(await row(database, f"SELECT {counted}"))


async def tidy(housekeeper: Housekeeper) -> int:
    """Pass after pass, as the sweeper calls it; how many rows went."""
    deleted = await housekeeper.run_once()
    while housekeeper.behind:
        deleted += await housekeeper.run_once()
    return deleted


# --- what goes, and what does not ---


async def test_an_ended_task_goes_with_all_that_belongs_to_it(
    housekeeper: Housekeeper, database: Database
) -> None:
    for status in ("succeeded", "failed", "canceled"):
        await letter(database, await born(database, status=status), resolved=1)
    before = metrics.DELETED.labels("roadmaps")._value.get()

    assert await tidy(housekeeper) == 3 + 1 + 9 + 3
    assert set((await counts(database)).values()) == {0}
    assert metrics.DELETED.labels("roadmaps")._value.get() == before + 1


async def test_what_is_not_over_or_not_for_long_enough_stays(
    housekeeper: Housekeeper, database: Database
) -> None:
    await born(database, age=29)
    await born(database, age=400, ended=29)
    await born(database, age=400, status="queued")
    await born(database, age=400, status="running")
    await accept(database)
    before = await counts(database)

    assert await tidy(housekeeper) == 0
    assert await counts(database) == before


async def test_only_the_old_are_taken_from_among_the_others(
    housekeeper: Housekeeper, database: Database
) -> None:
    kept, gone = set(), set()
    for _ in range(3):
        kept.add(await born(database, age=40, status="running"))
        gone.add(await born(database, age=40))
        kept.add(await born(database, age=20))
    await tidy(housekeeper)
    assert await ids(database, "tasks") == kept
    owners = await rows(database, "SELECT task_id FROM task_events GROUP BY task_id")
    assert {found["task_id"] for found in owners} == kept


async def test_an_undecided_letter_outlives_its_task_without_the_learners_words(
    housekeeper: Housekeeper, database: Database
) -> None:
    task_id = await born(database, status="failed")
    kept = await letter(database, task_id)

    await tidy(housekeeper)
    assert await ids(database, "tasks") == set()
    found = await row(database, "SELECT * FROM dead_letters")
    assert (found["id"], found["task_id"]) == (kept, task_id)
    assert (found["reason"], found["detail"]) == ("goal_not_covered", {"code": "x"})


async def test_letters_without_a_task_go_when_their_decision_is_old(
    housekeeper: Housekeeper, database: Database
) -> None:
    await letter(database, None, age=400, resolved=LONG_AGO)
    kept = {await letter(database, None, age=400, resolved=29)}
    kept.add(await letter(database, None, age=400))

    assert await tidy(housekeeper) == 1
    assert await ids(database, "dead_letters") == kept


async def test_old_acts_of_operators_go(housekeeper: Housekeeper, database: Database) -> None:
    for age in (400, LONG_AGO, 29, 0):
        await act(database, age)
    assert await tidy(housekeeper) == 2
    assert len(await ids(database, "operator_acts")) == 2


async def test_a_task_stays_until_its_leftover_message_was_dropped(
    housekeeper: Housekeeper, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the relay would find a message without a task, and raise the alarm."""
    monkeypatch.setattr(housekeeping, "START_OVER", 0)
    task_id = await born(database, status="canceled")
    await execute(database, "INSERT INTO outbox_messages (task_id) VALUES (:id)", id=task_id)
    assert await tidy(housekeeper) == 0

    await execute(database, "DELETE FROM outbox_messages")
    assert await tidy(housekeeper) == 4


async def test_without_a_retention_everything_is_kept(
    settings: Settings, database: Database
) -> None:
    await letter(database, await born(database, age=4000), resolved=4000, age=4000)
    await act(database, 4000)
    before = await counts(database)

    forever = settings.model_copy(update={"retention_days": None})
    assert await tidy(Housekeeper(forever, database)) == 0
    assert await counts(database) == before


# --- how it goes ---


async def test_a_pass_deletes_one_batch_and_says_whether_more_may_wait(
    housekeeper: Housekeeper, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "BATCH", 3)
    for _ in range(7):
        await born(database)
    passes = []
    for _ in range(4):
        deleted = await housekeeper.run_once()
        passes.append((deleted, len(await ids(database, "tasks")), housekeeper.behind))
    row_count = 5  # a task, its roadmap, its three events
    assert passes == [
        (3 * row_count, 4, True),
        (3 * row_count, 1, True),
        (row_count, 0, False),
        (0, 0, False),
    ]


async def test_a_pass_is_one_short_transaction_for_each_walk(
    housekeeper: Housekeeper, database: Database
) -> None:
    async def transaction() -> int:
        found = await row(
            database, "SELECT CAST(CAST(pg_current_xact_id() AS text) AS bigint) AS x"
        )
        return int(found["x"])

    for _ in range(20):
        await letter(database, await born(database, status="failed"), resolved=1)
    before = await transaction()
    await housekeeper.run_once()
    assert await transaction() - before == 1 + 1  # tasks alone had something to delete, and ours


async def test_a_walk_goes_on_where_it_stopped_and_starts_over_now_and_then(
    housekeeper: Housekeeper, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await born(database, age=40)
    await tidy(housekeeper)
    left_behind = await born(database, age=50)
    ahead = await born(database, age=35)

    await tidy(housekeeper)
    assert await ids(database, "tasks") == {left_behind}, (left_behind, ahead)

    monkeypatch.setattr(housekeeping, "START_OVER", 0)
    await housekeeper.run_once()  # the end of this walk
    await housekeeper.run_once()
    assert await ids(database, "tasks") == set()


async def test_what_another_relay_is_deleting_is_passed_by(
    housekeeper: Housekeeper, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "START_OVER", 0)
    held, free = await born(database), await born(database)
    async with database.begin() as session:
        lock = text("SELECT 1 FROM tasks WHERE id = :id FOR UPDATE")
        await session.execute(lock, {"id": held})
        await tidy(housekeeper)
        assert await ids(database, "tasks") == {held}, free
        await session.rollback()
    await tidy(housekeeper)
    assert await ids(database, "tasks") == set()


async def test_housekeepers_side_by_side_delete_each_row_once(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the relays' own planner settings, so with their plans."""
    monkeypatch.setattr(housekeeping, "BATCH", 4)
    for _ in range(60):
        task_id = await born(database, status="failed")
        await letter(database, task_id, resolved=LONG_AGO)
    for _ in range(20):
        await letter(database, None, resolved=LONG_AGO)
    relays = [Database(settings, "relay", PLANNING) for _ in range(3)]
    try:
        deleted = await asyncio.gather(*(tidy(Housekeeper(settings, relay)) for relay in relays))
        deleted.append(await tidy(Housekeeper(settings, database)))
    finally:
        for relay in relays:
            await relay.close()
    assert sum(deleted) == 60 * 5 + 20
    assert set((await counts(database)).values()) == {0}


async def test_no_pass_reads_a_whole_table(settings: Settings, database: Database) -> None:
    """The checks of foreign keys are reads, too."""

    async def whole_reads() -> dict[str, int]:
        sql = "SELECT relname, seq_scan FROM pg_stat_user_tables WHERE relname = ANY (:tables)"
        found = await rows(database, sql, tables=list(TABLES))
        return {table["relname"]: table["seq_scan"] for table in found}

    await letter(database, await born(database), resolved=1)
    await act(database, LONG_AGO)
    relay = Database(settings, "relay", PLANNING)
    try:
        before = await whole_reads()
        assert await tidy(Housekeeper(settings, relay)) == 7
        async with relay.autocommit() as connection:
            await connection.execute(text("SELECT pg_stat_force_next_flush()"))
    finally:
        await relay.close()
    assert await whole_reads() == before


async def test_a_task_that_ends_meanwhile_is_neither_waited_for_nor_deleted(
    housekeeper: Housekeeper, database: Database
) -> None:
    task_id = await born(database, age=400, status="queued")
    lease = await leases_of(database).acquire(task_id)
    assert lease is not None
    async with database.begin() as session:
        connection = await session.connection()
        await connection.exec_driver_sql(COMPLETE, ([task_id], [lease.token], [task_id], ["{}"]))
        assert await tidy(housekeeper) == 0
    assert await tidy(housekeeper) == 0
    assert (await task(database, task_id))["status"] == "succeeded"
    assert await ids(database, "roadmaps") == {task_id}


# --- gauges ---


async def test_the_gauges_count_what_waits(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(5):
        await accept(database)
    in_redis = "SELECT task_id FROM outbox_messages LIMIT 2"
    await execute(
        database,
        f"UPDATE outbox_messages SET dispatched_at = now() WHERE task_id IN ({in_redis})",
    )
    for resolved in (None, None, 1):
        await letter(database, None, resolved=resolved)

    def shown() -> list[float]:
        watched = (metrics.PENDING, metrics.IN_FLIGHT, metrics.DEAD_OPEN)
        return [gauge._value.get() for gauge in watched]

    await Gauges(database).refresh()
    assert shown() == [3, 2, 2]

    monkeypatch.setattr(gauges, "MOST", 2)
    await Gauges(database).refresh()
    pending, in_flight, dead_open = shown()
    assert (pending + in_flight, dead_open) == (2, 1)
