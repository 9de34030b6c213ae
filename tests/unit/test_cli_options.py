"""What is typed and what it means: times, notes, fields, ways to wait, completion, tables."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shared.views import Estimate, ModelEstimate, Validation
from waymark.__main__ import main
from waymark.commands.awaiting import way_of
from waymark.commands.completion import VARIABLE
from waymark.commands.run_options import metadata_of
from waymark.commands.times import ahead, past
from waymark.complaints import Complaint
from waymark.exit_codes import ExitCode
from waymark.tables import Clock, columns, cut, span
from waymark.task_lines import estimate_lines

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 23, 10, 0, 30, tzinfo=UTC)


def run(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["waymark", *arguments])
    with pytest.raises(SystemExit) as leaving:
        main()
    return int(leaving.value.code or 0)


# --- times ---


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2026-11-23", "2026-11-23T00:00:00Z"),
        ("2026-11-23T10:00", "2026-11-23T10:00:00Z"),
        ("2026-11-23T10:00:00+02:00", "2026-11-23T08:00:00Z"),
    ],
)
def test_a_time_without_a_zone_is_utc(text: str, meant: str) -> None:
    assert past(text, "--since") == ahead(text, "--not-before") == meant
    assert past(None, "--since") is None


@pytest.mark.parametrize(("text", "hours"), [("90m", 1.5), ("2h", 2), ("3d", 72)])
def test_a_span_is_counted_back_or_ahead(text: str, hours: float) -> None:
    for count, sign in ((past, -1), (ahead, 1)):
        meant = datetime.fromisoformat(count(text, "--since") or "")
        off = meant - datetime.now(UTC) - sign * timedelta(hours=hours)
        assert abs(off.total_seconds()) < 60


@pytest.mark.parametrize("text", ["", "soon", "2026-13-01", "5", "2x", "1.2.3h"])
def test_what_is_no_time_is_wrong_usage(text: str) -> None:
    with pytest.raises(Complaint) as complaint:
        past(text, "--since")
    assert complaint.value.code is ExitCode.USAGE
    assert "--since" in str(complaint.value)


# --- notes, ways ---


def test_metadata_is_cut_at_the_first_equals_sign() -> None:
    assert metadata_of(["a=1", "b=x=y", "c="]) == {"a": "1", "b": "x=y", "c": ""}
    assert metadata_of([]) is None
    for wrong in (["a"], ["=1"], ["a=1", "a=2"]):
        with pytest.raises(Complaint):
            metadata_of(wrong)


def test_people_see_the_stages_and_programs_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal, way in ((True, "stages"), (False, "detach")):
        monkeypatch.setattr(sys.stdout, "isatty", lambda terminal=terminal: terminal)
        assert way_of(None, None) == way
        assert (way_of(True, None), way_of(False, None)) == ("wait", "detach")
        assert way_of(None, None, watch=True) == way_of(True, 5.0, watch=True) == "watch"
    with pytest.raises(Complaint):
        way_of(False, None, watch=True)


def test_who_says_how_long_to_wait_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal, way in ((True, "stages"), (False, "wait")):
        monkeypatch.setattr(sys.stdout, "isatty", lambda terminal=terminal: terminal)
        assert way_of(None, 5.0) == way
    with pytest.raises(Complaint) as complaint:
        way_of(False, 5.0)
    assert complaint.value.code is ExitCode.USAGE


# --- raw requests: what is refused before anything is asked ---


@pytest.mark.parametrize(
    "wrong",
    [
        ("POST", "/v1/tasks", "-f", "a=1", "-f", "a[b]=2"),
        ("POST", "/v1/tasks", "-f", "a=1", "--input", "-"),
        ("GET", "/v1/tasks", "--input", "-"),
        ("POST", "/v1/tasks", "--input", "-"),
    ],
)
def test_a_body_that_makes_no_sense_is_wrong_usage(
    wrong: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("{"))
    assert run("api", *wrong, monkeypatch=monkeypatch) == ExitCode.USAGE


# --- completion ---


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_script(
    shell: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("completion", shell, monkeypatch=monkeypatch) == 0
    assert f"{VARIABLE}=complete_{shell}" in capsys.readouterr().out


def test_bash_completes_commands_and_options() -> None:
    script = subprocess.run(
        [sys.executable, "-m", "waymark", "completion", "bash"],
        capture_output=True,
        check=True,
        cwd=ROOT,
    ).stdout.decode()
    waymark = Path(sys.executable).with_name("waymark")
    for words, wanted in ((["tasks", "sub"], "submit"), (["tasks", "list", "--me"], "--metadata")):
        typed = " ".join(f'"{word}"' for word in (str(waymark), *words))
        ask = f"COMP_WORDS=({typed}); COMP_CWORD={len(words)}; _waymark_completion {waymark}"
        show = 'printf "%s\\n" "${COMPREPLY[@]}"'
        done = subprocess.run(
            ["bash", "-c", f"{script}\n{ask}\n{show}"],
            capture_output=True,
            check=True,
            cwd=ROOT,
            env=os.environ,
        )
        assert wanted in done.stdout.decode().split()


# --- what is printed ---


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.04, "0 s"), (4.25, "4.2 s"), (59.6, "60 s"), (61, "1 min 1 s"), (7200, "2 h")],
)
def test_a_span_has_its_two_largest_units(seconds: float, said: str) -> None:
    assert span(seconds) == said


def test_times_are_relative_for_people_and_exact_for_programs() -> None:
    people, programs = Clock(NOW, relative=True), Clock(NOW, relative=False)
    for time, said in (
        ("2026-11-23T09:58:30.5Z", "1 min 59 s ago"),
        ("2026-11-23T10:00:30.9Z", "0 s ago"),
        ("2026-11-23T12:00:30Z", "in 2 h"),
    ):
        assert people.said(time) == said
        assert programs.said(time) == time
    assert people.said(None) == programs.said(None) == ""
    assert Clock.of({"date": "Mon, 23 Nov 2026 10:00:30 GMT"}).now == NOW


def test_columns_stand_in_line_and_keep_to_the_edge() -> None:
    rows = [("1", "学习机器学习", "x" * 30), ("22", "SQL", "\x1b[2J")]
    wide = list(columns(("no", "goal", "note"), rows, None))
    assert wide[0] == "no  goal          note"
    assert wide[1] == f"1   学习机器学习  {'x' * 30}"
    assert wide[2] == "22  SQL            [2J"
    assert list(columns(("no", "goal", "note"), rows, 24))[1] == "1   学习机器…  xxxxxxxx…"
    assert list(columns(("no",), [], 12)) == []
    assert cut("short", 5) == "short"


def test_an_estimate_is_told_with_its_plan_its_cost_or_why_there_is_none() -> None:
    model = ModelEstimate(
        name="m", calls=14, tokens_in=12345, tokens_out=678, cost_usd=None, based_on="assumed"
    )
    estimate = Estimate(
        goal="SQL", feasible=False, stages=3, concepts=24, hours=66.5, weeks=14, model=model
    )
    found = Validation(normalized={}, estimate=estimate).model_dump(mode="json")
    assert list(estimate_lines(found)) == [
        "goal      SQL",
        "plan      3 stages, 24 concepts, 66.5 h in 14 weeks",
        "fits      not into the time you have",
        "model     m: about 14 calls, 12,345 tokens in, 678 out",
        "based on  assumed",
    ]
    problem = {"code": "goal_not_covered", "detail": "No.", "retryable": False, "nearest": ["SQL"]}
    refused = {"valid": True, "normalized": {}, "estimate": None, "problem": problem}
    assert list(estimate_lines(refused)) == ["goal_not_covered: No.", "  SQL"]


# --- speed ---


@pytest.mark.parametrize("heavy", ["httpx2", "pydantic", "rich", "sqlalchemy", "asyncio"])
def test_help_loads_nothing_heavy(heavy: str) -> None:
    code = (
        "import sys; sys.argv = ['waymark', '--help']\n"
        "from waymark.__main__ import main\n"
        "try: main()\n"
        f"except SystemExit: print({heavy!r} in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stderr == "False\n"
