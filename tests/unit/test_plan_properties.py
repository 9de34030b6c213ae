"""What holds for every plan, whatever is asked."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.roadmap import WEEK_TOLERANCE, Roadmap, RoadmapRequest, weekly_hours
from tests.unit.plans import (
    CATALOG,
    TODAY,
    ids,
    known_to,
    meant_by,
    plan_if_any,
    requests,
    sixty,
    topics,
)
from worker_service.generators.offline.content import content_of
from worker_service.generators.offline.matching import match_goal
from worker_service.generators.offline.planning import select


@sixty
@given(requests)
def test_every_hard_prerequisite_is_planned_before_or_known(request: RoadmapRequest) -> None:
    roadmap = plan_if_any(request)
    has = known_to(request)
    seen: set[str] = set()
    for one in ids(roadmap) if roadmap else ():
        for edge in CATALOG.concepts[one].requires:
            if edge.hard:
                group = CATALOG.alternatives.get(edge.one_of or "")
                enough = set(group.members) if group else {edge.id}
                assert enough & (seen | has), (one, edge)
        seen.add(one)


@sixty
@given(requests)
def test_prerequisites_of_the_roadmap_run_in_no_circle(request: RoadmapRequest) -> None:
    roadmap = plan_if_any(request)
    seen: set[str] = set()
    for one in roadmap.concepts() if roadmap else ():
        hard = {edge.concept_id for edge in one.prerequisites if edge.strength == "hard"}
        assert hard <= seen
        seen.add(one.id)


@sixty
@given(requests)
def test_nothing_known_is_planned(request: RoadmapRequest) -> None:
    roadmap = plan_if_any(request)
    known = CATALOG.implied(meant_by(request.known_topics, known=True))
    assert roadmap is None or known.isdisjoint(ids(roadmap))


@sixty
@given(requests)
def test_nothing_excluded_is_planned_without_a_warning(request: RoadmapRequest) -> None:
    english = request.model_copy(update={"language": "en"})
    roadmap = plan_if_any(english)
    if roadmap:
        for one in meant_by(request.exclude).intersection(ids(roadmap)):
            start = f"{CATALOG.concepts[one].name} stays in the plan although it was excluded"
            assert any(warning.startswith(start) for warning in roadmap.warnings)


@sixty
@given(requests)
def test_a_plan_keeps_to_its_weeks_or_says_what_it_would_take(request: RoadmapRequest) -> None:
    roadmap = plan_if_any(request)
    if roadmap and request.weeks:
        fit = roadmap.fit
        budget = request.weeks * request.hours_per_week
        assert fit.feasible == (roadmap.total_hours <= budget + 1e-6)
        assert fit.feasible == (fit.suggestion is None)
        if fit.feasible:
            assert roadmap.weeks <= request.weeks
            assert roadmap.total_hours + fit.buffer_hours <= budget + 1e-6
        else:
            kinds = {one.kind for one in roadmap.concepts()}
            assert kinds <= {"core"} or "core" not in kinds


@sixty
@given(requests)
def test_no_week_carries_more_than_its_hours(request: RoadmapRequest) -> None:
    roadmap = plan_if_any(request)
    if roadmap:
        load = weekly_hours(roadmap)
        assert max(load.values()) <= request.hours_per_week * WEEK_TOLERANCE + 1e-6
        assert sum(load.values()) == pytest.approx(roadmap.total_hours)
        assert max(load) == roadmap.weeks
        assert roadmap.end_date - roadmap.start_date == timedelta(days=roadmap.weeks * 7 - 1)


@sixty
@given(requests)
def test_only_buffers_are_left_free(request: RoadmapRequest) -> None:
    roadmap = plan_if_any(request)
    if roadmap:
        buffers = [stage.buffer_hours for stage in roadmap.stages]
        assert sum(buffers) == pytest.approx(roadmap.fit.buffer_hours)
        used = roadmap.total_hours + sum(buffers[:-1])
        weeks = used / request.hours_per_week
        assert weeks / WEEK_TOLERANCE - 1e-6 <= roadmap.weeks < weeks + 1


@sixty
@given(requests)
def test_everything_is_studied_on_study_days_in_order(request: RoadmapRequest) -> None:
    roadmap = plan_if_any(request)
    weekdays = {day.number for day in request.study_days}
    before = date.min
    for one in roadmap.concepts() if roadmap else ():
        assert roadmap is not None
        assert one.starts_on is not None
        assert one.ends_on is not None
        assert before <= one.starts_on <= one.ends_on <= roadmap.end_date
        assert {one.starts_on.weekday(), one.ends_on.weekday()} <= weekdays
        week = roadmap.start_date + timedelta(weeks=one.week_from - 1)
        assert week <= one.starts_on < week + timedelta(weeks=1)
        before = one.starts_on


@sixty
@given(requests)
def test_the_same_request_gives_the_same_bytes(request: RoadmapRequest) -> None:
    one, other = plan_if_any(request), plan_if_any(request)
    assert (one and one.model_dump_json()) == (other and other.model_dump_json())


@sixty
@given(requests)
def test_the_language_changes_words_and_nothing_else(request: RoadmapRequest) -> None:
    english = plan_if_any(request.model_copy(update={"language": "en"}))
    chinese = plan_if_any(request.model_copy(update={"language": "zh"}))
    assert _skeleton(english) == _skeleton(chinese)


def _skeleton(roadmap: Roadmap | None) -> object:
    return roadmap and [
        (stage.id, module.id, one.id, one.hours, one.starts_on, one.kind, one.mastery)
        for stage in roadmap.stages
        for module in stage.modules
        for one in module.concepts
    ]


@sixty
@given(requests, topics)
def test_knowing_more_never_lengthens_an_open_plan(request: RoadmapRequest, more: str) -> None:
    # an exclusion may cut off what knowledge then makes possible again: that is more to learn
    alone = request.model_copy(update={"weeks": None, "exclude": ()})
    wiser = alone.model_copy(update={"known_topics": (*request.known_topics, more)})
    before, after = plan_if_any(alone), plan_if_any(wiser)
    if before is None:
        assert after is None
    elif after is not None:
        assert set(ids(after)) <= set(ids(before))
        assert after.total_hours <= before.total_hours
        assert after.weeks <= before.weeks + 1  # buffers between stages lie elsewhere


@sixty
@given(requests, topics)
def test_knowing_more_never_makes_a_plan_miss_its_end(request: RoadmapRequest, more: str) -> None:
    timely = request.model_copy(update={"weeks": request.weeks or 12, "exclude": ()})
    wiser = timely.model_copy(update={"known_topics": (*request.known_topics, more)})
    before, after = plan_if_any(timely), plan_if_any(wiser)
    if before is not None and after is not None:
        assert after.fit.feasible or not before.fit.feasible
        if not after.fit.feasible:
            assert after.total_hours <= before.total_hours


@sixty
@given(requests, st.floats(1, 3))
def test_more_hours_never_give_fewer_core_concepts(request: RoadmapRequest, factor: float) -> None:
    pace = min(80.0, request.hours_per_week * factor)
    before = plan_if_any(request)
    after = plan_if_any(request.model_copy(update={"hours_per_week": pace}))
    assert _core(before) == _core(after)
    if before is not None and after is not None and request.weeks:
        assert after.fit.feasible or not before.fit.feasible


def _core(roadmap: Roadmap | None) -> set[str]:
    return {one.id for one in roadmap.concepts() if one.kind == "core"} if roadmap else set()


@sixty
@given(requests)
def test_stages_and_modules_have_a_readable_size(request: RoadmapRequest) -> None:
    roadmap = plan_if_any(request)
    if roadmap:
        assert min(3, len(ids(roadmap)) // 2) <= len(roadmap.stages) <= 6
        for stage in roadmap.stages:
            assert all(len(module.concepts) <= 8 for module in stage.modules)
        names = [module.name for stage in roadmap.stages for module in stage.modules]
        assert len({stage.name for stage in roadmap.stages}) == len(roadmap.stages)
        assert len(set(names)) == len(names)


@sixty
@given(requests)
def test_no_core_target_is_missing_without_a_word(request: RoadmapRequest) -> None:
    request = request.model_copy(update={"language": "en"})
    roadmap = plan_if_any(request)
    if roadmap:
        match = match_goal(CATALOG, request.goal)
        core = select(CATALOG, request, match, start=TODAY).aim.core
        told = {one.concept_id for one in roadmap.fit.dropped if "was excluded" in one.reason}
        assert core <= known_to(request) | meant_by(request.exclude) | told.union(ids(roadmap))


@sixty
@given(requests)
def test_every_concept_is_in_one_module(request: RoadmapRequest) -> None:
    roadmap = plan_if_any(request)
    every = [one.id for one in roadmap.concepts()] if roadmap else []
    assert len(set(every)) == len(every)


@sixty
@given(requests)
def test_a_milestone_asks_for_nothing_that_was_not_studied(request: RoadmapRequest) -> None:
    roadmap = plan_if_any(request.model_copy(update={"language": "en"}))
    projects = {project.title: project for project in CATALOG.projects.values()}
    has = set(known_to(request))
    for stage in roadmap.stages if roadmap else ():
        here = {concept.id for module in stage.modules for concept in module.concepts}
        has |= here
        if stage.milestone:
            required = set(projects[stage.milestone.title].requires)
            assert required <= has
            assert required & here


@sixty
@given(requests)
def test_everything_planned_has_its_content(request: RoadmapRequest) -> None:
    roadmap = plan_if_any(request.model_copy(update={"language": "en"}))
    for one in roadmap.concepts() if roadmap else ():
        assert one.lesson
        assert one.content == "catalog"
        if one.id in CATALOG.concepts:
            made = content_of(CATALOG, CATALOG.concepts[one.id])
            assert (one.practice, one.resources) == (made.practice, made.resources)
            assert len(one.quiz) == 3


# --- determinism across processes ----------------------------------------------------------------

PRINT_PLANS = """
import hashlib
from datetime import date
from shared.roadmap import RoadmapRequest
from worker_service.generators.offline import load_catalog, plan
digest = hashlib.sha256()
for goal in load_catalog().goals.values():
    request = RoadmapRequest(
        goal=goal.name, weeks=12, known_topics=("loops",), exclude=("linting", "logging", "redis")
    )
    digest.update(plan(request, today=date(2030, 1, 7)).model_dump_json().encode())
print(digest.hexdigest())
"""


def test_plans_do_not_depend_on_the_order_of_hashes() -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", PRINT_PLANS],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(digests) == 1
