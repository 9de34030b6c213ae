"""``waymark outbox`` against real servers: what an operator sees, decides and leaves behind."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import redis
from sqlalchemy import text

from relay_service.publisher import Publisher, connect
from relay_service.relay import Relay
from relay_service.wakeup import Wakeup
from shared.database import Database
from shared.errors import GoalNotCovered, Permanent, TaskError
from shared.messages import DEPLOYMENT_KEY, SLOTS_KEY, Doorbell
from shared.roadmap import RoadmapRequest
from shared.settings import Settings
from tests.conftest import Servers
from tests.eventually import eventually
from tests.factories import (
    accept,
    event_types,
    execute,
    fill,
    leases_of,
    orphan_message,
    row,
    rows,
    small_roadmap,
    task,
)
from waymark.__main__ import main
from waymark.commands import choice
from waymark.data_dir import DataDir
from waymark.processes import LOCALHOST, pick_port
from worker_service.leases import Lease, Leases

ROOT = Path(__file__).parents[2]
QUEUE = "waymark:roadmaps"
WHY = ("--reason", "the catalog was wrong", "--actor", "ann")


@dataclass(frozen=True, slots=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:  # Any: a document
        return json.loads(self.out)


Run = Callable[..., Awaitable[Outcome]]


@pytest.fixture
def waymark(
    servers: Servers,
    database: Database,
    valkey: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Run ``waymark outbox …`` in a thread of this process, on the emptied test servers."""
    for name, value in servers.environment().items():
        monkeypatch.setenv(name, value)

    def leave() -> int:
        try:
            main()
        except SystemExit as leaving:
            return int(leaving.code or 0)
        raise AssertionError("main() always leaves by exit")

    async def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["waymark", "outbox", *map(str, arguments)])
        capsys.readouterr()
        code = await asyncio.to_thread(leave)
        printed = capsys.readouterr()
        return Outcome(code, printed.out, printed.err)

    return run


@pytest.fixture
def leases(database: Database) -> Leases:
    return leases_of(database)


@pytest.fixture
async def relay(
    settings: Settings, database: Database, valkey: redis.Redis, deployment_id: UUID
) -> AsyncIterator[Relay]:
    client = connect(settings)
    yield Relay(settings, database, Publisher(client), Wakeup(database), deployment_id)
    await client.aclose()


async def taken(leases: Leases, task_id: UUID) -> Lease:
    lease = await leases.acquire(task_id)
    assert lease is not None
    return lease


async def died(leases: Leases, error: TaskError | None = None, **body: Any) -> tuple[UUID, int]:
    """A task that failed for good, and the number of its dead letter."""
    task_id = await accept(leases.database, **body)
    error = error or Permanent("Nothing is left to learn.", code="nothing_left_to_learn")
    assert await leases.fail(await taken(leases, task_id), error)
    return task_id, await letter_of(leases.database, task_id)


async def stranger(leases: Leases, reason: str = "task_missing") -> tuple[UUID, int]:
    """A dead letter of a task that this database does not know."""
    task_id = uuid4()
    await leases.bury(Doorbell(task_id, 1, uuid4()), reason)
    return task_id, await letter_of(leases.database, task_id)


async def letter_of(database: Database, task_id: UUID) -> int:
    found = await row(database, "SELECT id FROM dead_letters WHERE task_id = :id", id=task_id)
    return int(found["id"])


async def letter(database: Database, number: int) -> Any:  # Any: a row
    return await row(database, "SELECT * FROM dead_letters WHERE id = :id", id=number)


async def acts(database: Database) -> list[Any]:  # Any: rows
    return list(await rows(database, "SELECT * FROM operator_acts ORDER BY id"))


async def messages(database: Database) -> list[Any]:  # Any: rows
    return list(await rows(database, "SELECT * FROM outbox_messages ORDER BY available_at"))


# --- status ---


async def test_an_empty_outbox_is_told_calmly(waymark: Run) -> None:
    shown = await waymark("status")
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.splitlines() == [
        "oldest        nothing waits",
        "waiting       0",
        "delayed       0",
        "in flight     0",
        "running       0",
        "dead letters  none",
        "relays        not paused",
        "redis         answers: 0 messages wait, 0 workers with 0 slots",
    ]
    for command, said in (("list", "No outbox message"), ("dead", "There are no open dead")):
        listed = await waymark(command)
        assert (listed.code, listed.out) == (0, "")
        assert listed.err.startswith(said)
        assert (await waymark(command, "--json")).json == {"data": [], "has_more": False}


