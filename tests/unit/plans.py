"""Requests of all kinds, and plans made of them."""

from __future__ import annotations

from datetime import date

from hypothesis import settings
from hypothesis import strategies as st

from shared.errors import GoalNotCovered, Permanent
from shared.roadmap import Level, Roadmap, RoadmapRequest, Weekday
from worker_service.generators.offline import load_catalog, plan
from worker_service.generators.offline.matching import match_goal, match_topic

CATALOG = load_catalog()
TODAY = date(2030, 1, 7)
RANK = {Level.BEGINNER: 0, Level.INTERMEDIATE: 1, Level.ADVANCED: 2}


def is_covered(goal: str) -> bool:
    try:
        match_goal(CATALOG, goal)
    except GoalNotCovered:
        return False
    return True


names = st.sampled_from([goal.name for goal in CATALOG.goals.values()])
goals = st.one_of(
    names,
    st.lists(names, min_size=2, max_size=3, unique=True).map(", ".join).filter(is_covered),
    st.sampled_from(["learn Git branching", "trees and graphs", "transactional outbox"]),
    st.sampled_from(["FastAPI and Docker", "Python, SQL and Git", "学习机器学习"]),
)
topics = st.sampled_from(
    [
        *(concept.name for concept in CATALOG.concepts.values()),
        *("Python", "Docker", "Git", "SQL", "FastAPI", "JavaScript", "Knitting", "Fortran"),
    ]
)
hours_a_week = st.one_of(
    st.integers(1, 80).map(float), st.floats(1, 80, allow_nan=False, allow_infinity=False)
)
requests = st.builds(
    RoadmapRequest,
    goal=goals,
    level=st.sampled_from(Level),
    hours_per_week=hours_a_week,
    weeks=st.none() | st.integers(1, 104),
    known_topics=st.lists(topics, max_size=9).map(tuple),
    exclude=st.lists(topics, max_size=3).map(tuple)
    | st.sampled_from([group.members for group in CATALOG.alternatives.values()]),
    study_days=st.sets(st.sampled_from(Weekday), min_size=1).map(tuple),
    language=st.sampled_from(("en", "zh")),
)
sixty = settings(max_examples=60, deadline=None, derandomize=True)


def make_plan(goal: str = "Backend developer with Python", **details: object) -> Roadmap:
    request = RoadmapRequest.model_validate({"goal": goal, **details})
    return plan(request, today=TODAY)


def plan_if_any(request: RoadmapRequest) -> Roadmap | None:
    """The plan, or None if nothing is left to learn; any other error fails the test."""
    try:
        return plan(request, today=TODAY)
    except Permanent as error:
        if error.code != "nothing_left_to_learn":
            raise
        return None


def ids(roadmap: Roadmap) -> list[str]:
    """Of the catalog's concepts, in the order of study: without projects and reviews."""
    return [one.id for one in roadmap.concepts() if one.kind not in ("project", "review")]


def meant_by(named: tuple[str, ...], *, known: bool = False) -> frozenset[str]:
    topics = (match_topic(CATALOG, topic, known=known) or () for topic in named)
    return frozenset[str]().union(*topics)


def known_to(request: RoadmapRequest) -> frozenset[str]:
    """By what the request names as known, and by its level."""
    assumed = {
        one.id
        for one in CATALOG.concepts.values()
        if one.assumed_from and RANK[one.assumed_from] <= RANK[request.level]
    }
    return CATALOG.implied(meant_by(request.known_topics, known=True)) | assumed
