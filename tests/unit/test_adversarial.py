"""Requests that try the matcher: each is planned as it should be, or refused."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.errors import GoalNotCovered
from shared.roadmap import LANGUAGES, Roadmap, RoadmapRequest
from worker_service.generators.offline import load_catalog, plan
from worker_service.generators.offline.matching import match_goal, match_topic

TODAY = date(2030, 1, 7)
SHORTEST_REQUEST = 3
"""Characters that a request has at least; the matcher itself reads shorter ones."""

Case = dict[str, Any]  # Any: YAML


def cases() -> list[Case]:
    groups = yaml.safe_load(Path(__file__).with_name("adversarial.yaml").read_text("utf-8"))
    return [case for group in groups.values() for case in group]


def said(case: Case) -> str:
    return str(case["say"])[:60]


CASES = cases()
PLANNED = [case for case in CASES if "plans" in case]
REFUSED = [case for case in CASES if case.get("refused")]
SENDABLE = [
    case for case in PLANNED if len(case["say"]) >= SHORTEST_REQUEST and case["say"].isprintable()
]
"""Without those that never reach a planner: the API turns them away."""


def test_there_are_two_hundred_of_them_and_each_says_what_must_happen() -> None:
    assert len(CASES) >= 200
    assert len({case["say"] for case in CASES}) == len(CASES)
    assert len(PLANNED) + len(REFUSED) == len(CASES)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("case", PLANNED, ids=said)
def test_a_request_that_we_cover_is_understood(case: Case, language: str) -> None:
    match = match_goal(load_catalog(language), case["say"])
    assert sorted(entry.id for entry in match.entries) == sorted(case["plans"])
    assert list(match.unwanted) == case.get("unwanted", [])


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("case", REFUSED, ids=said)
def test_any_other_request_is_refused_with_what_comes_near(case: Case, language: str) -> None:
    catalog = load_catalog(language)
    with pytest.raises(GoalNotCovered) as refusal:
        match_goal(catalog, case["say"])
    ids = {goal.name: goal.id for goal in catalog.goals.values()}
    nearest = [ids[name] for name in refusal.value.nearest]
    assert len(set(nearest)) == 5
    assert set(case.get("near", ())) <= set(nearest)


@pytest.mark.parametrize("case", SENDABLE, ids=said)
def test_what_is_understood_becomes_a_plan_without_filler_and_without_the_unwanted(
    case: Case,
) -> None:
    roadmap = plan(RoadmapRequest(goal=case["say"]), today=TODAY)
    assert Roadmap.model_validate_json(roadmap.model_dump_json()) == roadmap
    for stage in roadmap.stages:
        assert all(module.concepts for module in stage.modules)
        assert stage.modules
    for topic in case.get("unwanted", ()):
        assert_kept_out(roadmap, topic)


def assert_kept_out(roadmap: Roadmap, topic: str) -> None:
    """Nothing of it is there, unless the goal needs it and a warning says so."""
    unwanted = match_topic(load_catalog(), topic) or frozenset()
    kept = [one.name for one in roadmap.concepts() if one.id in unwanted]
    for name in kept:
        assert any(warning.startswith(f"{name} stays in the plan") for warning in roadmap.warnings)