async def test_status_counts_what_waits_and_what_runs(
    waymark: Run, database: Database, leases: Leases, relay: Relay, valkey: redis.Redis
) -> None:
    await taken(leases, await accept(database))
    await died(leases)
    await died(leases)
    await stranger(leases)
    await accept(database)
    assert await relay.run_once() == 1
    delayed, late, _ = await fill(database, 3)
    await later(database, delayed, "1 hour")
    await later(database, late, "-90 seconds")
    seconds, _ = valkey.time()
    valkey.zadd(SLOTS_KEY, {"32 one": seconds * 1000 + 60_000, "8 gone": seconds * 1000 - 1})

    found = (await waymark("status", "--json")).json
    oldest = found.pop("oldest_waiting_seconds")
    assert 90 <= oldest < 150
    assert found == {
        "waiting": 2,
        "delayed": 1,
        "in_flight": 1,
        "running": 1,
        "dead_letters": {"open": 3, "groups": 2},
        "paused": None,
        "redis": {"answers": True, "depth": 1, "workers": 1, "slots": 32},
        "advice": "Does a relay run? `python -m relay_service` is one; its log says what it "
        "waits for.",
    }
    shown = await waymark("status")
    assert "oldest        waits for 1 min 3" in shown.out
    assert "dead letters  3 in 2 groups\n" in shown.out
    assert "answers: 1 message waits, 1 worker with 32 slots\n" in shown.out
    assert shown.err == f"{found['advice']}\n"


async def later(database: Database, task_id: UUID, by: str) -> None:
    sql = "UPDATE outbox_messages SET available_at = now() + CAST(:by AS text)::interval"
    await execute(database, f"{sql} WHERE task_id = :id", id=task_id, by=by)


async def test_a_lag_beyond_the_limit_exits_with_9(waymark: Run, database: Database) -> None:
    assert (await waymark("status", "--max-lag", "500ms")).code == 0  # nothing waits
    await later(database, await accept(database), "-90 seconds")
    for allowed in ("500ms", "30s", "1.5s", "1m"):
        shown = await waymark("status", "--max-lag", allowed)
        assert shown.code == 9
        assert shown.out.startswith("oldest        waits for 1 min 3")
        sentence, hint = shown.err.splitlines()
        assert sentence.startswith("waymark: the oldest message has been due for 1 min 3")
        assert sentence.endswith(f"; --max-lag allows {allowed}.")
        assert hint.startswith("hint: No worker tells Redis that it is alive: start one, ")
    assert (await waymark("status", "--max-lag", "1h")).code == 0
    assert (await waymark("status", "--max-lag", "30s", "--json")).json["waiting"] == 1


@pytest.mark.parametrize("time", ["", "30", "soon", "-3s", "3 s", "1d"])
async def test_what_is_no_time_for_a_lag_is_wrong_usage(waymark: Run, time: str) -> None:
    shown = await waymark("status", f"--max-lag={time}")
    assert (shown.code, shown.out) == (2, "")
    assert shown.err.startswith(f"waymark: “{time}” is not a time for --max-lag.\nhint: it looks")


