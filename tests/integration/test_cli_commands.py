"""The command line over HTTP against a real API: tasks, dead letters, the stack, raw calls."""

from __future__ import annotations

import asyncio
import io
import json
import re
import shlex
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from rich.cells import cell_len
from rich.console import Console

from shared.database import Database
from shared.errors import GoalNotCovered
from shared.roadmap import RoadmapRequest
from tests.eventually import eventually
from tests.factories import accept, event_types, leases_of, rows, small_roadmap, task
from tests.http import Api
from tests.processes import present
from tests.terminal import Outcome, Screen
from waymark.__main__ import main
from waymark.connection import Connection
from waymark.live import Looks
from waymark.processes import LOCALHOST
from waymark.snapshot import Snapshot
from worker_service.leases import Lease, Leases

Run = Callable[..., Awaitable[Outcome]]
WHY = ("--reason", "the catalog was wrong", "--actor", "ann")


@pytest.fixture
def waymark(
    api: Api,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Run a command in a thread of this process."""
    monkeypatch.setenv("WAYMARK_URL", api.url)

    def leave() -> int:
        try:
            main()
        except SystemExit as leaving:
            return int(leaving.code or 0)
        raise AssertionError("main() always leaves by exit")

    async def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["waymark", *map(str, arguments)])
        capsys.readouterr()
        code = await asyncio.to_thread(leave)
        printed = capsys.readouterr()
        return Outcome(code, printed.out, printed.err)

    return run


@pytest.fixture
def leases(database: Database) -> Leases:
    return leases_of(database)


async def taken(leases: Leases, task_id: UUID) -> Lease:
    lease = await leases.acquire(task_id)
    assert lease is not None
    return lease


async def eventually_shows(screen: Screen, text: str) -> None:
    async def shown() -> None:
        screen.shows(text)

    await eventually(shown)


async def succeeded(database: Database, leases: Leases, goal: str = "Learn SQL") -> UUID:
    lease = await taken(leases, await accept(database, goal))
    request = RoadmapRequest.model_validate_json(lease.input)
    assert await leases.complete(lease, small_roadmap(request, today=lease.accepted_on))
    return lease.task_id


async def failed(database: Database, leases: Leases, goal: str = "Learn to fly") -> UUID:
    """Its task, which has left a dead letter."""
    lease = await taken(leases, await accept(database, goal))
    assert await leases.fail(lease, GoalNotCovered(goal, nearest=["Learn SQL"]))
    return lease.task_id


async def letter_of(database: Database, task_id: UUID) -> int:
    (found,) = await rows(
        database,
        "SELECT id FROM dead_letters WHERE task_id = :id AND resolution IS NULL",
        id=task_id,
    )
    number: int = found["id"]
    return number


def hints(text: str) -> list[list[str]]:
    """The commands that a person is told to type, as words after the program's name."""
    return [shlex.split(one)[1:] for one in re.findall(r"`(waymark [^`]*)`", text)]


# --- tasks list ---


async def test_tasks_are_listed_newest_first_and_only_those_that_were_asked_for(
    waymark: Run, database: Database, leases: Leases
) -> None:
    done = await succeeded(database, leases)
    first = await accept(database, "Learn Rust", metadata={"customer": "42"})
    second = await accept(database, "Learn Go and Rust")
    shown = await waymark("tasks", "list")
    assert [line.split()[0] for line in shown.out.splitlines()] == [
        *("task", str(second), str(first), str(done))
    ]
    for options, found in (
        (("--status", "succeeded"), [done]),
        (("--search", "rust"), [second, first]),
        (("--metadata", "customer=42"), [first]),
        (("--since", "1h"), [second, first, done]),
        (("--until", "1h"), []),
        (("--limit", "1"), [second]),
    ):
        shown = await waymark("tasks", "list", *options, "--json")
        assert [one["id"] for one in shown.json["data"]] == [str(one) for one in found], options
    empty = await waymark("tasks", "list", "--search", "chess")
    assert (empty.code, empty.out, empty.err) == (0, "", "No task is as asked.\n")


async def test_json_is_the_apis_page_byte_for_byte_and_all_is_a_task_a_line(
    waymark: Run, database: Database, client: httpx2.AsyncClient
) -> None:
    for number in range(5):
        await accept(database, f"Learn “SQL” {number}", metadata={"ключ": "值"})
    page = await waymark("tasks", "list", "--limit", 2, "--json")
    assert page.out == (await client.get("/v1/tasks?limit=2")).text + "\n"
    assert page.json["has_more"]
    everything = await waymark("tasks", "list", "--all", "--json")
    lines = everything.out.splitlines()
    whole = (await client.get("/v1/tasks?limit=100")).text
    assert whole.startswith('{"data":[' + ",".join(lines) + "],")
    some = await waymark("tasks", "list", "--all", "--limit", 3, "--json")
    assert some.out.splitlines() == lines[:3]
    (one,) = {json.loads(line)["id"] for line in lines[:1]}
    for command in (("tasks", "get", one), ("tasks", "attempts", one), ("tasks", "events", one)):
        path = f"/v1/tasks/{one}" + ("" if command[1] == "get" else f"/{command[1]}")
        assert (await waymark(*command, "--json")).out == (await client.get(path)).text + "\n"


async def test_a_page_that_is_not_all_says_so(waymark: Run, database: Database) -> None:
    for _ in range(2):
        await accept(database)
    shown = await waymark("tasks", "list", "--limit", 1)
    assert shown.err == "There are more: --all shows them.\n"
    too_large = await waymark("tasks", "list", "--limit", 101)
    assert too_large.code == 2
    assert (await waymark(*hints(too_large.err)[0])).code == 0


# --- one task ---


async def test_a_submission_says_how_it_is_to_be_run(waymark: Run, database: Database) -> None:
    shown = await waymark(
        *("tasks", "submit", "Learn SQL", "--priority", "high", "--not-before", "2h"),
        *("--metadata", "customer=42", "--metadata", "note=a=b"),
    )
    assert shown.code == 0
    found = await task(database, UUID(shown.out.strip()))
    assert found["priority"] == 1
    assert found["metadata"] == {"customer": "42", "note": "a=b"}
    ahead = (found["not_before"] - found["created_at"]).total_seconds()
    assert 7190 < ahead < 7210


async def test_a_retry_is_a_new_task_with_what_was_said_and_names_its_parent(
    waymark: Run, database: Database, leases: Leases
) -> None:
    parent = await failed(database, leases)
    shown = await waymark("tasks", "retry", parent, "--goal", "Learn SQL", "--weeks", 4)
    assert shown.code == 0
    child = await task(database, UUID(shown.out.strip()))
    assert child["parent_id"] == parent
    assert child["input"]["goal"] == "Learn SQL"
    assert child["input"]["weeks"] == 4
    moved = await waymark("tasks", "retry", parent, "--until", "2030-01-01", "--json")
    assert moved.json["input"]["until"] == "2030-01-01"
    key = ("--idempotency-key", "once")
    once, twice = [await waymark("tasks", "retry", parent, *key) for _ in range(2)]
    assert once.out == twice.out
    runs = await waymark("tasks", "retry", child["id"])
    assert (runs.code, runs.out) == (8, "")


async def test_events_and_attempts_tell_what_has_become_of_a_task(
    waymark: Run, database: Database, leases: Leases
) -> None:
    task_id = await accept(database)
    waiting = await waymark("tasks", "attempts", task_id)
    assert (waiting.out, waiting.err) == ("", "No worker has taken it yet.\n")
    lease = await taken(leases, task_id)
    assert await leases.fail(lease, GoalNotCovered("Learn SQL", nearest=[]))
    shown = await waymark("tasks", "events", task_id)
    types = [line.split()[2] for line in shown.out.splitlines()]
    assert types == await event_types(database, task_id)
    later = await waymark("tasks", "events", task_id, "--after", 2)
    assert later.out.splitlines() == shown.out.splitlines()[2:]
    shown = await waymark("tasks", "attempts", task_id)
    head, row = shown.out.splitlines()
    assert head.split() == ["attempt", "started", "outcome", "took", "worker", "used", "because"]
    assert re.match(r"1 +20\S+Z +failed +[\d.]+ s +one +goal_not_covered: No roadmap", row)


async def test_an_ended_task_is_erased_after_a_question_or_with_yes(
    waymark: Run, database: Database, leases: Leases
) -> None:
    done, waits = await succeeded(database, leases), await accept(database)
    asked = await waymark("tasks", "delete", done)
    assert (asked.code, asked.out) == (2, "")
    assert "repeat the command with --yes" in asked.err
    assert (await waymark("tasks", "delete", done, "--yes")).err == "erased.\n"
    assert (await waymark("tasks", "delete", done, "--yes")).code == 0
    assert (await waymark("tasks", "get", done)).code == 5
    refused = await waymark("tasks", "delete", waits, "--yes")
    assert refused.code == 8
    (stop_it,) = hints(refused.err)
    assert (await waymark(*stop_it)).code == 0
    assert (await waymark("tasks", "delete", waits, "--yes")).code == 0


async def test_why_is_one_sentence(waymark: Run, database: Database, leases: Leases) -> None:
    task_id = await accept(database)
    shown = await waymark("why", task_id)
    assert (shown.code, shown.err) == (0, "")
    assert re.fullmatch(r"It waits for a relay: .+\.\n", shown.out)
    document = (await waymark("why", task_id, "--json")).json
    assert shown.out == document["sentence"] + "\n"
    assert document["waits_for"] == "relay"
    ended = await waymark("why", await succeeded(database, leases))
    assert ended.out.startswith("It waits for nothing")


async def test_a_problem_is_a_sentence_or_with_json_the_problem(waymark: Run) -> None:
    nobody = uuid4()
    for command in (
        *(("tasks", "get"), ("tasks", "events"), ("tasks", "attempts"), ("tasks", "retry")),
        *(("tasks", "cancel"), ("tasks", "roadmap"), ("tasks", "watch"), ("why",)),
    ):
        shown = await waymark(*command, nobody)
        assert (shown.code, shown.out) == (5, ""), command
        assert shown.err.startswith(f"waymark: There is no task {nobody}."), command
        told = await waymark(*command, nobody, "--json")
        assert (told.code, told.out) == (5, "")
        assert told.problem["type"] == "/problems/task-not-found", command
    refused = await waymark("tasks", "submit", "Learn SQL", "--hours", 500, "--json")
    assert refused.code == 2
    assert refused.problem["errors"][0]["pointer"] == "/input/hours_per_week"


# --- dead letters ---


async def test_dead_letters_are_grouped_then_listed_then_told_one_by_one(
    waymark: Run, database: Database, leases: Leases
) -> None:
    tasks = [await failed(database, leases) for _ in range(2)]
    groups = (await waymark("dead", "list", "--json")).json["data"]
    assert [(one["reason"], one["open"]) for one in groups] == [("goal_not_covered", 2)]
    shown = await waymark("dead", "list")
    assert shown.out.splitlines()[1].split()[:3] == [groups[0]["fingerprint"], "2", "2"]
    for hint in hints(shown.err):
        assert (await waymark(*hint)).code == 0, hint
    single = await waymark("dead", "list", "--fingerprint", groups[0]["fingerprint"])
    assert [line.split()[2] for line in single.out.splitlines()[1:]] == [str(one) for one in tasks]
    number = await letter_of(database, tasks[0])
    story = await waymark("dead", "show", number)
    assert re.search(r"^error +goal_not_covered: No roadmap covers", story.out, re.MULTILINE)
    assert (await waymark("dead", "show", number, "--json")).json["task_id"] == str(tasks[0])
    nothing = await waymark("dead", "list", "--letter-reason", "worker_lost")
    assert (nothing.code, nothing.out) == (0, "")


async def test_a_filter_is_shown_before_it_is_acted_on(
    waymark: Run, database: Database, leases: Leases
) -> None:
    for _ in range(3):
        await failed(database, leases)
    chosen = ("--letter-reason", "goal_not_covered")
    dry = await waymark("dead", "retry", *chosen, "--dry-run")
    assert dry.out.startswith("3 dead letters of 3 tasks\n  3 tasks ended: replayed as new\n")
    assert (await waymark("dead", "retry", *chosen, "--dry-run", "--json")).json["matched"] == 3
    asked = await waymark("dead", "retry", *chosen, *WHY)
    assert asked.code == 2
    assert "repeat the command with --yes" in asked.err
    assert await rows(database, "SELECT id FROM operator_acts") == []
    done = await waymark("dead", "retry", *chosen, *WHY, "--yes", "--rate", 100)
    assert done.code == 0
    assert len(done.out.splitlines()) == 3
    assert re.search(r"^Replayed 3 dead letters: act \d+", done.err, re.MULTILINE)
    (act,) = await rows(database, "SELECT actor, act, reason FROM operator_acts")
    assert tuple(act.values()) == ("ann", "replay", "the catalog was wrong")
    again = await waymark("dead", "retry", *chosen, *WHY, "--yes")
    assert (again.code, again.err) == (0, "No open dead letter matches: nothing to do.\n")


async def test_a_set_that_changes_while_one_is_asked_is_left_alone(
    api: Api, database: Database, leases: Leases
) -> None:
    await failed(database, leases)
    retry = ("dead", "retry", "--letter-reason", "goal_not_covered", *WHY)
    with Screen.showing(api.url, *retry) as screen:
        await eventually_shows(screen, "Retry them? [y/N]")
        await failed(database, leases)
        screen.press("y\n")
        assert await asyncio.to_thread(screen.ends) == 8
    assert "hint: nothing was done; the same command shows what there is now." in screen.text
    assert await rows(database, "SELECT id FROM operator_acts") == []
    with Screen.showing(api.url, *retry) as screen:
        await eventually_shows(screen, "2 dead letters of 2 tasks")
        screen.press("n\n")
        assert await asyncio.to_thread(screen.ends) == 0
    assert screen.text.endswith("Nothing was done.\n")


async def test_what_is_named_is_done_at_once_and_all_or_nothing(
    waymark: Run, database: Database, leases: Leases
) -> None:
    first, second = [await letter_of(database, await failed(database, leases)) for _ in range(2)]
    mistyped = await waymark("dead", "discard", first, second + 99, *WHY)
    assert mistyped.code == 5
    assert f"There is no dead letter {second + 99}." in mistyped.err
    assert await rows(database, "SELECT id FROM operator_acts") == []
    done = await waymark("dead", "discard", first, *WHY, "--json")
    assert (done.code, done.json["dead_letters"]) == (0, 1)
    late = await waymark("dead", "retry", first, second, *WHY)
    assert late.code == 8
    assert f"dead letter {first} was discarded before. Nothing was done." in late.err
    (look,) = hints(late.err)
    assert "discarded" in (await waymark(*look)).out
    assert (await waymark("dead", "retry", second, *WHY)).code == 0


async def test_which_ones_and_why_must_be_said(waymark: Run) -> None:
    for arguments in ((), ("1", "--source", "worker"), ("--fingerprint", "xyz")):
        assert (await waymark("dead", "retry", *arguments, *WHY)).code == 2
    assert (await waymark("dead", "retry", 1)).code == 2
    assert (await waymark("dead", "discard", 1, "--reason", " ")).code == 2


# --- the stack ---


async def test_queues_are_shown_held_back_and_let_go(waymark: Run, database: Database) -> None:
    await accept(database)
    shown = await waymark("queues", "list")
    assert re.search(r"^waiting +1, the oldest for ", shown.out, re.MULTILINE)
    held = await waymark("queues", "pause", *WHY)
    assert held.code == 0
    (resume,) = hints(held.err)
    shown = await waymark("queues", "list")
    assert re.search(
        r"^relays +paused 20\S+Z by ann: the catalog was wrong$", shown.out, re.MULTILINE
    )
    again = await waymark("queues", "pause", *WHY, "--json")
    assert again.json["act"] is None
    assert (await waymark(*resume)).err.startswith("Resumed: act ")
    assert (await waymark("queues", "resume", *WHY)).err.endswith("nothing to do.\n")
    assert (await waymark("queues", "pause", "other", *WHY)).code == 5


async def test_a_worker_is_drained_by_its_name_or_its_id(waymark: Run, database: Database) -> None:
    worker = await present(database, "worker", name="host:7")
    await present(database, "worker", name="host:7", unseen=90)
    await present(database, "relay", name="host:8")
    shown = await waymark("workers", "list")
    states = sorted(line.split()[1] for line in shown.out.splitlines()[1:])
    assert states == ["gone", "idle"]
    drained = await waymark("workers", "drain", "host:7", *WHY)
    assert re.match(r"host:7 is drain(ing|ed); let it go on with `", drained.err)
    (let_go,) = hints(drained.err)
    assert (await waymark(*let_go)).err == "host:7 is idle.\n"
    by_id = await waymark("workers", "drain", worker, *WHY, "--json")
    assert by_id.json["drain_requested_at"]
    assert (await waymark("workers", "drain", "host:9", *WHY)).code == 5
    assert (await waymark("workers", "drain", uuid4(), *WHY)).code == 5
    relays = await waymark("relays", "list")
    assert re.match(
        r"host:8 +carrying +12 +20\S+Z +answers, 3 wait there$", relays.out.splitlines()[1]
    )


async def test_what_is_empty_says_what_to_start(waymark: Run) -> None:
    assert "python -m worker_service" in (await waymark("workers", "list")).err
    assert "python -m relay_service" in (await waymark("relays", "list")).err
    assert (await waymark("dead", "list")).code == 0


async def test_the_live_table_outlives_the_api_and_keeps_to_its_room(
    api: Api, database: Database
) -> None:
    for _ in range(9):
        await accept(database, "学习机器学习 " * 20)
    with Connection(api.url) as there, Connection(f"http://{LOCALHOST}:1") as nowhere:
        looks = Looks(await asyncio.to_thread(Snapshot.take, there), nowhere)
        await asyncio.to_thread(looks.run_once)
    assert looks.are_new()
    assert not looks.are_new()
    console = Console(file=io.StringIO(), width=60, height=12)
    lines = console.render_lines(looks, console.options.update(height=12), pad=False)
    texts = ["".join(part.text for part in line) for line in lines]
    assert f"http://{LOCALHOST}:1 does not answer" in texts[0]
    assert len(texts) == 12
    assert max(map(cell_len, texts)) <= 60


# --- the API itself ---


async def test_any_request_can_be_made(waymark: Run, database: Database, tmp_path: Path) -> None:
    fields = ("-f", "input[goal]=Learn SQL", "-f", "input[weeks]=4", "-f", "metadata[note]=x")
    made = await waymark("api", "post", "/v1/tasks", *fields, "-H", "Idempotency-Key: k")
    assert made.json["input"]["weeks"] == 4
    body = tmp_path / "body.json"
    body.write_text('{"input": {"goal": "Learn Go"}, "priority": "low"}')
    read = await waymark("api", "POST", "v1/tasks", "--input", body)
    assert read.json["priority"] == "low"
    pages = await waymark("api", "GET", "/v1/tasks", "-f", "limit=1", "--paginate")
    assert [json.loads(line)["data"][0]["id"] for line in pages.out.splitlines()] == [
        *(read.json["id"], made.json["id"])
    ]
    shown = await waymark("api", "GET", f"/v1/tasks/{made.json['id']}", "-i")
    assert shown.out.startswith("HTTP 200\n")
    assert '\netag: "1.0"\n' in shown.out
    refused = await waymark("api", "GET", "/v1/tasks", "-f", "limt=1")
    assert (refused.code, refused.out) == (2, "")
    assert refused.problem["errors"][0]["pointer"] == "/query/limt"
    for wrong in (("-f", "x"), ("--input", "missing.json"), ("-H", "x")):
        assert (await waymark("api", "POST", "/v1/tasks", *wrong)).code == 2


async def test_the_description_is_the_apis_own(waymark: Run, client: httpx2.AsyncClient) -> None:
    shown = await waymark("openapi")
    assert shown.out == (await client.get("/openapi.json")).text + "\n"
    document: dict[str, Any] = shown.json
    assert document["openapi"].startswith("3.1")
