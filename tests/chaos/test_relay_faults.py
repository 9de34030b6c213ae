"""Relays that die, freeze or compete, and messages that poison: nothing is lost."""

from __future__ import annotations

import signal
from uuid import UUID

import psutil
import pytest
import redis
from structlog.testing import capture_logs

from shared import logs
from shared.database import Database
from shared.settings import Settings
from tests.chaos.relays import (
    Lines,
    Taker,
    each_rings_once,
    nothing_was_charged,
    queued,
    relay_at_work,
    waiting,
)
from tests.chaos.roles import Crew, Role
from tests.eventually import eventually
from tests.factories import accept, event_types, execute, fill, orphan_message, rows, task


@pytest.fixture
def taker(valkey: redis.Redis, database: Database) -> Taker:
    return Taker(valkey, database)


def repeated(lines: Lines) -> int:
    """Published before by somebody else, and recognised by Redis."""
    return sum(line["repeated"] for line in lines if line["event"] == logs.TASK_DISPATCHED)


async def frozen(role: Role) -> None:
    """Until a failpoint has stopped it."""

    async def stopped() -> None:
        assert psutil.Process(role.process.pid).status() == psutil.STATUS_STOPPED

    await eventually(stopped)


# --- killed ---


@pytest.mark.parametrize(
    ("instant", "was_published"),
    [
        ("relay.claimed", False),
        ("relay.verified", False),
        ("relay.published", True),
        ("relay.settled", True),
    ],
)
async def test_what_a_killed_relay_had_in_hand_is_carried_by_another(
    crew: Crew,
    settings: Settings,
    database: Database,
    deployment_id: UUID,
    valkey: redis.Redis,
    taker: Taker,
    instant: str,
    was_published: bool,
) -> None:
    relay = crew.start("relay", failpoints=f"{instant}=kill")
    accepted = await fill(database, 5)
    relay.wait_killed()
    assert sorted(queued(valkey)) == (sorted(accepted) if was_published else [])
    assert await waiting(database) == sorted(accepted)

    with capture_logs() as lines:
        async with relay_at_work(settings, deployment_id):
            await each_rings_once(valkey, database, accepted)
    assert repeated(lines) == (5 if was_published else 0)
    await nothing_was_charged(database, accepted)
    await taker.take_all()
    assert (sorted(taker.taken), taker.repeats) == (sorted(accepted), [])


# --- frozen ---


@pytest.mark.parametrize("taken_meanwhile", [False, True], ids=["in Redis still", "taken since"])
@pytest.mark.parametrize("instant", ["relay.claimed", "relay.published"])
async def test_a_relay_that_was_frozen_for_too_long_wakes_up_to_lost_locks_and_doubles_nothing(
    crew: Crew,
    settings: Settings,
    database: Database,
    deployment_id: UUID,
    valkey: redis.Redis,
    taker: Taker,
    instant: str,
    taken_meanwhile: bool,
) -> None:
    """PostgreSQL ends its session, which frees its claim for another relay."""
    sleeper = crew.start("relay", failpoints=f"{instant}=stop", database_command_timeout="1")
    accepted = await fill(database, 5)
    await frozen(sleeper)
    async with relay_at_work(settings, deployment_id):
        await each_rings_once(valkey, database, accepted)
    await nothing_was_charged(database, accepted)
    if taken_meanwhile:
        await taker.take_all()

    sleeper.process.send_signal(signal.SIGCONT)

    async def noticed() -> None:
        assert sleeper.has_logged("relay_waits")

    await eventually(noticed)
    await taker.take_all()
    assert (sorted(taker.taken), taker.repeats) == (sorted(accepted), [])
    assert await rows(database, "SELECT 1 FROM dead_letters") == []
    assert sleeper.terminate() == 0, "it lives on"


# --- many ---

BATCH = 50


async def test_five_relays_carry_thousands_while_two_are_killed_and_one_is_frozen(
    crew: Crew, database: Database, taker: Taker
) -> None:
    """A taker keeps the ledger: each task once, repeats only of what those three had in hand."""
    limits = {"relay_batch": f"{BATCH}", "relay_window": "400", "database_command_timeout": "1"}
    doomed = crew.start("relay", failpoints="relay.published=kill", **limits)
    sleeper = crew.start("relay", failpoints="relay.published=stop", **limits)
    accepted = await fill(database, 2 * BATCH)
    doomed.wait_killed()
    await frozen(sleeper)
    others = [crew.start("relay", **limits) for _ in range(3)]
    accepted += await fill(database, 2000)

    await taker.take_until(500)
    others[0].kill()
    await taker.take_until(1000)
    sleeper.process.send_signal(signal.SIGCONT)
    await taker.take_until(len(accepted))
    await taker.take_all()
    assert sorted(taker.taken) == sorted(accepted)
    assert len(taker.repeats) <= 3 * BATCH
    assert await rows(database, "SELECT 1 FROM dead_letters") == []
    assert await rows(database, "SELECT 1 FROM tasks WHERE attempts <> 1 OR takeovers > 0") == []
    assert [other.terminate() for other in others[1:]] == [0, 0]


# --- poison ---


async def test_what_can_never_be_delivered_is_buried_with_its_reason_and_its_neighbours_flow(
    settings: Settings, database: Database, deployment_id: UUID, valkey: redis.Redis
) -> None:
    without_a_task = await orphan_message(database)
    too_large = await accept(database)
    await execute(database, "UPDATE tasks SET traceparent = repeat('x', 1000)")
    neighbours = await fill(database, 5)
    async with relay_at_work(settings, deployment_id):
        await eventually(lambda: buried(database, 2))
        await each_rings_once(valkey, database, neighbours)

    letters = await rows(
        database, "SELECT task_id, reason FROM dead_letters WHERE source = 'relay'"
    )
    reasons = {letter["task_id"]: letter["reason"] for letter in letters}
    assert reasons == {without_a_task: "task_missing", too_large: "unpublishable"}
    ended = await task(database, too_large)
    assert (ended["status"], ended["error"]["code"]) == ("failed", "dispatch_failed")
    assert await event_types(database, too_large) == ["task.accepted", "task.failed"]
    untouched = await rows(database, "SELECT status FROM tasks WHERE attempts = 0 AND version = 1")
    assert [one["status"] for one in untouched] == ["queued"] * 5


async def buried(database: Database, number: int) -> None:
    assert len(await rows(database, "SELECT 1 FROM dead_letters")) == number
