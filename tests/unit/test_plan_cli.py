"""``waymark plan`` and ``waymark catalog``: plans and refusals without a server."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date

import pytest

from shared.roadmap import Roadmap, RoadmapRequest
from waymark.__main__ import main
from waymark.exit_codes import ExitCode
from worker_service.generators.offline import load_catalog, plan

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Exit code, stdout and stderr of a command line, in this process."""

    def ran(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["waymark", *words])
        with pytest.raises(SystemExit) as done:
            main()
        out, err = capsys.readouterr()
        code = done.value.code
        return (code if isinstance(code, int) else 0), out, err

    return ran


def test_a_plan_is_printed(run: Run) -> None:
    code, out, err = run("plan", "SQL for an analyst", "--weeks", "4")
    assert (code, err) == (0, "")
    assert out.startswith("SQL for analysis\n")
    assert "\n1. Foundations: " in out
    assert "Milestone: " in out


def test_known_topics_may_be_given_in_one_list(run: Run) -> None:
    _, out, _ = run("plan", "Docker", "--known", "terminal basics, git", "--json")
    names = [one.name for one in Roadmap.model_validate_json(out).concepts()]
    assert "Terminal basics" not in names


def test_json_is_the_roadmap_of_the_same_request(run: Run) -> None:
    _, out, _ = run("plan", "FastAPI and Docker", "--hours", "6", "--language", "zh", "--json")
    request = RoadmapRequest(goal="FastAPI and Docker", hours_per_week=6, language="zh")
    expected = plan(request, today=date.today())
    assert Roadmap.model_validate_json(out) == expected
    assert json.loads(out) == expected.model_dump(mode="json")


def test_the_same_request_prints_the_same_bytes(run: Run) -> None:
    words = ("plan", "Learn Git", "--start", "2030-01-07", "--json")
    assert run(*words) == run(*words)


@pytest.mark.parametrize(
    ("language", "titles"),
    [("en", ["Matching", "Closure", "Pruning", "Fit"]), ("zh", ["目标匹配", "前置闭包", "剪枝"])],
)
def test_it_explains_how_a_plan_came_about(run: Run, language: str, titles: list[str]) -> None:
    words = ("plan", "FastAPI without redis", "--explain", "--weeks", "9", "--language", language)
    code, out, _ = run(*words)
    assert code == 0
    places = [out.index(f"{title}\n") for title in titles]
    assert places == sorted(places)


def test_a_chinese_plan_has_chinese_words_around_it(run: Run) -> None:
    _, out, _ = run("plan", "学习机器学习", "--language", "zh", "--weeks", "20")
    assert "个知识点" in out
    assert "里程碑：" in out
    assert "weeks" not in out


def test_an_uncovered_goal_is_refused_with_the_nearest(run: Run) -> None:
    code, out, err = run("plan", "Knit a sweater")
    assert (code, out) == (ExitCode.TASK_FAILED, "")
    assert err.startswith("waymark: no plan: goal_not_covered: ")
    nearest = [goal for goal in load_catalog().goals.values() if goal.name in err]
    assert len(nearest) >= 5


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("git", "--language", "fr"), "--language: is not available; choose one of: en, zh"),
        (("x",), "GOAL: is too short"),
        (("git", "--hours", "100"), "--hours: "),
        (("git", "--start", "soon"), "--start: must be a date written like 2030-01-31"),
        (("git", "--study-days", "mon,someday"), "--study-days: "),
        (("git", "--weeks", "3", "--until", "2031-01-01"), "weeks and until both say when to end"),
    ],
)
def test_a_bad_request_is_refused_by_the_name_of_its_option(
    run: Run, words: tuple[str, ...], said: str
) -> None:
    code, out, err = run("plan", *words)
    assert (code, out) == (ExitCode.USAGE, "")
    assert said in err


def test_stats_count_every_domain(run: Run) -> None:
    code, out, _ = run("catalog", "stats")
    rows = out.splitlines()
    assert code == 0
    assert [row.split("  ")[0] for row in rows[1:11]] == list(load_catalog().domains.values())
    assert rows[11].split()[:2] == ["all", str(len(load_catalog().concepts))]


def test_stats_are_a_document_as_well(run: Run) -> None:
    _, out, _ = run("catalog", "stats", "--json")
    assert json.loads(out)["version"] == load_catalog().version


def test_stats_in_an_unknown_language_are_refused(run: Run) -> None:
    code, _, err = run("catalog", "stats", "--language", "tlh")
    assert code == ExitCode.USAGE
    assert "choose one of: en, zh" in err
