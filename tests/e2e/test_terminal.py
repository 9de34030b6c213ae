"""What a person sees at a terminal, and a script off it: a real stack, real pseudo-terminals."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest

from tests.eventually import eventually_sync
from tests.terminal import ESCAPES, ROOT, WIDTH, Screen, Script
from waymark.processes import LOCALHOST, pick_port

GOAL = "Rust for backend engineers"
THINKS = "0.3"
"""Seconds that the model takes for each answer: long enough to be seen at it."""


@contextmanager
def started(folder: Path, name: str, *command: object, **settings: str) -> Iterator[None]:
    """A process that says `ready` on stdout; stopped at the end."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("WAYMARK_")}
    out, log = folder / f"{name}.out", folder / f"{name}.log"
    with out.open("wb") as stdout, log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", *map(str, command)],
            env=clean | settings,
            stdout=stdout,
            stderr=stderr,
            cwd=ROOT,
        )

    def ready() -> None:
        assert process.poll() is None, log.read_text()
        assert out.read_text().startswith("ready")

    try:
        eventually_sync(ready, within=60)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@dataclass(frozen=True, slots=True)
class Stack:
    url: str
    data_dir: Path

    def pid(self, role: str) -> int:
        processes = json.loads((self.data_dir / "stack.json").read_text())["processes"]
        (found,) = [one["pid"] for one in processes if one["role"] == role]
        return int(found)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """All of it, with a double as its model."""
    folder, model, port = tmp_path_factory.mktemp("stack"), pick_port(), pick_port()
    settings = {
        "WAYMARK_LLM_MODEL": "double",
        "WAYMARK_LLM_BASE_URL": f"http://{LOCALHOST}:{model}/v1",
        "WAYMARK_PRESENCE": "1",
        "WAYMARK_DRAIN": "5",
    }
    double = ("tests.double", "--port", model, "--delay", THINKS)
    up = ("waymark", "up", "--port", port, "--data-dir", folder / "data")
    with started(folder, "double", *double), started(folder, "up", *up, **settings):
        yield Stack(f"http://{LOCALHOST}:{port}", folder / "data")


@pytest.fixture
def url(stack: Stack) -> str:
    return stack.url


def test_a_submission_on_a_terminal_shows_each_stage_and_then_the_roadmap(url: str) -> None:
    with Screen.showing(url, "tasks", "submit", GOAL) as screen:
        assert screen.ends() == 0
        lines = [line.strip() for line in screen.text.splitlines()]
    stages = [line.split()[1] for line in lines if line.startswith("✔")]
    assert stages == ["accepted", "dispatched", "started", "succeeded"]
    assert re.search(
        r"✔ accepted    ([0-9a-f-]{36})  committed with outbox message \1:1", screen.text
    )
    assert re.search(r"✔ dispatched  \d+ m?s after it was due", screen.text)
    assert re.search(r"✔ started     by \S+:\d+", screen.text)
    assert re.search(r"✔ succeeded   after [\d.]+ s · \d+ calls, [\d,]+ tokens in", screen.text)
    assert re.search(r"generating · .+ · \d+ % · [\d.]+ s", screen.text), "the live line"
    planned = next(n for n, line in enumerate(lines) if line.startswith("1. ") and " week" in line)
    assert stages_before(lines, planned) == ["accepted", "dispatched", "started"]
    assert "\x1b[?25h" in screen.raw, "the cursor is back"


def stages_before(lines: list[str], number: int) -> list[str]:
    return [line.split()[1] for line in lines[:number] if line.startswith("✔")]


def test_ctrl_c_on_a_terminal_leaves_the_task_alone(url: str) -> None:
    with Screen.showing(url, "tasks", "submit", GOAL, "--not-before", "1h") as screen:
        eventually_sync(lambda: screen.shows("✔ accepted"))
        screen.press("\x03")
        assert screen.ends() == 130
        (task_id,) = re.findall(r"no longer watching; task ([0-9a-f-]{36}) goes on", screen.text)
        (hint,) = re.findall(r"`.*waymark (tasks get .*)`", screen.text)
    shown = Script(url).run_now(*hint.split(), "--json")
    assert shown.json["status"] == "queued"
    told = Script(url).run_now("why", task_id)
    assert re.fullmatch(r"It was submitted not to begin before .*\n", told.out)
    assert Script(url).run_now("tasks", "cancel", task_id).code == 0


