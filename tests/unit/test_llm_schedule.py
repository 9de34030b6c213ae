"""Hours, weeks and totals are ours: whatever the model says, a sound outline is a valid roadmap."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import Permanent
from shared.roadmap import GeneratedBy, Roadmap, RoadmapRequest
from tests.unit.test_design_checks import WANTED, with_
from tests.unit.test_outline import CATALOG, concept, design
from worker_service.generators.llm.checks import findings
from worker_service.generators.llm.edits import apply
from worker_service.generators.llm.outline import Ids, Outline, outline_of, slug
from worker_service.generators.llm.schedule import half_hours, schedule
from worker_service.generators.llm.shapes import (
    Design,
    DesignedConcept,
    DesignedMilestone,
    DesignedModule,
    DesignedStage,
    Edits,
    Operation,
)
from worker_service.generators.partials import PARTIAL_BYTES, partials

TODAY = date(2030, 1, 7)
BY = GeneratedBy(name="llm", version="1", model="some")

few_names = st.sampled_from(
    ["SQL", "sql", "Joins", "Loops", "Queries", "机器学习", "C", "C++", "!"]
)
letters = st.characters(exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp"])
names = few_names | st.text(letters, min_size=1, max_size=120)
sentences = st.text(letters, min_size=1, max_size=40)
concepts = st.builds(
    DesignedConcept,
    name=names,
    description=sentences,
    why=sentences,
    difficulty=st.integers(1, 5),
    hours=st.sampled_from([0.5, 1, 2, 40]) | st.floats(0, 1000),
    needs=st.lists(few_names, max_size=3).map(tuple),
    outcomes=st.lists(sentences, min_size=1, max_size=4).map(tuple),
)
modules = st.builds(
    DesignedModule,
    name=names,
    description=sentences,
    concepts=st.lists(concepts, min_size=1, max_size=4).map(tuple),
)
stages = st.builds(
    DesignedStage,
    name=names,
    description=sentences,
    outcome=sentences,
    modules=st.lists(modules, min_size=1, max_size=3).map(tuple),
    milestone=st.none() | st.builds(DesignedMilestone, title=names, deliverable=sentences),
)
designs = st.builds(Design, stages=st.lists(stages, min_size=1, max_size=8).map(tuple))


@st.composite
def orderly_designs(draw: st.DrawFn) -> Design:
    """Of different names, each of which needs some of those before it; cut anywhere."""
    every = draw(st.lists(names, min_size=1, max_size=20, unique_by=slug))
    parts: list[list[list[DesignedConcept]]] = [[[]]]
    for place, name in enumerate(every):
        needs = draw(st.lists(st.sampled_from(every[:place]), max_size=3)) if place else []
        part = concept(name, *needs).model_copy(update={"hours": draw(st.floats(0.5, 40))})
        match draw(st.sampled_from(["here", "here", "module", "stage"])) if place else "here":
            case "module":
                parts[-1].append([])
            case "stage" if len(parts) < 6:
                parts.append([[]])
        parts[-1][-1].append(part)
    return Design(
        stages=tuple(
            DesignedStage(
                name="Stage",
                description="A part.",
                outcome="Done.",
                modules=tuple(design(*module).stages[0].modules[0] for module in stage),
            )
            for stage in parts
        )
    )


ids = st.sampled_from(["sql", "sql~2", "joins", "sql-joins", "c", "m-sql", "m-c", "m-joins", ""])
operations = st.builds(
    Operation,
    op=st.sampled_from(["add", "remove", "move", "rename", "adjust"]),
    concept=ids,
    module=ids,
    name=st.just("") | names,
    difficulty=st.none() | st.integers(1, 5),
    hours=st.none() | st.floats(0.1, 100),
    needs=st.none() | st.lists(ids, max_size=3).map(tuple),
    added=st.none() | concepts,
)
edits = st.builds(Edits, operations=st.lists(operations, max_size=12).map(tuple))

requests = st.builds(
    RoadmapRequest,
    goal=st.just("Learn SQL"),
    hours_per_week=st.floats(1, 80),
    weeks=st.none() | st.integers(1, 104),
    exclude=st.lists(st.sampled_from(["SQL", "Knitting", "C"]), max_size=2).map(tuple),
)
shelves = st.sampled_from([CATALOG, None])


def planned(outline: Outline, request: RoadmapRequest | None = None) -> Roadmap:
    request = request or RoadmapRequest(goal="Learn A")
    return schedule(outline, WANTED, request, start=TODAY, generated_by=BY)


def plan(*parts: DesignedConcept, **request: Any) -> Roadmap:  # Any: fields of any type
    return planned(outline_of(design(*parts), Ids(None)), RoadmapRequest(goal="Learn A", **request))


@given(designs, requests, shelves)
def test_any_design_has_critical_findings_or_is_a_valid_roadmap(
    made: Design, request: RoadmapRequest, shelf: Any
) -> None:
    outline = outline_of(made, Ids(shelf))
    found = findings(outline, request, WANTED, shelf)
    if not any(one.critical for one in found):
        Roadmap.model_validate_json(planned(outline, request).model_dump_json())


@given(orderly_designs(), requests)
def test_any_design_in_order_is_a_valid_roadmap(made: Design, request: RoadmapRequest) -> None:
    outline = outline_of(made, Ids(None))
    assert not [one for one in findings(outline, request, WANTED) if one.critical]
    Roadmap.model_validate_json(planned(outline, request).model_dump_json())


@given(designs | orderly_designs(), edits, requests, shelves)
def test_after_any_edits_it_is_still_the_one_or_the_other(
    made: Design, changes: Edits, request: RoadmapRequest, shelf: Any
) -> None:
    edited = apply(outline_of(made, Ids(shelf)), changes, Ids(shelf)).outline
    every = [one.id for one in edited.concepts()]
    assert len(every) == len(set(every))
    found = findings(edited, request, WANTED, shelf)
    if not any(one.critical for one in found):
        planned(edited, request)


@given(
    st.lists(st.floats(0.5, 40), min_size=1, max_size=120),
    st.floats(1, 80),
    st.none() | st.integers(1, 104),
)
def test_any_hours_at_any_pace_are_a_valid_roadmap(
    hours: list[float], per_week: float, weeks: int | None
) -> None:
    parts = [with_(f"Part {n}", hours=one) for n, one in enumerate(hours)]
    made = plan(*parts, hours_per_week=per_week, weeks=weeks)
    assert made.total_hours == sum(map(half_hours, hours))
    assert made.fit.feasible == (weeks is None or made.weeks <= weeks)
    assert (made.fit.suggestion is None) == made.fit.feasible


def test_four_hundred_entangled_concepts_are_findings() -> None:
    parts = [
        concept(f"Part {n}", *(f"Part {(n * k) % 400}" for k in (1, 7, 31))) for n in range(400)
    ]
    outline = outline_of(design(*parts), Ids(None))
    codes = {one.code for one in findings(outline, RoadmapRequest(goal="Learn A"), WANTED)}
    assert {"too_many_concepts", "circle", "need_comes_later"} <= codes


@pytest.mark.parametrize(
    ("hours", "rounded"), [(0.5, 0.5), (0.74, 0.5), (0.75, 1), (1.25, 1.5), (0.01, 0.5), (40, 40)]
)
def test_hours_are_rounded_to_halves(hours: float, rounded: float) -> None:
    assert half_hours(hours) == rounded


def test_the_models_order_is_kept() -> None:
    made = plan(concept("Zebra"), concept("Ant"), concept("Bee", "Zebra"))
    assert [one.name for one in made.concepts()] == ["Zebra", "Ant", "Bee"]
    assert made.stages[0].id == "s-zebra"
    assert made.stages[0].modules[0].id == "m-zebra"
    *_, last = made.concepts()
    assert [one.concept_id for one in last.prerequisites] == ["zebra"]


def test_weeks_and_the_last_day_follow_from_hours() -> None:
    made = plan(*(with_(f"Part {n}", hours=4) for n in range(5)), hours_per_week=5, weeks=2)
    assert (made.total_hours, made.weeks) == (20, 4)
    assert made.end_date == date(2030, 2, 3)
    later = "until 2030-02-03 at 5 hours a week"
    assert made.fit.suggestion == f"The goal needs 10 hours a week, or {later}."


def test_a_plan_that_would_outlive_the_calendar_is_refused() -> None:
    outline = outline_of(design(with_("A", hours=40)), Ids(None))
    request = RoadmapRequest(goal="Learn A", hours_per_week=1)
    with pytest.raises(Permanent) as refusal:
        schedule(outline, WANTED, request, start=date(9999, 12, 1), generated_by=BY)
    assert refusal.value.code == "start_date_too_late"


def test_each_stage_can_be_shown_before_there_is_content() -> None:
    (partial,) = partials(plan(concept("A"), concept("B")))
    assert partial == {
        "id": "s-a",
        "name": "Stage",
        "week_from": 1,
        "week_to": 1,
        "hours": 4,
        "outcome": "Done.",
        "concepts": ["A", "B"],
    }


def test_what_is_shown_of_a_stage_has_a_limit() -> None:
    made = plan(*(concept(f"{n}{'学' * 117}") for n in range(120)))
    (partial,) = partials(made)
    assert len(json.dumps(partial)) <= PARTIAL_BYTES
    assert len(partial["concepts"]) > 5