async def test_status_tells_that_redis_is_away(
    waymark: Run, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await accept(database)
    port = pick_port()
    monkeypatch.setenv("WAYMARK_REDIS_URL", f"redis://:hunter2@{LOCALHOST}:{port}/0")
    shown = await waymark("status")
    assert shown.code == 0
    assert f"redis         does not answer: Error 111 connecting to {LOCALHOST}:{port}" in shown.out
    assert shown.err.startswith("Redis does not answer. Tasks are accepted and wait in PostgreSQL")
    assert "hunter2" not in shown.out + shown.err
    assert (await waymark("status", "--json")).json["redis"]["answers"] is False
    monkeypatch.delenv("WAYMARK_REDIS_URL")
    shown = await waymark("status")
    assert (shown.code, shown.err) == (0, "")
    assert "redis         not asked: WAYMARK_REDIS_URL is not set\n" in shown.out


async def test_status_tells_a_strangers_redis(waymark: Run, valkey: redis.Redis) -> None:
    valkey.set(DEPLOYMENT_KEY, str(uuid4()))
    assert "This Redis serves another deployment" in (await waymark("status")).err


async def test_without_a_database_every_command_exits_with_7(
    waymark: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = f"{LOCALHOST}:{pick_port()}/waymark"
    monkeypatch.setenv("WAYMARK_DATABASE_URL", f"postgresql://me:hunter2@{place}")
    for command in (
        *("status", "list", "show 1", "dead", "resume", "pause --reason x"),
        *("replay 1 --reason x", "discard 1 --reason x"),
    ):
        shown = await waymark(*command.split())
        assert (shown.code, shown.out) == (7, "")
        assert f"PostgreSQL at {place} does not answer (" in shown.err
        assert "hint: is it running, and is WAYMARK_DATABASE_URL right?" in shown.err
        assert "hunter2" not in shown.err


async def test_a_database_without_our_schema_asks_for_the_upgrade(
    waymark: Run, database: Database, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = servers.postgres.url.rpartition("/")[0]
    monkeypatch.setenv("WAYMARK_DATABASE_URL", f"{server}/template1")
    shown = await waymark("status")
    assert shown.code == 1
    assert "schema is older than" in shown.err
    assert "`waymark db upgrade`" in shown.err


async def test_the_stack_on_a_directory_is_asked_when_it_is_named(
    waymark: Run, servers: Servers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WAYMARK_DATABASE_URL", "postgresql://elsewhere/db")
    monkeypatch.setenv("WAYMARK_REDIS_URL", f"redis://{LOCALHOST}:{pick_port()}/0")
    nobody = await waymark("status", "--data-dir", tmp_path)
    assert nobody.code == 1
    assert f"no stack runs on {tmp_path}." in nobody.err
    assert "`waymark outbox status --data-dir DIR`" in nobody.err
    with DataDir(tmp_path) as running:
        urls = {"database_url": servers.postgres.url, "redis_url": servers.valkey.url}
        running.write_stack({"api_url": "", **urls})
        assert "answers: 0 messages" in (await waymark("status", "--data-dir", tmp_path)).out
        paused = await waymark("pause", "--reason", "x", "--data-dir", tmp_path)
        assert f"`waymark outbox resume --data-dir {tmp_path}`" in paused.err


# --- list and show ---


async def test_list_filters_and_puts_the_oldest_first(
    waymark: Run, database: Database, relay: Relay
) -> None:
    dispatched = await accept(database)
    assert await relay.run_once() == 1
    acme = await fill(database, 2, tenant="acme", priority=1)
    delayed = await accept(database, priority="low")
    await later(database, delayed, "1 hour")

    async def listed(*options: str) -> list[str]:
        return [one["task_id"] for one in (await waymark("list", "--json", *options)).json["data"]]

    assert await listed("--state", "dispatched") == [str(dispatched)]
    assert await listed("--state", "delayed", "--priority", "low") == [str(delayed)]
    assert await listed("--tenant", "acme") == [str(one) for one in acme]
    assert await listed("--tenant", "acme", "--priority", "low") == []
    assert await listed() == [str(one) for one in (dispatched, *acme, delayed)]
    first = (await waymark("list", "--limit", "1", "--json")).json
    assert first["has_more"]
    assert first["data"][0]["priority"] == "normal"
    shown = await waymark("list", "--limit", "3")
    assert shown.err == "There are more than these 3: raise --limit to see them.\n"
    heading, *lines = shown.out.splitlines()
    assert heading.split() == ["task", "tenant", "priority", "dispatch", "state"]
    assert lines[0].split()[:5] == [str(dispatched), "default", "normal", "1", "dispatched"]
    assert lines[1].split()[:5] == [str(acme[0]), "acme", "high", "1", "waiting"]


async def test_show_tells_the_whole_story_of_a_task_or_a_dead_letter(
    waymark: Run, database: Database, leases: Leases
) -> None:
    old, number = await died(leases)
    assert (await waymark("replay", number, *WHY)).code == 0
    shown = await waymark("show", number)
    (new,) = await rows(database, "SELECT id FROM tasks WHERE parent_id = :id", id=old)
    assert shown.code == 0
    assert f"task      {old}\n" in shown.out
    assert "error     nothing_left_to_learn: Nothing is left to learn.\n" in shown.out
    assert f"replayed as {new['id']} (act " in shown.out
    assert "replay  ann  the catalog was wrong\n" in shown.out
    assert (await waymark("show", old)).out == shown.out

    document = (await waymark("show", new["id"], "--json")).json
    assert document["task"]["parent_id"] == str(old)
    assert document["message"]["state"] == "waiting"
    assert (document["dead_letters"], document["acts"]) == ([], [])
    document = (await waymark("show", number, "--json")).json
    assert document["dead_letters"][0]["replayed_as"] == str(new["id"])
    assert document["acts"][0]["actor"] == "ann"


async def test_show_tells_a_letter_without_a_task_and_a_message_without_one(
    waymark: Run, database: Database, leases: Leases
) -> None:
    lost, number = await stranger(leases)
    for wanted in (lost, number):
        assert "missing: this database has no such task" in (await waymark("show", wanted)).out
    orphan = await orphan_message(database)
    assert "message  waiting since " in (await waymark("show", orphan)).out
    await execute(
        database, "INSERT INTO dead_letters (source, reason) VALUES ('relay', 'unpublishable')"
    )
    nameless = await row(database, "SELECT id FROM dead_letters WHERE task_id IS NULL")
    shown = (await waymark("show", nameless["id"], "--json")).json
    assert [one["id"] for one in shown["dead_letters"]] == [nameless["id"]]
    refused = await waymark("replay", nameless["id"], *WHY)
    assert refused.code == 8
    assert "cannot be replayed: the task is not in this database" in refused.err


@pytest.mark.parametrize("unknown", ["7", "9" * 40, "0199c3aa-0000-7000-8000-000000000001"])
async def test_what_does_not_exist_exits_with_5(waymark: Run, unknown: str) -> None:
    shown = await waymark("show", unknown)
    assert (shown.code, shown.out) == (5, "")
    assert "there is no " in shown.err
    for command in ("replay", "discard"):
        decided = await waymark(command, unknown, *WHY)
        assert (decided.code, decided.out) == (5, "")
        assert "Nothing was done.\nhint: `waymark outbox dead` shows" in decided.err


# --- dead ---


async def test_dead_letters_of_one_error_are_one_group(waymark: Run, leases: Leases) -> None:
    await died(leases, Permanent("Step 3 of 12 broke at 0x7fa3 in 1.5 s.", code="broken"))
    await died(leases, Permanent("Step 4 of 9 broke at 0xBEEF in 20 s.", code="broken"))
    await died(leases, Permanent(f"No part {uuid4()} in cafe0123.", code="broken"))
    await died(leases, Permanent(f"No part {uuid4()} in beef4567.", code="broken"))
    _, last = await died(leases, GoalNotCovered("Fly 1. Soon", ["Learn SQL"]))
    await died(leases, GoalNotCovered("Swim", ["Learn Git", "Learn Go"]))
    await stranger(leases)
    await stranger(leases, "other_deployment")

    groups = (await waymark("dead", "--json")).json["data"]
    assert [(one["reason"], one["count"]) for one in groups] == [
        ("goal_not_covered", 2),
        ("broken", 2),
        ("broken", 2),
        ("other_deployment", 1),
        ("task_missing", 1),
    ]
    covered = groups[0]
    assert covered["error"] == "No roadmap covers “…”"
    assert {one["error"] for one in groups[1:3]} == {
        "Step # of # broke at # in # s.",
        "No part # in #.",
    }
    assert covered["first"] < covered["last"]
    assert covered["example"] == last + 1
    assert covered["open"] == 2
    listed = (await waymark("dead", "--fingerprint", covered["fingerprint"], "--json")).json
    assert [one["id"] for one in listed["data"]] == [last, last + 1]

    shown = await waymark("dead")
    assert len(shown.out.splitlines()) == 1 + len(groups)
    assert f"`waymark outbox replay --fingerprint {covered['fingerprint']} --reason" in shown.err
    group = await waymark("dead", "--fingerprint", covered["fingerprint"], "--limit", "1")
    assert "No roadmap covers “Fly 1. Soon”." in group.out
    assert "more than these 1" in group.err


async def test_dead_shows_what_is_open_unless_all_is_asked_for(
    waymark: Run, leases: Leases
) -> None:
    _, first = await died(leases)
    _, second = await died(leases)
    await waymark("discard", first, *WHY)
    (group,) = (await waymark("dead", "--json")).json["data"]
    assert (group["open"], group["count"], group["example"]) == (1, 1, second)
    (group,) = (await waymark("dead", "--all", "--json")).json["data"]
    assert (group["open"], group["count"]) == (1, 2)
    shown = await waymark("dead", "--all", "--fingerprint", group["fingerprint"])
    assert "discarded (act " in shown.out
    unknown = await waymark("dead", "--fingerprint", "00000000")
    assert (unknown.code, unknown.out) == (0, "")
    assert unknown.err == "There are no open dead letters of fingerprint 00000000.\n"


async def test_a_learners_words_do_not_steer_the_operators_terminal(
    waymark: Run, leases: Leases
) -> None:
    _, number = await died(leases, GoalNotCovered("\x1b[2Jfly\nhigh", []))
    (group,) = (await waymark("dead", "--json")).json["data"]
    for command in (("dead", "--fingerprint", group["fingerprint"]), ("show", number)):
        shown = await waymark(*command)
        assert "“ [2Jfly high”" in shown.out
        assert "\x1b" not in shown.out


# --- replay ---


async def test_an_ended_task_is_replayed_as_a_new_one_that_really_ends(
    waymark: Run, database: Database, leases: Leases, relay: Relay, valkey: redis.Redis
) -> None:
    old, number = await died(leases, key="k", priority="high")
    await execute(database, "UPDATE dead_letters SET created_at = created_at - interval '1 h'")
    before = await task(database, old)

    shown = await waymark("replay", number, *WHY)

    new = (await row(database, "SELECT id FROM tasks WHERE parent_id = :id", id=old))["id"]
    assert (shown.code, shown.out) == (0, f"{old}  replayed as {new}\n")
    assert shown.err.startswith("Replayed 1 dead letter: act ")
    assert await task(database, old) == before
    made = await task(database, new)
    for same in ("tenant_id", "input", "priority", "request_hash", "traceparent"):
        assert made[same] == before[same]
    assert made["idempotency_key"] is None
    (event,) = await rows(database, "SELECT * FROM task_events WHERE task_id = :id", id=new)
    assert (event["type"], event["data"]) == ("task.accepted", {"parent_id": str(old)})

    decided = await letter(database, number)
    (act,) = await acts(database)
    assert (decided["resolution"], decided["replayed_as"], decided["act_id"]) == (
        "replayed",
        new,
        act["id"],
    )
    assert decided["resolved_at"] is not None
    assert (act["act"], act["actor"], act["reason"]) == ("replay", "ann", "the catalog was wrong")
    done = {"dead_letters": 1, "new_tasks": 1, "dispatched_again": 0}
    assert act["detail"] == {"ids": [number], **done}

    assert await relay.run_once() == 1
    assert valkey.lrange(QUEUE, 0, -1) == [f"{new}:1".encode()]
    lease = await taken(leases, new)
    request = RoadmapRequest.model_validate_json(lease.input)
    assert await leases.complete(lease, small_roadmap(request, today=lease.accepted_on))
    assert await event_types(database, new) == [
        "task.accepted",
        "task.dispatched",
        "task.started",
        "task.succeeded",
    ]


async def test_a_second_replay_does_nothing(
    waymark: Run, database: Database, leases: Leases
) -> None:
    old, number = await died(leases)
    await waymark("replay", number, *WHY)
    (message,) = await messages(database)
    for wanted in (number, old):
        again = await waymark("replay", wanted, *WHY)
        assert (again.code, again.out) == (0, "")
        assert again.err.startswith(f"Dead letter {number} was replayed as {message['task_id']} ")
        assert again.err.endswith("before: left alone.\n")
    again = await waymark("replay", "--source", "worker", "--yes", *WHY)
    assert (again.code, again.err) == (0, "No open dead letter matches: nothing to do.\n")
    assert (await waymark("discard", number, *WHY)).code == 0
    assert (await letter(database, number))["resolution"] == "replayed"
    assert len(await acts(database)) == len(await messages(database)) == 1


async def test_a_queued_task_is_dispatched_again_under_a_number_that_is_not_superseded(
    waymark: Run, database: Database, leases: Leases, relay: Relay, valkey: redis.Redis
) -> None:
    task_id = await accept(database)
    await leases.bury(Doorbell(task_id, 1, uuid4()), "task_missing")
    assert await relay.run_once() == 1
    await execute(database, "UPDATE outbox_messages SET dispatch_no = 5")  # rung several times
    await execute(database, "UPDATE tasks SET available_at = now() + interval '1 h'")
    valkey.delete(QUEUE, f"{QUEUE}.msgs")

    shown = await waymark("replay", task_id, *WHY)

    assert (shown.code, shown.out) == (0, f"{task_id}  dispatched again\n")
    (message,) = await messages(database)
    assert (message["dispatch_no"], message["dispatched_at"]) == (6, None)
    assert (await task(database, task_id))["dispatch_no"] == 2
    assert (await letter(database, await letter_of(database, task_id)))["replayed_as"] == task_id
    assert await relay.run_once() == 1
    assert valkey.lrange(QUEUE, 0, -1) == [f"{task_id}:6".encode()]
    await taken(leases, task_id)
    assert await event_types(database, task_id) == [
        "task.accepted",
        "task.requeued",
        "task.dispatched",
        "task.started",
    ]


async def test_a_queued_task_without_a_message_gets_one(
    waymark: Run, database: Database, leases: Leases, relay: Relay
) -> None:
    task_id = await accept(database)
    await leases.bury(Doorbell(task_id, 1, uuid4()), "task_missing")
    await execute(database, "DELETE FROM outbox_messages")
    shown = (await waymark("replay", task_id, *WHY, "--json")).json
    assert (shown["new_tasks"], shown["dispatched_again"]) == (0, 1)
    assert await relay.run_once() == 1
    await taken(leases, task_id)


async def test_a_running_task_is_left_alone(
    waymark: Run, database: Database, leases: Leases
) -> None:
    task_id = await accept(database)
    await leases.bury(Doorbell(task_id, 1, uuid4()), "task_missing")
    await taken(leases, task_id)
    before = await task(database, task_id)
    shown = await waymark("replay", task_id, *WHY)
    assert (shown.code, shown.out) == (8, "")
    assert f"was left alone: its task {task_id} is running. It can be replayed" in shown.err
    assert await task(database, task_id) == before
    assert await acts(database) == []


async def test_a_dead_letter_without_a_task_cannot_be_replayed_only_discarded(
    waymark: Run, database: Database, leases: Leases
) -> None:
    task_id, number = await stranger(leases)
    _, other = await died(leases)
    shown = await waymark("replay", number, other, *WHY)
    assert shown.code == 8
    assert f"dead letter {number} cannot be replayed: its task {task_id} is not in" in shown.err
    assert f"`waymark outbox discard {number} --reason TEXT`" in shown.err
    assert (await letter(database, other))["resolution"] == "replayed"  # what can be, is
    assert (await letter(database, number))["resolution"] is None
    filtered = await waymark("replay", "--letter-reason", "task_missing", "--yes", *WHY)
    assert filtered.code == 0
    assert "  1 task not in this database: cannot be replayed\n" in filtered.err
    assert (await waymark("discard", number, *WHY)).out == f"{number}  discarded\n"


async def test_all_letters_of_a_task_are_answered_by_one_replay(
    waymark: Run, database: Database, leases: Leases
) -> None:
    task_id, number = await died(leases)
    await leases.bury(Doorbell(task_id, 1, uuid4()), "task_missing")
    shown = (await waymark("replay", number, *WHY, "--json")).json
    assert shown["dead_letters"] == 2
    assert shown["new_tasks"] == 1
    assert len(shown["data"]) == 1
    assert shown["data"][0]["task_id"] == str(task_id)
    assert len(await messages(database)) == 1


async def test_a_preview_tells_what_a_replay_makes_of_each_task(
    waymark: Run, database: Database, leases: Leases
) -> None:
    queued, running, succeeded = [await accept(database) for _ in range(3)]
    await taken(leases, running)
    lease = await taken(leases, succeeded)
    request = RoadmapRequest.model_validate_json(lease.input)
    assert await leases.complete(lease, small_roadmap(request, today=lease.accepted_on))
    for task_id in (queued, running, succeeded, uuid4()):
        await leases.bury(Doorbell(task_id, 1, uuid4()), "task_missing")
    await died(leases)
    shown = await waymark("replay", "--source", "worker", "--dry-run")
    assert sorted(shown.out.splitlines()[1:6]) == [
        "  1 task ended: replayed as new",
        "  1 task not in this database: cannot be replayed",
        "  1 task running: left alone",
        "  1 task still queued: dispatched again",
        "  1 task succeeded after all: replayed as new all the same",
    ]
    before = await task(database, succeeded)
    done = await waymark("replay", "--source", "worker", "--yes", *WHY)
    assert (done.code, len(done.out.splitlines())) == (0, 3)
    assert await task(database, succeeded) == before


async def test_an_act_decides_on_so_many_and_says_that_there_are_more(
    waymark: Run, database: Database, leases: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "MOST_AT_ONCE", 2)
    numbers = [(await died(leases))[1] for _ in range(3)]
    shown = await waymark("discard", "--source", "worker", "--yes", *WHY)
    assert shown.out.split()[::2] == [str(one) for one in numbers[:2]]
    assert "These are the first 2: the same command goes on with the rest." in shown.err
    assert (await letter(database, numbers[2]))["resolution"] is None


async def test_a_filter_is_previewed_and_needs_a_yes(
    waymark: Run, database: Database, leases: Leases
) -> None:
    numbers = [(await died(leases))[1] for _ in range(7)]
    await stranger(leases)
    shown = await waymark("replay", "--letter-reason", "nothing_left_to_learn", *WHY)
    assert (shown.code, shown.out) == (2, "")
    assert shown.err.startswith("7 dead letters of 7 tasks\n  7 tasks ended: replayed as new\n")
    assert f"first: {', '.join(map(str, numbers[:5]))}\n" in shown.err
    assert "waymark: nobody can be asked here. Nothing was done.\nhint: repeat" in shown.err

    dry = await waymark("replay", "--source", "worker", "--dry-run", "--json")
    assert dry.code == 0
    assert [(one["reason"], one["count"]) for one in dry.json.pop("groups")] == [
        ("nothing_left_to_learn", 7),
        ("task_missing", 1),
    ]
    assert dry.json["fates"] == {"new_task": 7, "missing": 1}
    assert (dry.json["dead_letters"], dry.json["first"]) == (8, numbers[:5])
    plain = await waymark("discard", "--source", "worker", "--dry-run")
    assert plain.out.startswith("8 dead letters of 8 tasks\nfingerprint  count")
    assert await messages(database) == await acts(database) == []

    done = await waymark("replay", "--source", "worker", "--yes", *WHY)
    assert done.code == 0
    assert len(done.out.splitlines()) == 7
    (act,) = await acts(database)
    assert act["detail"] == {
        "filter": {"source": "worker"},
        "dead_letters": 7,
        "new_tasks": 7,
        "dispatched_again": 0,
    }


async def test_each_filter_chooses_what_it_says(
    waymark: Run, database: Database, leases: Leases
) -> None:
    acme, mine = await died(leases), await died(leases)
    await execute(
        database, "UPDATE dead_letters SET created_at = '2026-01-02' WHERE id = :id", id=acme[1]
    )
    (odd,) = await fill(database, 1, tenant="acme")
    sql = "INSERT INTO dead_letters (task_id, source, reason) VALUES (:id, 'sweeper', 'other')"
    await execute(database, sql, id=odd)
    swept = await letter_of(database, odd)

    async def chosen(*options: str) -> list[int]:
        shown = await waymark("discard", *options, "--dry-run", "--json")
        first: list[int] = shown.json["first"]
        return first

    assert await chosen("--tenant", "acme") == [swept]
    assert await chosen("--source", "sweeper") == [swept]
    assert await chosen("--letter-reason", "nothing_left_to_learn") == [acme[1], mine[1]]
    assert await chosen("--before", "2026-01-02T00:00:01Z") == [acme[1]]
    assert await chosen("--after", "2026-01-02") == [acme[1], mine[1], swept]
    assert await chosen("--after", "2026-01-03", "--source", "worker") == [mine[1]]
    assert await chosen("--source", "relay") == []


async def test_a_person_is_asked_on_a_terminal(
    waymark: Run, servers: Servers, database: Database, leases: Leases
) -> None:
    _, number = await died(leases)
    for answer, code, resolution in (("n", 0, None), ("y", 0, "discarded")):
        ours, theirs = pty.openpty()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "waymark", "outbox", "discard", "--source", "worker", *WHY),
            env=os.environ | servers.environment(),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=ROOT,
        )
        os.close(theirs)
        os.write(ours, f"{answer}\n".encode())
        assert await process.wait() == code
        said = os.read(ours, 65536).decode()
        os.close(ours)
        assert "Discard them? [y/N]" in said
        assert (await letter(database, number))["resolution"] == resolution


async def test_replays_are_written_in_small_transactions_at_the_rate_that_was_asked_for(
    waymark: Run, database: Database, leases: Leases
) -> None:
    for _ in range(12):
        await died(leases)
    shown = await waymark("replay", "--source", "worker", "--yes", "--rate", "10", *WHY)
    assert shown.code == 0
    found = await rows(
        database,
        "SELECT count(*) AS size, min(resolved_at) AS at FROM dead_letters "
        "GROUP BY CAST(xmin AS text) ORDER BY at",
    )
    assert [one["size"] for one in found] == [2] * 6
    # Five pauses of 0.2 s lie in between; only how late the first one began may take from them.
    assert (found[-1]["at"] - found[0]["at"]).total_seconds() > 0.5
    (act,) = await acts(database)
    assert act["detail"]["new_tasks"] == 12


async def test_ctrl_c_keeps_what_is_done_and_a_second_run_goes_on(
    waymark: Run, servers: Servers, database: Database, leases: Leases
) -> None:
    for _ in range(12):
        await died(leases)
    words = ["outbox", "replay", "--source", "worker", "--yes", "--rate", "2", *WHY]
    replaying = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "waymark", *words),
        env=os.environ | servers.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    )

    async def some_are_done() -> None:
        assert await messages(database)

    await eventually(some_are_done)
    replaying.send_signal(signal.SIGINT)
    out, err = await replaying.communicate()
    assert replaying.returncode == 130
    done = len(out.splitlines())
    assert 0 < done < 12
    assert b"stopped; what was done is recorded, the rest is as it was." in err
    assert b"Traceback" not in err
    (act,) = await acts(database)
    assert act["detail"]["new_tasks"] == done == len(await messages(database))

    rest = await waymark("replay", "--source", "worker", "--yes", *WHY)
    assert len(rest.out.splitlines()) == 12 - done
    replays = await rows(database, "SELECT DISTINCT parent_id FROM tasks WHERE parent_id NOTNULL")
    assert len(replays) == len(await messages(database)) == 12


