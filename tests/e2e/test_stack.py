"""``waymark up`` as an operator runs it: everything embedded, and everything killed once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis

from shared import logs
from shared.database import Database
from shared.settings import Settings
from tests.eventually import eventually, eventually_sync
from tests.factories import row, rows
from waymark.client import Client
from waymark.processes import pick_port

SUBMISSIONS = 500
CONCURRENCY = 20


class Stack:
    """A running ``waymark up``, seen through what it promises: stdout, stack.json, logs."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.data_dir = folder / ".waymark"
        self.log = folder / "log.jsonl"
        self.out = folder / "out.txt"
        brisk = {"WAYMARK_LEASE": "3", "WAYMARK_HEARTBEAT": "0.5", "WAYMARK_DRAIN": "5"}
        command = [sys.executable, "-m", "waymark", "up", "--port", str(pick_port())]
        clean = {key: value for key, value in os.environ.items() if not key.startswith("WAYMARK_")}
        with self.log.open("w") as stderr, self.out.open("w") as stdout:
            self.process = subprocess.Popen(
                [*command, "--data-dir", str(self.data_dir), *options],
                env=clean | brisk,
                stdout=stdout,
                stderr=stderr,
            )

    def wait_ready(self) -> None:
        def ready() -> None:
            assert self.process.poll() is None, self.log.read_text()
            assert self.out.read_text().startswith("ready http://127.0.0.1:")

        eventually_sync(ready, within=60)

    def description(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.data_dir / "stack.json").read_text())
        return found

    def pids(self, role: str) -> list[int]:
        return [one["pid"] for one in self.description()["processes"] if one["role"] == role]

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(tmp_path, "--relays", "2", "--workers", "2")
    try:
        stack.wait_ready()
        yield stack
    finally:
        stack.process.send_signal(signal.SIGTERM)
        assert stack.process.wait(60) == 0


async def test_five_hundred_submissions_survive_the_loss_of_relay_worker_and_valkeys_memory(
    stack: Stack,
) -> None:
    url = stack.description()["api_url"]
    answers: list[str] = []
    losses = {100: "relay", 200: "worker", 300: "memory"}

    def submit(number: int) -> None:
        with Client(url) as client:
            task = client.submit({"goal": "Learn SQL"}, idempotency_key=f"key {number}")
        answers.append(task["id"])

    def lose(what: str) -> None:
        if what == "memory":
            with redis.Redis.from_url(stack.description()["redis_url"]) as valkey:
                valkey.flushall()
        else:
            os.kill(stack.pids(what)[0], signal.SIGKILL)

    with ThreadPoolExecutor(CONCURRENCY) as pool:
        submissions: list[Future[None]] = []
        for number in range(SUBMISSIONS):
            if number in losses:
                submissions[-CONCURRENCY].result(60)  # keep the losses in the midst of the work
                lose(losses[number])
            submissions.append(pool.submit(submit, number))
        for submission in submissions:
            submission.result(60)

    settings = Settings.model_validate({"database_url": stack.description()["database_url"]})
    database = Database(settings, "test")

    async def all_ended() -> None:
        open_tasks = "SELECT id, status, stage FROM tasks WHERE finished_at IS NULL"
        assert await rows(database, open_tasks) == []

    await eventually(all_ended, within=90)
    await _hold_the_ledger(stack, database, answers)
    await database.close()
    assert len(stack.pids("relay")) == len(stack.pids("worker")) == 2, "the killed are replaced"


async def _hold_the_ledger(stack: Stack, database: Database, answers: list[str]) -> None:
    """500 of 500, none twice, none not found."""
    counts = await row(
        database,
        """
        SELECT count(*) AS tasks, count(*) FILTER (WHERE status = 'succeeded') AS succeeded,
               (SELECT count(*) FROM roadmaps) AS roadmaps,
               (SELECT count(*) FROM outbox_messages) AS messages,
               (SELECT count(*) FROM dead_letters) AS dead_letters
        FROM tasks
        """,
    )
    assert len(set(answers)) == SUBMISSIONS
    assert dict(counts) == {
        "tasks": SUBMISSIONS,
        "succeeded": SUBMISSIONS,
        "roadmaps": SUBMISSIONS,
        "messages": 0,
        "dead_letters": 0,
    }
    assert "not found" not in stack.log.read_text()
    successes = Counter(
        line["task_id"] for line in stack.lines() if line["event"] == logs.TASK_SUCCEEDED
    )
    # A worker killed between its COMMIT and its log line leaves no line; none is ever told twice.
    assert set(successes.values()) == {1}