def test_off_a_terminal_a_submission_prints_the_id_or_plain_lines(url: str) -> None:
    detached = Script(url).run_now("tasks", "submit", GOAL)
    UUID(detached.out.strip())
    assert detached.err.startswith("queued; follow it with `")
    awaited = Script(url).run_now("tasks", "submit", GOAL, "--wait")
    assert awaited.code == 0
    assert re.search(r"^succeeded after [\d.]+ s", awaited.err, re.MULTILINE)
    for shown in (detached, awaited):
        assert not ESCAPES.search(shown.out + shown.err)
        assert not {"\r", "\x1b"} & set(shown.out + shown.err)


def test_who_watches_hears_each_event_once_though_the_api_is_killed_meanwhile(
    stack: Stack,
) -> None:
    script = Script(stack.url)
    task_id = script.run_now("tasks", "submit", GOAL, "--not-before", "1h").out.strip()
    killed = stack.pid("api")
    with Screen.showing(stack.url, "tasks", "watch", task_id) as screen:
        eventually_sync(lambda: screen.shows("task.accepted"))
        os.kill(killed, signal.SIGKILL)

        def replaced() -> None:
            assert stack.pid("api") != killed
            assert script.run_now("tasks", "get", task_id).code == 0

        eventually_sync(replaced, within=30)
        assert script.run_now("tasks", "cancel", task_id).code == 0
        assert screen.ends() == 3
    events = re.findall(r" (task\.\w+)", screen.text)
    assert events == ["task.accepted", "task.canceled"]


def test_top_is_drawn_anew_until_q_and_leaves_the_terminal_as_it_was(url: str) -> None:
    task_id = Script(url).run_now("tasks", "submit", GOAL).out.strip()
    with Screen.showing(url, "top") as screen:
        eventually_sync(lambda: screen.shows(task_id))
        eventually_sync(lambda: screen.shows("of 1 worker"))
        eventually_sync(lambda: screen.shows(f"{task_id}  succeeded"))
        screen.press("q")
        assert screen.ends() == 0
    assert screen.raw.startswith("\x1b[?1049h"), "the other screen"
    assert "\x1b[?1049l" in screen.raw
    assert "\x1b[?25h" in screen.raw, "the cursor is back"
    frames = [frame for frame in screen.raw.split("\x1b[H") if "waymark top" in frame]
    assert len(frames) > 1
    widest = max(len(ESCAPES.sub("", line)) for line in frames[-1].splitlines())
    assert widest <= WIDTH
    assert " ago" in screen.text


def test_top_ends_by_ctrl_c_as_well(url: str) -> None:
    with Screen.showing(url, "top") as screen:
        eventually_sync(lambda: screen.shows("roadmaps"))
        screen.press("\x03")
        assert screen.ends() == 0
    assert "\x1b[?1049l" in screen.raw


def test_top_puts_the_terminal_back_when_it_is_stopped_from_elsewhere(url: str) -> None:
    with Screen.showing(url, "top") as screen:
        eventually_sync(lambda: screen.shows("roadmaps"))
        screen.process.send_signal(signal.SIGTERM)
        assert screen.ends() == 128 + signal.SIGTERM
    assert "\x1b[?1049l" in screen.raw


def test_off_a_terminal_top_prints_one_snapshot_in_plain_lines(url: str) -> None:
    shown = Script(url).run_now("top")
    assert (shown.code, shown.err) == (0, "")
    assert re.search(r"^ledger +\d+ accepted = \d+ succeeded \+ ", shown.out, re.MULTILINE)
    assert re.search(r"^queue +roadmaps$", shown.out, re.MULTILINE)
    assert not ESCAPES.search(shown.out)
    assert "…" not in shown.out
    assert " ago" not in shown.out, "times are times off a terminal"
    document = json.loads(Script(url).run_now("top", "--json").out)
    assert set(document) == {"overview", "queues", "workers", "tasks"}


def test_without_colours_none_is_shown_and_a_list_has_the_width_of_the_terminal(url: str) -> None:
    Script(url).run_now("tasks", "submit", f"{GOAL}, {'again and ' * 10}again", "--detach")
    no_colour = {"NO_COLOR": "1"}
    with Screen.showing(url, "tasks", "list", more=no_colour) as screen:
        assert screen.ends() == 0
    assert "\x1b" not in screen.raw
    assert max(map(len, screen.text.splitlines())) == WIDTH
    assert " ago  " in screen.text
    with Screen.showing(url, "why", screen.text.splitlines()[1].split()[0]) as told:
        assert told.ends() == 0
    assert re.match(r"It .+\.\n$", told.text)
