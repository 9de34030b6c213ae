"""``waymark tasks`` against a real API and a worker's own statements: stop, watch, read."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from shared.database import Database
from shared.errors import Transient
from shared.roadmap import Roadmap, RoadmapRequest
from shared.settings import Settings
from tests.conftest import Servers
from tests.eventually import eventually, eventually_sync
from tests.factories import accept, event_types, execute, leases_of, rows, small_roadmap, task
from tests.http import Api
from worker_service.generators.offline.generator import OfflineGenerator
from worker_service.generators.port import Call, Job, Reached, Step, Usage
from worker_service.heartbeat import Heartbeat
from worker_service.leases import Lease, Leases
from worker_service.stepbook import StepBook
from worker_service.steps import TaskSteps

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def api(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    api = Api.start(tmp_path_factory.mktemp("api"), servers.environment())
    try:
        eventually_sync(lambda: api.has_logged("api_ready"))
        yield api
    finally:
        api.stop()


@dataclass(frozen=True, slots=True)
class Running:
    """A ``waymark tasks …`` under way, and what it has said so far."""

    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def out(self) -> str:
        return (self.folder / "out").read_text()

    @property
    def err(self) -> str:
        return (self.folder / "err").read_text()

    @property
    def json(self) -> Any:  # Any: a document
        return json.loads(self.out)

    async def says(self, text: str) -> None:
        async def said() -> None:
            assert text in self.out + self.err

        await eventually(said)

    async def ends(self) -> int:
        return await asyncio.to_thread(self.process.wait)


class Terminal:
    """Runs commands against one API."""

    def __init__(self, folder: Path, api: Api) -> None:
        self.folder = folder
        self.environment = os.environ | {"WAYMARK_URL": api.url}

    @contextmanager
    def running(self, *arguments: object) -> Iterator[Running]:
        folder = self.folder / uuid4().hex
        folder.mkdir()
        with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
            process = subprocess.Popen(
                [sys.executable, "-m", "waymark", "tasks", *map(str, arguments)],
                env=self.environment,
                stdout=out,
                stderr=err,
                cwd=ROOT,
            )
        try:
            yield Running(process, folder)
        finally:
            process.kill()
            process.wait()

    async def run(self, *arguments: object) -> tuple[int, Running]:
        with self.running(*arguments) as running:
            return await running.ends(), running


@pytest.fixture
def terminal(tmp_path: Path, api: Api, database: Database) -> Terminal:
    return Terminal(tmp_path, api)


@pytest.fixture
def leases(database: Database) -> Leases:
    return leases_of(database)


@pytest.fixture
def heartbeat(settings: Settings) -> Heartbeat:
    return Heartbeat(settings)


async def taken(leases: Leases, task_id: UUID) -> Lease:
    lease = await leases.acquire(task_id)
    assert lease is not None
    return lease


async def the_task(database: Database) -> UUID:
    """The only one, as soon as it is there."""

    async def there() -> None:
        assert await rows(database, "SELECT id FROM tasks")

    await eventually(there)
    (found,) = await rows(database, "SELECT id FROM tasks")
    task_id: UUID = found["id"]
    return task_id


def steps_of(lease: Lease, database: Database, settings: Settings, beat: Heartbeat) -> TaskSteps:
    return TaskSteps(lease, StepBook(database), beat, settings)


def planning(roadmap: Roadmap) -> Job[Roadmap]:
    """A step that costs, and whose output shows two stages."""

    async def work(call: Call) -> Roadmap:
        call.took(Usage(calls=2, tokens_in=1200, tokens_out=300, cost=0.0125))
        return roadmap

    def stage(name: str, first: int, last: int) -> dict[str, Any]:
        span = {"week_from": first, "week_to": last, "hours": 6.0}
        return {"id": name.lower(), "name": name, "concepts": ["SELECT"], **span}

    stages = [stage("Foundations", 1, 3), stage("Reports", 4, 4)]
    return Job(
        step=Step(name="design", shape=Roadmap, paid=True),
        inputs={},
        work=work,
        reached=Reached(60, "plan made"),
        partials=lambda _output: stages,
    )


# --- cancel ---


async def test_a_waiting_task_is_canceled_at_once(terminal: Terminal, database: Database) -> None:
    task_id = await accept(database)
    code, shown = await terminal.run("cancel", task_id)
    assert (code, shown.out, shown.err) == (0, "", "canceled.\n")
    assert (await task(database, task_id))["status"] == "canceled"
    assert await rows(database, "SELECT task_id FROM outbox_messages") == []
    code, again = await terminal.run("cancel", task_id, "--json")
    assert (code, again.json["status"]) == (0, "canceled")
    assert await event_types(database, task_id) == ["task.accepted", "task.canceled"]


async def test_a_running_task_is_asked_to_stop_and_whoever_watches_sees_it_end(
    terminal: Terminal, database: Database, leases: Leases
) -> None:
    task_id = await accept(database)
    lease = await taken(leases, task_id)
    code, shown = await terminal.run("cancel", task_id)
    assert (code, shown.out) == (0, "")
    assert shown.err.startswith("it runs; its worker lets go of it, follow it with `")
    assert f" tasks watch {task_id}`." in shown.err
    _, got = await terminal.run("get", task_id)
    assert "\ncancel requested  20" in got.out
    with terminal.running("watch", task_id) as watching:
        await watching.says("task.started")
        assert await leases.cancel(lease)
        assert await watching.ends() == 3
    assert "task.canceled  requested_at=" in watching.out
    assert watching.err == "waymark: the task was canceled\n"


async def test_an_ended_task_stays_as_it_ended_and_an_unknown_one_is_not_found(
    terminal: Terminal, database: Database, leases: Leases
) -> None:
    task_id = await accept(database)
    lease = await taken(leases, task_id)
    request = RoadmapRequest.model_validate_json(lease.input)
    assert await leases.complete(lease, small_roadmap(request, today=lease.accepted_on))
    before = await task(database, task_id)
    code, shown = await terminal.run("cancel", task_id)
    assert (code, shown.out) == (8, "")
    assert shown.err.startswith(f"waymark: Task {task_id} has succeeded. An ended task never")
    assert f"hint: see how it ended with `{shown.err.split('`')[1]}`." in shown.err
    assert shown.err.split("`")[1].endswith(f" tasks get {task_id}")
    assert await task(database, task_id) == before
    code, shown = await terminal.run("cancel", uuid4())
    assert (code, shown.out) == (5, "")


# --- deadline ---


async def test_a_deadline_counts_from_the_acceptance(
    terminal: Terminal, database: Database
) -> None:
    code, _ = await terminal.run("submit", "Learn SQL", "--deadline", "15m")
    assert code == 0
    found = await task(database, await the_task(database))
    assert found["deadline_at"] - found["created_at"] == timedelta(minutes=15)
    _, got = await terminal.run("get", found["id"])
    assert re.search(r"^deadline +20", got.out, re.MULTILINE)


async def test_a_deadline_that_the_api_refuses_is_wrong_usage(terminal: Terminal) -> None:
    for said in ("0", "9000h"):
        code, shown = await terminal.run("submit", "Learn SQL", "--deadline", said)
        assert code == 2
        assert "  /deadline_seconds  " in shown.err


# --- watch ---


async def test_stages_and_retries_are_told_as_they_come_and_the_roadmap_last(
    terminal: Terminal,
    database: Database,
    leases: Leases,
    settings: Settings,
    heartbeat: Heartbeat,
) -> None:
    with terminal.running("submit", "Learn SQL", "--watch") as watching:
        lease = await taken(leases, await the_task(database))
        request = RoadmapRequest.model_validate_json(lease.input)
        roadmap = small_roadmap(request, today=lease.accepted_on)
        async with heartbeat.held(lease):
            await steps_of(lease, database, settings, heartbeat).run(planning(roadmap))
        await watching.says("  1. Foundations")
        await watching.says("plan made · 60 %")
        assert watching.out == ""
        _, got = await terminal.run("get", lease.task_id)
        assert "plan made · 60 %" in got.out
        assert "2 calls, 1,200 tokens in, 300 out · $0.0125" in got.out
        busy = Transient("The model is busy.", code="model_busy")
        assert await leases.requeue(lease, busy, 7.0, charged=True)
        await watching.says("another attempt in 7 s: model_busy: The model is busy.\n")
        await execute(database, "UPDATE tasks SET available_at = now()")
        await execute(database, "UPDATE outbox_messages SET available_at = now()")
        lease = await taken(leases, lease.task_id)
        await watching.says("generating, attempt 2")
        assert await leases.complete(lease, roadmap)
        assert await watching.ends() == 0
    assert "  2. Reports                               week 4 · 6 h · 1 concept\n" in watching.err
    assert watching.err.endswith(" s · 2 calls, 1,200 tokens in, 300 out · $0.0125\n")
    assert watching.out.startswith("Learn SQL\n")


async def test_ctrl_c_detaches_and_cancels_nothing(
    terminal: Terminal, database: Database, leases: Leases
) -> None:
    with terminal.running("submit", "Learn SQL", "--watch") as watching:
        lease = await taken(leases, await the_task(database))
        await watching.says("generating")
        watching.process.send_signal(signal.SIGINT)
        assert await watching.ends() == 130
    assert f"no longer watching; task {lease.task_id} goes on." in watching.err
    found = await task(database, lease.task_id)
    assert (found["status"], found["cancel_requested_at"]) == ("running", None)


# --- roadmap ---


async def generated(
    database: Database, leases: Leases, settings: Settings, heartbeat: Heartbeat
) -> tuple[UUID, Roadmap]:
    """A task that the offline generator has done."""
    task_id = await accept(database)
    lease = await taken(leases, task_id)
    request = RoadmapRequest.model_validate_json(lease.input)
    async with heartbeat.held(lease):
        steps = steps_of(lease, database, settings, heartbeat)
        roadmap = await OfflineGenerator().generate(request, today=lease.accepted_on, steps=steps)
    assert await leases.complete(lease, roadmap)
    return task_id, roadmap


async def test_a_plan_without_servers_is_what_the_api_gives(
    terminal: Terminal,
    database: Database,
    leases: Leases,
    settings: Settings,
    heartbeat: Heartbeat,
) -> None:
    task_id, roadmap = await generated(database, leases, settings, heartbeat)
    code, shown = await terminal.run("roadmap", task_id, "--json")
    assert code == 0
    identity = {"id", "task_id", "created_at"}
    document = {key: value for key, value in shown.json.items() if key not in identity}
    words = ["plan", roadmap.goal, "--start", str(roadmap.start_date), "--json"]
    planned = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "waymark", *words],
        capture_output=True,
        check=True,
        text=True,
    )
    assert planned.stdout == json.dumps(document, indent=2, ensure_ascii=False) + "\n"


async def test_the_lessons_of_a_real_roadmap_can_be_read(
    terminal: Terminal,
    database: Database,
    leases: Leases,
    settings: Settings,
    heartbeat: Heartbeat,
) -> None:
    task_id, roadmap = await generated(database, leases, settings, heartbeat)
    _, plan = await terminal.run("roadmap", task_id)
    code, shown = await terminal.run("roadmap", task_id, "--lessons")
    assert code == 0
    lessons = shown.out.removeprefix(plan.out)
    assert lessons != shown.out
    for number, concept in enumerate(roadmap.concepts(), start=1):
        assert f"\n{number}. {concept.name} · week" in lessons
        assert concept.lesson
        assert concept.lesson in lessons
        assert all(one.url in lessons for one in concept.resources)
        assert all(one.question in lessons for one in concept.quiz)
