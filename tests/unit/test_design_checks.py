"""Every way a design can be wrong is found, and said so that a model can mend it."""

from __future__ import annotations

from typing import Any

import pytest

from shared.roadmap import Level, RoadmapRequest
from tests.unit.test_outline import CATALOG, concept, design
from worker_service.generators.llm.checks import Finding, circles, findings, oversized
from worker_service.generators.llm.outline import Ids, Outline, outline_of
from worker_service.generators.llm.shapes import Design, DesignedConcept, Understanding

WANTED = Understanding(plannable=True, title="A plan", summary="All of it.", topics=("A",))


def asked(**request: Any) -> RoadmapRequest:  # Any: fields of any type
    return RoadmapRequest(goal="Learn A", **request)


def found(*concepts: DesignedConcept, **request: Any) -> tuple[Finding, ...]:
    """What is found in a plan of one module, but for topics that it does not mention."""
    outline = outline_of(design(*concepts), Ids(None))
    return tuple(
        one for one in findings(outline, asked(**request), WANTED) if one.code != "uncovered"
    )


def sentence(code: str, among: tuple[Finding, ...]) -> str:
    (one,) = (one for one in among if one.code == code)
    return one.sentence


def with_(name: str, **changes: Any) -> DesignedConcept:
    return concept(name).model_copy(update=changes)


def test_nothing_is_found_in_a_design_in_order() -> None:
    assert found(concept("A"), concept("B", "A"), concept("C", "A", "B"), weeks=2) == ()


def test_a_repeated_concept_is_critical_and_named_by_its_own_id() -> None:
    (one,) = found(concept("SQL"), concept("sql"))
    assert one.critical
    assert "“sql” (sql~2) is the same as sql" in one.sentence


def test_a_need_that_nobody_plans_is_critical() -> None:
    (one,) = found(concept("B", "Magic"))
    assert (one.code, one.critical) == ("unknown_need", True)
    assert "needs magic" in one.sentence


def test_a_need_that_comes_later_is_critical() -> None:
    (one,) = found(concept("B", "A"), concept("A"))
    assert (one.code, one.critical) == ("need_comes_later", True)
    assert "“B” (b) needs “A” (a), which comes later" in one.sentence


def test_a_circle_is_named_whole_and_once() -> None:
    (one,) = found(concept("A", "C"), concept("B", "A"), concept("C", "B"))
    assert (one.code, one.critical) == ("circle", True)
    assert {"a", "b", "c"} <= set(one.sentence.replace(".", "").split())


def test_what_needs_itself_is_a_circle() -> None:
    assert [one.code for one in found(concept("A", "A"))] == ["circle"]


def test_circles_without_a_common_edge_are_all_found() -> None:
    needs = {"a": ["b"], "b": ["a"], "c": ["d"], "d": ["c"], "e": ["a", "c"]}
    assert [set(one) for one in circles(needs)] == [{"a", "b"}, {"c", "d"}]
    assert needs["a"] == ["b"], "the argument is not changed"


@pytest.mark.parametrize("hours", [0, 0.25, 40.5, 1000])
def test_hours_that_are_no_concepts_are_critical(hours: float) -> None:
    (one,) = found(with_("A", hours=hours))
    assert (one.code, one.critical) == ("hours", True)


@pytest.mark.parametrize("hours", [0.5, 40])
def test_hours_at_the_borders_are_fine(hours: float) -> None:
    assert found(with_("A", hours=hours)) == ()


def test_a_plan_far_over_the_learners_time_is_worth_mending_but_not_critical() -> None:
    ten = [with_(f"Part {n}", hours=10) for n in range(10)]
    (one,) = found(*ten, weeks=10, hours_per_week=7.9)
    assert (one.code, one.severity) == ("too_long", "mend")
    assert found(*ten, weeks=10, hours_per_week=8) == ()
    assert found(*ten) == ()


def test_more_concepts_or_stages_than_anybody_studies_are_critical() -> None:
    assert found(*(concept(f"Part {n}") for n in range(120))) == ()
    (one,) = found(*(concept(f"Part {n}") for n in range(121)))
    assert (one.code, one.critical) == ("too_many_concepts", True)
    seven = Design(stages=tuple(design(concept(f"Part {n}")).stages[0] for n in range(7)))
    codes = [one.code for one in findings(outline_of(seven, Ids(None)), asked(), WANTED)]
    assert "too_many_stages" in codes
    assert len(oversized(seven)) == 1


def test_a_model_is_told_at_once_of_a_design_that_no_edit_makes_a_plan() -> None:
    assert oversized(design(concept("A"))) == []
    (complaint,) = oversized(design(*(concept(f"Part {n}") for n in range(400))))
    assert "400 concepts" in complaint


def test_an_outline_of_which_nothing_is_left_is_critical() -> None:
    assert findings(Outline(()), asked(), WANTED)[0].code == "empty"


def test_difficulty_may_rise_by_two_over_all_that_comes_before() -> None:
    assert found(with_("A", difficulty=3), with_("B", difficulty=5)) == ()
    (one,) = found(concept("A"), with_("B", difficulty=4))
    assert (one.code, one.severity) == ("steep", "mend")


def test_an_advanced_learner_may_begin_high() -> None:
    steep = with_("A", difficulty=5)
    assert [one.code for one in found(steep)] == ["steep"]
    assert found(steep, level=Level.ADVANCED) == ()


def test_an_outcome_of_blanks_is_none() -> None:
    (one,) = found(with_("A", outcomes=("  ",)))
    assert (one.code, one.critical) == ("no_outcome", True)


def test_an_excluded_topic_is_found_by_its_words() -> None:
    among = found(concept("Java basics"), concept("JavaScript"), exclude=("java",))
    assert "“Java basics”" in sentence("excluded", among)
    assert not any(one.critical for one in among)


def test_an_excluded_topic_is_found_by_what_the_catalog_knows_of_it() -> None:
    outline = outline_of(design(concept("Writing a Dockerfile")), Ids(CATALOG))
    request = asked(exclude=("Docker images",))
    assert not [one for one in findings(outline, request, WANTED) if one.code == "excluded"]
    request = asked(exclude=("dockerize",))
    among = findings(outline, request, WANTED, CATALOG)
    assert "dockerfiles" in sentence("excluded", among)


def test_a_topic_that_is_not_mentioned_is_only_a_note() -> None:
    wanted = WANTED.model_copy(update={"topics": ("Loops", "Monads")})
    outline = outline_of(design(concept("Big loops")), Ids(None))
    (one,) = findings(outline, asked(), wanted)
    assert (one.code, one.severity) == ("uncovered", "note")
    assert "Monads" in one.sentence
