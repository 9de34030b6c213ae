"""The command line where things go wrong: interrupted, cut off, unread, answered by a stranger."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
from urllib.parse import parse_qsl, urlsplit

import pytest

from shared.views import TASK_EXAMPLE
from tests.clients import Peer, answering
from tests.eventually import eventually
from tests.terminal import ESCAPES, ROOT, Screen, Script
from waymark.exit_codes import ExitCode

TASK_ID = TASK_EXAMPLE["id"]
KEY = r"under the idempotency key (\S+)\.\n"
QUEUED = TASK_EXAMPLE | {"status": "queued", "stage": "accepted"}
LATER = "2099-01-01T00:00:00Z"


def answer(document: object, status: str = "200 OK") -> bytes:
    body = json.dumps(document)
    return answering(status, body, Content_Length=str(len(body)))


def header(heard: bytes, name: str) -> str | None:
    found = re.search(rf"(?mi)^{name}: (.*?)\r$", heard.decode())
    return found.group(1) if found else None


def query(heard: bytes) -> list[tuple[str, str]]:
    return parse_qsl(urlsplit(heard.decode().split(" ")[1]).query)


async def shell(url: str, line: str, **more: str) -> subprocess.CompletedProcess[str]:
    """``line`` in bash, where ``waymark`` is this one."""
    waymark = f'waymark() {{ {shlex.quote(sys.executable)} -m waymark "$@"; }}'
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WAYMARK_")}
    return await asyncio.to_thread(
        subprocess.run,
        ["bash", "-c", f"{waymark}; {line}"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=clean | {"WAYMARK_URL": url} | more,
    )


# --- a task that may have been accepted ---


@pytest.mark.parametrize(
    "command",
    [
        ["tasks", "submit", "Learn SQL"],
        ["tasks", "retry", TASK_ID],
        ["api", "POST", "/v1/tasks", "-f", "input[goal]=Learn SQL"],
    ],
)
async def test_ctrl_c_before_the_answer_tells_the_key_that_finds_the_task(
    command: list[str],
) -> None:
    async with Peer.giving(b"", falls_silent=True) as peer:
        with Screen.showing(peer.url, *command) as screen:
            await eventually(lambda: _heard(peer, 1))
            screen.press("\x03")
            assert await asyncio.to_thread(screen.ends) == ExitCode.INTERRUPTED
            (key,) = re.findall(KEY, screen.text)
    assert header(peer.heard[0], "Idempotency-Key") == key
    (repetition,) = re.findall(r"`.*?waymark (.*?)`", screen.text)
    assert key in repetition
    async with Peer.giving(answer(QUEUED, "202 Accepted")) as again:
        await Script(again.url).run(*shlex.split(repetition))
    assert header(again.heard[0], "Idempotency-Key") == key


async def _heard(peer: Peer, requests: int) -> None:
    assert len(peer.heard) == requests


async def test_a_raw_request_that_makes_no_task_and_one_with_a_key_get_none() -> None:
    async with Peer.giving(answer({})) as peer:
        await Script(peer.url).run("api", "POST", f"/v1/tasks/{TASK_ID}/cancel")
        await Script(peer.url).run("api", "POST", "/v1/tasks", "-H", "idempotency-key: mine")
    assert [header(heard, "Idempotency-Key") for heard in peer.heard] == [None, "mine"]
    assert peer.heard[1].lower().count(b"idempotency-key") == 1


async def test_an_output_that_takes_nothing_does_not_lose_the_id() -> None:
    async with Peer.giving(answer(QUEUED, "202 Accepted")) as peer:
        done = await shell(peer.url, "waymark tasks submit 'Learn SQL' > /dev/full")
    assert done.returncode == ExitCode.UNEXPECTED
    assert f"task {TASK_ID} is accepted" in done.stderr


# --- outputs that are closed, or that nobody reads ---


async def test_who_closes_an_output_still_gets_the_work_done() -> None:
    async with Peer.giving(answer(QUEUED, "202 Accepted")) as peer:
        for closed in (">&-", "2>&-", "<&-"):
            done = await shell(peer.url, f"waymark tasks submit 'Learn SQL' {closed}")
            assert (done.returncode, "Traceback" in done.stderr) == (0, False), closed
    assert len(peer.heard) == 3


async def test_who_stops_reading_is_not_told_of_it() -> None:
    page = {"data": [QUEUED] * 2_000, "has_more": False, "next_cursor": None}
    async with Peer.giving(answer(page)) as peer:
        line = "waymark tasks list --all | head -2; exit ${PIPESTATUS[0]}"
        done = await shell(peer.url, line)
    assert (done.returncode, done.stderr) == (ExitCode.NOBODY_READS, "")
    assert TASK_ID in done.stdout


async def test_colours_that_are_forced_make_no_terminal() -> None:
    ended = TASK_EXAMPLE | {"status": "canceled", "stage": "done", "result": None}
    async with Peer.giving(answer(QUEUED, "202 Accepted"), answer(ended)) as peer:
        line = "waymark tasks submit 'Learn SQL' --wait"
        done = await shell(peer.url, line, FORCE_COLOR="1")
    assert done.returncode == ExitCode.TASK_FAILED
    assert not re.search("[\u2800-\u28ff\r]", done.stderr), "the spinner"
    assert "canceled after" in ESCAPES.sub("", done.stderr)


# --- what is said of a task ---


async def test_the_time_of_a_live_line_goes_on_though_nothing_is_heard() -> None:
    async with Peer.giving(answer(QUEUED, "202 Accepted"), b"", falls_silent=True) as peer:
        with Screen.showing(peer.url, "tasks", "submit", "Learn SQL") as screen:

            async def several() -> None:
                assert len(set(re.findall(r"accepted.* · ([\d.]+ s)", screen.text))) > 2

            await eventually(several)


async def test_a_task_for_later_says_when_and_get_tells_how_it_is_run() -> None:
    task = QUEUED | {
        "priority": "high",
        "metadata": {"team": "data"},
        "not_before": LATER,
        "parent_id": TASK_ID,
        "delivery": {"state": "delayed"},
    }
    async with Peer.giving(answer(task)) as peer:
        shown = await Script(peer.url).run("tasks", "get", TASK_ID)
    for name, value in (
        ("priority", "high"),
        ("metadata", "team=data"),
        ("not before", LATER),
        ("retry of", TASK_ID),
    ):
        assert re.search(rf"(?m)^{name} +{re.escape(value)}$", shown.out), shown.out
    async with Peer.giving(answer(task, "202 Accepted")) as peer:
        waited = await Script(peer.url).run(
            *("tasks", "submit", "Learn SQL", "--timeout", "0.1", "--not-before", LATER)
        )
    assert waited.code == ExitCode.TIMED_OUT, "who says how long waits"
    assert f"accepted, to begin at {LATER}" in waited.err
    paced = task | {"not_before": None}  # by an operator's replay, for one
    async with Peer.giving(answer(paced)) as peer:
        waited = await Script(peer.url).run("tasks", "submit", "Learn SQL", "--timeout", "0.1")
    assert "accepted, waiting for a relay" in waited.err


# --- addresses and strangers ---


async def test_a_raw_path_keeps_its_query_and_fields_that_repeat() -> None:
    async with Peer.giving(answer({})) as peer:
        fields = ("-f", "status=failed", "-f", "status=canceled")
        for method in ("GET", "HEAD"):
            await Script(peer.url).run("api", method, "/v1/tasks?limit=2", *fields)
    said = [("limit", "2"), ("status", "failed"), ("status", "canceled")]
    assert [query(heard) for heard in peer.heard] == [said, said]


async def test_a_raw_stream_and_a_number_that_json_lacks_are_no_requests() -> None:
    async with Peer.giving(answer({})) as peer:
        stream = f"/v1/tasks/{TASK_ID}/events"
        refused = await Script(peer.url).run("api", "GET", stream, "-H", "Accept:text/event-stream")
        assert (refused.code, "tasks watch" in refused.err) == (ExitCode.USAGE, True)
        assert not peer.heard
        await Script(peer.url).run("api", "GET", "/v1/tasks", "-f", "q=NaN")
    assert query(peer.heard[0]) == [("q", "NaN")]


async def test_a_stranger_does_not_say_what_is_not_there() -> None:
    async with Peer.giving(answering("404 Not Found", "<html>nginx</html>")) as peer:
        shown = await Script(peer.url).run("tasks", "get", TASK_ID)
    assert shown.code == ExitCode.UNEXPECTED


async def test_a_password_in_an_address_is_never_shown() -> None:
    for port in (1, 0):
        url = f"http://ann:sesame@127.0.0.1:{port}"
        shown = await Script(url).run("tasks", "get", TASK_ID)
        assert shown.code == (ExitCode.UNREACHABLE if port else ExitCode.USAGE)
        assert "127.0.0.1" in shown.err
        assert "sesame" not in shown.err


async def test_an_environment_that_allows_no_connection_is_named() -> None:
    done = await shell("https://waymark.example", "waymark workers list", ALL_PROXY="junk://x")
    assert done.returncode == ExitCode.USAGE
    assert "ALL_PROXY" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["tasks", "submit", "Learn SQL", "--hours", "nan"],
        ["tasks", "submit", "Learn SQL", "--timeout", "inf"],
        ["tasks", "submit", "Learn", "SQL"],
        ["tasks", "list", "--since", "99999999999d"],
        ["tasks", "list", "--since", "0001-01-01T00:00+14:00"],
        ["tasks", "list", "--url", "http://127.0.0.1:1/?a=b"],
    ],
)
async def test_what_cannot_be_meant_is_wrong_usage(arguments: list[str]) -> None:
    shown = await Script("http://127.0.0.1:1").run(*arguments)
    assert (shown.code, shown.out) == (ExitCode.USAGE, "")
    assert "hint: " in shown.err
    assert "?." not in shown.err
