"""The roadmap's shape: each invariant is refused when it is broken; a request stays a request."""

from __future__ import annotations

import json
import math
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.roadmap import Roadmap, RoadmapRequest, weekly_hours
from tests.factories import small_roadmap

Document = dict[str, Any]


def concept(name: str, hours: float, week_from: int, week_to: int, *needs: str) -> Document:
    return {
        "id": name,
        "name": name,
        "description": "",
        "why": "",
        "difficulty": 1,
        "hours": hours,
        "week_from": week_from,
        "week_to": week_to,
        "prerequisites": [{"concept_id": one} for one in needs],
        "outcomes": ["can do it"],
    }


@pytest.fixture
def document() -> Document:
    """Two stages of one module each: a and b in week 1, c over weeks 2 and 3; five hours a week."""
    first = {
        "id": "m-1",
        "name": "",
        "description": "",
        "hours": 5,
        "concepts": [concept("a", 2, 1, 1), concept("b", 3, 1, 1, "a")],
    }
    second = first | {"id": "m-2", "hours": 8, "concepts": [concept("c", 8, 2, 3, "a", "b")]}
    stage: Document = {"name": "", "description": "", "outcome": ""}
    request = RoadmapRequest(goal="Learn SQL", hours_per_week=5)
    whole = small_roadmap(request, today=date(2030, 1, 1)).model_dump(mode="json")
    return whole | {
        "total_hours": 13,
        "weeks": 3,
        "stages": [
            stage | {"id": "s-1", "hours": 5, "week_from": 1, "week_to": 1, "modules": [first]},
            stage | {"id": "s-2", "hours": 8, "week_from": 2, "week_to": 3, "modules": [second]},
        ],
    }


def refusal(document: Document) -> str:
    with pytest.raises(ValidationError) as refused:
        Roadmap.model_validate(document)
    return str(refused.value)


def concepts(document: Document) -> dict[str, Document]:
    return {
        one["id"]: one
        for stage in document["stages"]
        for module in stage["modules"]
        for one in module["concepts"]
    }


def test_a_coherent_roadmap_is_accepted_and_its_weeks_are_filled_in_order(
    document: Document,
) -> None:
    roadmap = Roadmap.model_validate(document)
    assert [one.id for one in roadmap.concepts()] == ["a", "b", "c"]
    assert weekly_hours(roadmap) == {1: 5, 2: 5, 3: 3}


def test_a_roadmap_survives_its_way_through_json(document: Document) -> None:
    roadmap = Roadmap.model_validate(document)
    assert Roadmap.model_validate(json.loads(roadmap.model_dump_json())) == roadmap


def test_two_stages_of_one_id_are_refused(document: Document) -> None:
    document["stages"][1]["id"] = "s-1"
    assert "stage ids appear twice: s-1" in refusal(document)


def test_two_modules_of_one_id_are_refused(document: Document) -> None:
    document["stages"][1]["modules"][0]["id"] = "m-1"
    assert "module ids appear twice: m-1" in refusal(document)


def test_two_concepts_of_one_id_are_refused(document: Document) -> None:
    concepts(document)["c"]["id"] = "b"
    assert "concept ids appear twice: b" in refusal(document)


@pytest.mark.parametrize("strength", ["hard", "soft"])
def test_a_prerequisite_that_is_not_planned_is_refused(document: Document, strength: str) -> None:
    concepts(document)["b"]["prerequisites"] = [{"concept_id": "nowhere", "strength": strength}]
    assert "b needs nowhere, which is not planned" in refusal(document)


@pytest.mark.parametrize("later", ["a", "b", "c"])
def test_a_hard_prerequisite_that_comes_later_is_refused(document: Document, later: str) -> None:
    concepts(document)["a"]["prerequisites"] = [{"concept_id": later}]
    assert f"a comes before {later}, which it needs" in refusal(document)


def test_a_soft_prerequisite_may_come_later(document: Document) -> None:
    concepts(document)["a"]["prerequisites"] = [{"concept_id": "c", "strength": "soft"}]
    assert len(list(Roadmap.model_validate(document).concepts())) == 3


@pytest.mark.parametrize(
    ("place", "where"),
    [
        (lambda whole: whole["stages"][0]["modules"][0], "m-1"),
        (lambda whole: whole["stages"][1], "s-2"),
        (lambda whole: whole, "the roadmap"),
    ],
    ids=["module", "stage", "roadmap"],
)
@pytest.mark.parametrize("off", [0.02, -0.02, 5])
def test_hours_that_do_not_add_up_are_refused(
    document: Document, place: Any, where: str, off: float
) -> None:
    part = place(document)
    part["total_hours" if where == "the roadmap" else "hours"] += off
    assert f"hours of {where} say" in refusal(document)


@pytest.mark.parametrize("hours", [math.nan, math.inf, -math.inf])
def test_hours_that_are_no_number_are_refused(document: Document, hours: float) -> None:
    document["total_hours"] = hours
    assert "finite number" in refusal(document)


@pytest.mark.parametrize("hours", [0, -1])
def test_a_concept_takes_time(document: Document, hours: float) -> None:
    concepts(document)["a"]["hours"] = hours
    assert "greater than 0" in refusal(document)


def test_a_week_over_its_budget_is_refused(document: Document) -> None:
    concepts(document)["c"]["week_to"] = 2
    assert "week 2 carries 8.0 h, its limit is 5.3 h" in refusal(document)


def test_a_week_may_run_over_by_five_percent(document: Document) -> None:
    for part in (
        concepts(document)["a"],
        document["stages"][0],
        document["stages"][0]["modules"][0],
    ):
        part["hours"] += 0.25
    document["total_hours"] += 0.25
    assert weekly_hours(Roadmap.model_validate(document))[1] == 5.25
    document["fit"]["hours_per_week"] = 4.9
    assert "week 1 carries 5.2 h" in refusal(document)


