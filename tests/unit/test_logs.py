"""Logs: one JSON object per line on stderr, ours and the libraries', with who said it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from shared import logs

SPEAK = """
import logging, sys
from uuid import UUID
import structlog
from shared.logs import set_up_logs
from shared.settings import Settings

set_up_logs(Settings(log_level=sys.argv[1]), "api")
log = structlog.get_logger()
log.debug("a_debug_line")
log.info("an_event", task_id=UUID(int=7), text="two\\nlines ☂ \\ud800")
try:
    raise RuntimeError("broke")
except RuntimeError:
    log.exception("an_error")
    logging.getLogger("library").exception("library %s", "fell")
logging.getLogger("library").info("chatter of a library")
with structlog.contextvars.bound_contextvars(message_id="m:1"):
    log.warning("inside")
print("data")
"""


def speak(level: str) -> tuple[str, list[dict[str, Any]]]:
    """What the program wrote to stdout, and its log."""
    done = subprocess.run([sys.executable, "-c", SPEAK, level], capture_output=True, check=True)
    return done.stdout.decode(), [json.loads(line) for line in done.stderr.splitlines()]


@pytest.fixture(scope="module")
def spoken() -> tuple[str, list[dict[str, Any]]]:
    return speak("info")


Spoken = tuple[str, list[dict[str, Any]]]


def test_each_event_is_one_json_line_on_stderr_and_stdout_is_for_data(spoken: Spoken) -> None:
    stdout, lines = spoken
    assert stdout == "data\n"
    events = [line["event"] for line in lines]
    assert events == ["an_event", "an_error", "library fell", "inside"]


def test_each_line_says_when_how_grave_and_who(spoken: Spoken) -> None:
    lines = spoken[1]
    assert [line["level"] for line in lines] == ["info", "error", "error", "warning"]
    assert {line["service"] for line in lines} == {"api"}
    assert len({line["pid"] for line in lines}) == 1
    assert all(line["timestamp"].endswith("Z") for line in lines)


def test_values_of_any_kind_are_written(spoken: Spoken) -> None:
    line = spoken[1][0]
    assert line["task_id"] == "00000000-0000-0000-0000-000000000007"
    assert line["text"] == "two\nlines ☂ \ud800"


def test_a_traceback_stays_inside_its_line(spoken: Spoken) -> None:
    ours, library = spoken[1][1:3]
    for line in (ours, library):
        assert "RuntimeError: broke" in line["exception"]


def test_what_is_bound_around_a_piece_of_work_is_on_its_lines_only(spoken: Spoken) -> None:
    assert [line.get("message_id") for line in spoken[1]] == [None, None, None, "m:1"]


def test_the_level_decides_what_is_written() -> None:
    assert [line["event"] for line in speak("error")[1]] == ["an_error", "library fell"]
    assert speak("debug")[1][0]["event"] == "a_debug_line"


def test_the_names_that_operators_grep_for_do_not_change() -> None:
    assert [
        logs.TASK_COMMITTED,
        logs.TASK_VERIFIED,
        logs.TASK_DISPATCHED,
        logs.TASK_FOUND,
        logs.TASK_SUCCEEDED,
    ] == [
        "task_created_and_committed",
        "task_persistence_verified",
        "task_dispatched",
        "task_record_found",
        "task_succeeded",
    ]
