"""``python -m tests.chaos.kill_run``: a whole stack that asks a model, a worker killed every 2 s.

100 tasks over HTTP, three workers, a minute of SIGKILL; then what became of each task, and what the
double of the model was paid for. Everything it starts is its own, and gone when it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shared.database import Database
from shared.settings import PREFIX, Settings
from tests.chaos import ledger
from tests.eventually import eventually
from tests.factories import rows
from waymark.client import Client
from waymark.processes import LOCALHOST, pick_port

TASKS = 100
WORKERS = 3
EVERY, MINUTE = 2.0, 60.0
THINKS = 0.5
"""Seconds of the double for each answer."""

PATIENCE = 240.0
"""Seconds until all tasks have to have ended."""

SETTINGS = {
    "LLM_MODEL": "double",
    "WORKER_CONCURRENCY": "4",
    "MAX_TAKEOVERS": "30",
    "LEASE": "5",
    "HEARTBEAT": "1",
}


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), pick_port()
        told = {"port": port, "ledger": folder / "ledger.jsonl", "delay": THINKS}
        double = _start("tests.double", told, {}, folder)
        model = {"LLM_BASE_URL": f"http://{LOCALHOST}:{port}/v1"}
        told = {"port": pick_port(), "data-dir": folder / "data", "workers": WORKERS}
        up = _start("waymark up", told, SETTINGS | model, folder)
        try:
            return asyncio.run(_run(folder))
        finally:
            for process in (up, double):
                process.send_signal(signal.SIGTERM)
                process.wait(60)


def _start(
    command: str, options: Mapping[str, object], settings: Mapping[str, str], folder: Path
) -> subprocess.Popen[str]:
    """A module of ours, once it has said that it is ready."""
    words = command.split() + [f"--{name}={value}" for name, value in options.items()]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    with (folder / f"{words[0]}.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *words],
            env=kept | {f"{PREFIX}{name}": value for name, value in settings.items()},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdout is not None
    print(process.stdout.readline().strip(), flush=True)
    return process


async def _run(folder: Path) -> int:
    stack = _stack(folder)
    with Client(stack["api_url"]) as client:
        for number in range(TASKS):
            client.submit({"goal": f"Rust for backend engineers {number}"})
    kills = await _kill_for_a_minute(folder)
    settings = Settings.model_validate({"database_url": stack["database_url"]})
    database = Database(settings, "test")
    try:
        await _all_ended(database)
        return await _report(database, ledger.read(folder / "ledger.jsonl"), kills)
    finally:
        await database.close()


def _stack(folder: Path) -> Any:  # JSON
    return json.loads((folder / "data" / "stack.json").read_text(encoding="utf-8"))


async def _kill_for_a_minute(folder: Path) -> int:
    """How many; by the pids of stack.json, which the supervisor rewrites as it replaces them."""
    kills = 0
    ends = time.monotonic() + MINUTE
    while time.monotonic() < ends:
        await asyncio.sleep(EVERY)
        processes = _stack(folder)["processes"]
        workers = [one["pid"] for one in processes if one["role"] == "worker" and one["pid"]]
        with contextlib.suppress(IndexError, ProcessLookupError):  # none is back yet
            os.kill(random.choice(workers), signal.SIGKILL)
            kills += 1
    return kills


async def _all_ended(database: Database) -> None:
    async def ended() -> None:
        assert await rows(database, "SELECT 1 FROM tasks WHERE finished_at IS NULL") == []

    await eventually(ended, within=PATIENCE)


async def _report(database: Database, calls: list[ledger.Paid], kills: int) -> int:
    found = await rows(database, "SELECT status, takeovers FROM tasks")
    again, late = ledger.paid_again(calls), await ledger.asked_after_kept(database, calls)
    kept = await rows(database, "SELECT 1 FROM task_steps WHERE output IS NOT NULL AND calls > 0")
    print(f"{kills} workers killed; takeovers {sum(one['takeovers'] for one in found)}")
    print(f"outcomes of {len(found)} tasks: {dict(Counter(one['status'] for one in found))}")
    print(f"{len(kept)} paid steps kept; {sum(one.answered for one in calls)} answers paid for")
    print(f"broken off unpaid: {sum(not one.answered for one in calls)}")
    print(f"paid again: {again} (limit: {kills}); asked for after they were kept: {len(late)}")
    whole = len(found) == TASKS and not late and again <= kills
    print("holds" if whole else "DOES NOT HOLD")
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