async def test_two_operators_at_once_replay_each_task_once(
    servers: Servers, waymark: Run, database: Database, leases: Leases
) -> None:
    for _ in range(20):
        await died(leases)
    words = ["outbox", "replay", "--source", "worker", "--yes", "--rate", "100", *WHY]
    both = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "waymark", *words),
            env=os.environ | servers.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
        )
        for _ in range(2)
    ]
    assert [await one.wait() for one in both] == [0, 0]
    replays = await rows(database, "SELECT parent_id FROM tasks WHERE parent_id IS NOT NULL")
    assert len(replays) == len({one["parent_id"] for one in replays}) == 20
    assert sum(act["detail"]["new_tasks"] for act in await acts(database)) == 20


async def test_a_task_that_somebody_holds_is_left_for_another_run(
    waymark: Run, database: Database, leases: Leases
) -> None:
    task_id, number = await died(leases)
    async with database.begin() as session:
        await session.connection()
        await session.execute(text("SELECT FROM tasks WHERE id = :id FOR UPDATE"), {"id": task_id})
        shown = await waymark("replay", number, *WHY)
    assert (shown.code, shown.out) == (0, "")
    assert shown.err.startswith(f"Somebody else was at 1 of them ({number}): left alone.")
    assert await acts(database) == []
    assert (await waymark("replay", number, *WHY)).out.startswith(f"{task_id}  replayed as ")


