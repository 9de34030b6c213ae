"""The command line against a scripted API: what it sends, prints and returns."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, get_args

import pytest

from shared.roadmap import Level, Roadmap
from tests.eventually import eventually_sync
from waymark.__main__ import main
from waymark.client import Client
from waymark.commands.options import LevelOption
from waymark.data_dir import DataDir
from waymark.exit_codes import EXIT_CODES, ExitCode
from waymark.printing import print_roadmap
from waymark.processes import pick_port

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
        "input": {"goal": "Learn SQL"},
        "result": None,
        "error": None,
        "created_at": "2026-11-23T10:00:00Z",
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


def test_without_arguments_it_prints_a_short_help(waymark: Any) -> None:
    shown = waymark()
    assert (shown.code, shown.err) == (0, "")
    assert all(command in shown.out for command in ("up", "demo", "config", "tasks", "db"))


def test_the_help_lists_every_exit_code(waymark: Any) -> None:
    shown = " ".join(waymark("--help").out.split())
    assert all(f"{code} {what}" in shown for code, what in EXIT_CODES.items())
    assert set(EXIT_CODES) == set(ExitCode)


def test_the_help_loads_nothing_heavy() -> None:
    code = "import sys, waymark.__main__; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.split()
    assert not {"sqlalchemy", "httpx2", "asyncpg", "alembic", "pydantic", "asyncio"} & set(loaded)


def test_an_unknown_command_is_wrong_usage(waymark: Any) -> None:
    shown = waymark("fly")
    assert shown.code == 2
    assert "fly" in shown.err


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
    assert "hint: start one with `waymark up`" in shown.err
    assert "Traceback" not in shown.err


def test_something_else_on_the_port_is_told_from_waymark(api: ScriptedApi, waymark: Any) -> None:
    api.on(f"GET /v1/tasks/{TASK}", (200, "<html>"))
    shown = waymark("tasks", "get", TASK)
    assert shown.code == 7
    assert "is the URL right?" in shown.err


def test_get_prints_a_task_for_people_and_json_for_programs(api: ScriptedApi, waymark: Any) -> None:
    api.on(f"GET /v1/tasks/{TASK}", (200, SUCCEEDED))
    assert "succeeded" in waymark("tasks", "get", TASK).out
    assert json.loads(waymark("tasks", "get", TASK, "--json").out) == SUCCEEDED


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
    assert "4.5 h in 1 week at 5 h a week · 23 Nov 2026 to 29 Nov 2026" in lines
    assert "1. Foundations week 1 4.5 h" in lines
    assert "· Reading rows with SELECT week 1 4.5 h" in lines
    assert "Milestone: A report of ten queries" in lines
    assert "Left out: Joins (no time)" in lines
    assert max(len(line) for line in shown.splitlines()) <= 88


def test_the_client_keeps_away_from_proxies_when_the_server_is_on_this_machine(
    api: ScriptedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{pick_port()}")
    api.on(f"GET /v1/tasks/{TASK}", (200, SUCCEEDED))
    with Client(api.url) as client:
        assert client.task(TASK) == SUCCEEDED
