"""Workers that ask a model, killed at every instant: nothing that was kept is paid for again."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from shared.database import Database
from shared.failpoints import POINTS
from tests.chaos import ledger
from tests.chaos.ledger import Paid
from tests.chaos.roles import Crew
from tests.eventually import eventually, eventually_sync
from tests.factories import accept, event_types, row, rows, task
from waymark.client import Client
from waymark.processes import LOCALHOST, pick_port

GOAL = "Rust for backend engineers"
STRIKES = [
    *(
        f"{name}=kill@1"
        for name in POINTS
        if name.startswith("worker.") and name != "worker.failing"
    ),
    *(f"{name}=kill@3" for name in POINTS if name.startswith("worker.step_")),
]
CALLS = 8
"""Of one task: understand, design, and six lessons."""


@dataclass(frozen=True, slots=True)
class Double:
    """The double of a model in a process of its own."""

    port: int
    ledger: Path

    @property
    def settings(self) -> dict[str, str]:
        url = f"http://{LOCALHOST}:{self.port}/v1"
        prices = {"llm_price_in": "1000", "llm_price_out": "1000"}
        return {"llm_model": "double", "llm_base_url": url, "llm_side_by_side": "2", **prices}

    def calls(self) -> list[Paid]:
        return ledger.read(self.ledger)


@pytest.fixture
def double(tmp_path: Path) -> Iterator[Double]:
    double = Double(pick_port(), tmp_path / "ledger.jsonl")
    options = ["--port", str(double.port), "--ledger", str(double.ledger), "--delay", "0.1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.double", *options], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield double
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


async def all_ended(database: Database) -> None:
    assert await rows(database, "SELECT id FROM tasks WHERE finished_at IS NULL") == []


async def test_a_task_asks_for_each_step_once_and_shows_what_it_cost(
    crew: Crew, database: Database, double: Double
) -> None:
    crew.start("relay")
    crew.start("worker", **double.settings)
    task_id = await accept(database, GOAL)
    await eventually(lambda: all_ended(database))
    found = await task(database, task_id)
    assert (found["status"], found["progress"]) == ("succeeded", 100)
    assert len(double.calls()) == CALLS
    took = await row(
        database,
        "SELECT sum(calls) AS calls, sum(tokens_in) AS tokens_in, sum(cost) AS cost"
        " FROM task_steps",
    )
    assert (took["calls"], took["tokens_in"], float(took["cost"])) == (8, 800, 1.2)
    history = await event_types(database, task_id)
    assert history.count("roadmap.partial") >= 1
    assert history.count("step.completed") == CALLS + 1  # schedule costs nothing
    document = (await row(database, "SELECT document FROM roadmaps"))["document"]
    assert document["generated_by"]["name"] == "llm"
    concepts = [
        concept
        for stage in document["stages"]
        for module in stage["modules"]
        for concept in module["concepts"]
    ]
    assert [one["content"] for one in concepts] == ["model"] * 6
    assert all(len(one["quiz"]) >= 3 for one in concepts)


@pytest.mark.parametrize("strike", STRIKES)
async def test_a_worker_killed_at_any_instant_pays_at_most_for_what_was_under_way(
    crew: Crew, database: Database, double: Double, strike: str
) -> None:
    doomed = crew.start("worker", failpoints=strike, **double.settings)
    crew.start("relay")
    task_id = await accept(database, GOAL)
    doomed.wait_killed()
    crew.start("worker", **double.settings)
    await eventually(lambda: all_ended(database))
    found = await task(database, task_id)
    assert (found["status"], found["attempts"]) == ("succeeded", 1)
    calls = double.calls()
    assert await ledger.asked_after_kept(database, calls) == []
    assert ledger.paid_again(calls) <= int(double.settings["llm_side_by_side"])
    if "step_answered" not in strike:
        assert len({one.key for one in calls if one.answered}) == CALLS


async def test_tasks_survive_workers_that_are_killed_again_and_again(
    crew: Crew, database: Database, double: Double
) -> None:
    crew.start("relay")
    # One call at a time in each worker: a kill can cost that one, and no other.
    one = {"worker_concurrency": "1", "llm_side_by_side": "1", "max_takeovers": "50"}
    settings = double.settings | one
    workers = [crew.start("worker", **settings) for _ in range(2)]
    ids = [await accept(database, f"{GOAL} {number}") for number in range(12)]
    kills = range(1, 7)
    for kill in kills:
        eventually_sync(partial(at_least, double, 10 * kill))
        workers.pop(0).kill()
        workers.append(crew.start("worker", **settings))
    await eventually(lambda: all_ended(database), within=90)
    assert len(await rows(database, "SELECT 1 FROM tasks WHERE status = 'succeeded'")) == len(ids)
    assert len(await rows(database, "SELECT 1 FROM roadmaps")) == len(ids)
    calls = double.calls()
    assert await ledger.asked_after_kept(database, calls) == []
    assert ledger.paid_again(calls) <= len(kills)


def at_least(double: Double, calls: int) -> None:
    assert len(double.calls()) >= calls


async def test_a_canceled_task_that_runs_ends_as_canceled_and_not_as_succeeded(
    crew: Crew, database: Database, double: Double
) -> None:
    crew.start("relay")
    crew.start("worker", failpoints="worker.step_begun=sleep:0.5", **double.settings)
    crew.start("api")
    task_id = await accept(database, GOAL)

    async def has_begun() -> None:
        assert "step.started" in await event_types(database, task_id)

    await eventually(has_begun)
    with Client(crew.url) as client:
        answer = client.cancel(str(task_id))
    assert answer["cancel_requested_at"]
    assert answer["status"] in ("running", "canceled")  # its worker may be that quick

    async def canceled() -> None:
        assert (await task(database, task_id))["status"] == "canceled"

    await eventually(canceled)
    assert (await event_types(database, task_id))[-1] == "task.canceled"


async def test_a_rolling_restart_of_workers_that_ask_a_model_pays_nothing_twice(
    crew: Crew, database: Database, double: Double
) -> None:
    crew.start("relay")
    settings = {"worker_concurrency": "4", **double.settings}
    workers = [crew.start("worker", **settings) for _ in range(2)]
    ids = [await accept(database, f"{GOAL} {number}") for number in range(16)]
    for worker in workers:
        eventually_sync(partial(at_least, double, 10))
        crew.start("worker", **settings)
        assert worker.terminate() == 0
    await eventually(lambda: all_ended(database), within=90)
    found = await rows(database, "SELECT DISTINCT status, attempts, takeovers FROM tasks")
    assert [dict(one) for one in found] == [{"status": "succeeded", "attempts": 1, "takeovers": 0}]
    calls = double.calls()
    assert [one for one in calls if not one.answered] == []
    assert len(calls) == len(ids) * CALLS