# --- discard ---


async def test_discard_closes_letters_and_touches_no_task(
    waymark: Run, database: Database, leases: Leases
) -> None:
    old, number = await died(leases)
    before = await task(database, old)
    _, lost = await stranger(leases)
    shown = await waymark("discard", number, lost, *WHY, "--json")
    assert shown.code == 0
    (act,) = await acts(database)
    assert (shown.json["act"], shown.json["dead_letters"]) == (act["id"], 2)
    assert (act["act"], act["detail"]) == ("discard", {"ids": [number, lost], "dead_letters": 2})
    for one in (number, lost):
        decided = await letter(database, one)
        assert (decided["resolution"], decided["act_id"]) == ("discarded", act["id"])
        assert decided["replayed_as"] is None
    assert await task(database, old) == before
    assert await messages(database) == []
    assert (await waymark("discard", old, *WHY)).err == (
        f"Dead letter {number} was discarded (act {act['id']}) before: left alone.\n"
    )


@pytest.mark.parametrize("command", ["replay", "discard"])
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--reason", "x"], "which ones?"),
        (["7", "--source", "relay", "--reason", "x"], "name dead letters or give a filter, not"),
        (["seven", "--reason", "x"], "“seven” is neither the number of a dead letter nor the id"),
        (["7"], "say why with --reason TEXT."),
        (["7", "--reason", "  "], "say why with --reason TEXT."),
        (["--fingerprint", "nonsense", "--reason", "x"], "“nonsense” is not a fingerprint."),
        (["--before", "noon", "--reason", "x"], "“noon” is not a time for --before."),
        (["--source", "nobody", "--reason", "x"], "invalid value for '--source'"),
    ],
)
async def test_wrong_usage_is_a_sentence(
    waymark: Run, command: str, arguments: list[str], sentence: str
) -> None:
    shown = await waymark(command, *arguments)
    assert (shown.code, shown.out) == (2, "")
    assert shown.err.startswith(f"waymark: {sentence}")
    assert "\nhint: " in shown.err