@pytest.mark.parametrize(("week_from", "week_to"), [(2, 4), (3, 2), (4, 4)])
def test_a_concept_outside_of_the_weeks_is_refused(
    document: Document, week_from: int, week_to: int
) -> None:
    concepts(document)["c"] |= {"week_from": week_from, "week_to": week_to}
    assert "c is planned outside weeks 1 to 3" in refusal(document)


def test_a_week_before_the_first_is_refused(document: Document) -> None:
    concepts(document)["a"]["week_from"] = 0
    assert "week_from" in refusal(document)


@pytest.mark.parametrize("path", [("stages",), ("stages", 0, "modules")], ids=str)
def test_nothing_may_be_empty(document: Document, path: tuple[Any, ...]) -> None:
    part: Any = document
    for step in path[:-1]:
        part = part[step]
    part[path[-1]] = []
    assert "at least 1 item" in refusal(document)


def test_a_concept_says_what_the_learner_can_then_do(document: Document) -> None:
    concepts(document)["a"]["outcomes"] = []
    assert "at least 1 item" in refusal(document)


def test_a_field_that_nobody_knows_is_refused(document: Document) -> None:
    concepts(document)["a"]["positon"] = 3
    assert "Extra inputs are not permitted" in refusal(document)


QUESTION = {"question": "Which?", "options": ["this", "that"], "answer": 1}


def test_a_concept_may_carry_a_lesson_and_a_quiz(document: Document) -> None:
    concepts(document)["a"] |= {"lesson": "# A", "quiz": [QUESTION], "content": "model"}
    roadmap = Roadmap.model_validate(document)
    assert Roadmap.model_validate_json(roadmap.model_dump_json()) == roadmap


def test_a_roadmap_of_the_time_before_lessons_can_still_be_read(document: Document) -> None:
    one = next(Roadmap.model_validate(document).concepts())
    assert (one.lesson, one.quiz, one.content) == (None, (), "catalog")


@pytest.mark.parametrize("answer", [-1, 2])
def test_an_answer_that_is_no_option_is_refused(document: Document, answer: int) -> None:
    concepts(document)["a"]["quiz"] = [QUESTION | {"answer": answer}]
    assert "quiz.0" in refusal(document)


@pytest.mark.parametrize("options", [["this"], list("abcdefg")])
def test_a_question_has_two_to_six_options(document: Document, options: list[str]) -> None:
    concepts(document)["a"]["quiz"] = [QUESTION | {"options": options, "answer": 0}]
    assert "quiz.0.options" in refusal(document)


def test_a_quiz_has_at_most_five_questions(document: Document) -> None:
    concepts(document)["a"]["quiz"] = [QUESTION] * 6
    assert "at most 5 items" in refusal(document)


@pytest.mark.parametrize(("field", "value"), [("content", "hearsay"), ("resources", "hearsay")])
def test_where_content_comes_from_is_one_of_few_words(
    document: Document, field: str, value: str
) -> None:
    link = {"title": "x", "url": "https://example.org", "source": value}
    concepts(document)["a"][field] = value if field == "content" else [link]
    assert "Input should be" in refusal(document)


# --- the request ---


TEXT = st.characters(exclude_categories=("C", "Z"))


@given(
    goal=st.text(TEXT, min_size=3, max_size=50).map(lambda text: f"Learn {text}"),
    topics=st.lists(st.text(TEXT, min_size=1, max_size=20), max_size=3),
    hours=st.floats(1, 80),
    weeks=st.none() | st.integers(1, 104),
    start=st.none() | st.dates(date.today(), date.today() + timedelta(days=1000)),
)
def test_an_accepted_request_is_the_same_request_when_it_is_read_again(
    goal: str, topics: list[str], hours: float, weeks: int | None, start: date | None
) -> None:
    """The worker reads what the API stored: what the one accepts the other must."""
    document = {
        "goal": goal,
        "hours_per_week": hours,
        "weeks": weeks,
        "start_date": None if start is None else start.isoformat(),
        "known_topics": topics,
    }
    try:
        request = RoadmapRequest.model_validate(document)
    except ValidationError:
        assume(False)
    assert RoadmapRequest.model_validate(json.loads(request.model_dump_json())) == request


@pytest.mark.parametrize(("field", "limit"), [("goal", 300), ("known_topics", 100)])
def test_text_that_grows_when_it_is_normalised_is_measured_as_it_is_stored(
    field: str, limit: int
) -> None:
    phrase = "ﷺ" * limit  # NFKC writes each of them out in 18 characters
    document = {"goal": "Learn SQL"} | {field: phrase if field == "goal" else [phrase]}
    with pytest.raises(ValidationError, match=f"at most {limit}"):
        RoadmapRequest.model_validate(document)


def test_a_goal_is_trimmed_and_normalised() -> None:
    assert RoadmapRequest(goal="  Learn ＳＱＬ ﬁrst ").goal == "Learn SQL first"


@pytest.mark.parametrize("start", [4102444800, "4102444800", "2030-01-31T00:00:00", "31.1.2030"])
def test_a_start_date_is_written_as_a_date(start: object) -> None:
    with pytest.raises(ValidationError, match="must be a date written like 2030-01-31"):
        RoadmapRequest.model_validate({"goal": "Learn SQL", "start_date": start})


@pytest.mark.parametrize("topic", ["", "  "])
def test_an_empty_topic_is_refused(topic: str) -> None:
    with pytest.raises(ValidationError, match="is empty"):
        RoadmapRequest.model_validate({"goal": "Learn SQL", "exclude": [topic]})