# --- pause and resume ---


async def test_pause_holds_the_relays_and_resume_frees_them(
    waymark: Run, database: Database
) -> None:
    shown = await waymark("pause", *WHY)
    assert (shown.code, shown.out) == (0, "")
    assert shown.err.startswith("Paused. Tasks are accepted as before and wait in PostgreSQL;")
    held = await row(database, "SELECT * FROM deployment")
    assert (held["paused_by"], held["paused_reason"]) == ("ann", "the catalog was wrong")
    status = await waymark("status")
    assert "by ann: the catalog was wrong\n" in status.out
    assert "The relays are paused; `waymark outbox resume` frees them.\n" in status.err
    again = await waymark("pause", "--reason", "me too", "--json")
    assert again.code == 0
    assert again.json["act"] is None
    assert again.json["paused"]["by"] == "ann"
    assert again.err.startswith("Paused already, since ")
    assert await row(database, "SELECT * FROM deployment") == held

    resumed = await waymark("resume")
    assert resumed.err == "Resumed. The relays go on within a second or two.\n"
    assert (await row(database, "SELECT * FROM deployment"))["paused_at"] is None
    idle = await waymark("resume", "--json")
    assert (idle.code, idle.json) == (0, {"act": None, "paused": None})
    assert idle.err == "The relays were not paused: nothing to do.\n"
    paused, freed = await acts(database)
    assert (paused["act"], freed["act"]) == ("pause", "resume")
    assert freed["detail"]["paused_by"] == "ann"
    assert "@" in freed["actor"]  # this user at this host


async def test_pause_asks_why(waymark: Run, database: Database) -> None:
    shown = await waymark("pause")
    assert shown.code == 2
    assert "say why with --reason TEXT." in shown.err
    assert await acts(database) == []
