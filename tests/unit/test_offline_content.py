"""Every concept of the catalog has a study guide and a quiz whose wrong options are wrong."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable

import pytest

from shared.roadmap import Question
from worker_service.generators.offline import load_catalog
from worker_service.generators.offline.catalog import FOLDER, Concept, read_catalog
from worker_service.generators.offline.content import OfflineContent, content_of
from worker_service.generators.offline.shapes import Contents

CATALOG = load_catalog()
CONCEPTS = list(CATALOG.concepts.values())
FIRST = [one for one in CONCEPTS if not one.needs]
every_concept = pytest.mark.parametrize("concept", CONCEPTS, ids=lambda one: one.id)


def content(concept: Concept) -> OfflineContent:
    return content_of(CATALOG, concept)


def leads_to(concept: Concept) -> set[str]:
    """Everything that is required on the way to it, hard or soft, directly or not."""
    found: set[str] = set()
    waiting = [concept]
    while waiting:
        for edge in waiting.pop().requires:
            if edge.id not in found:
                found.add(edge.id)
                waiting.append(CATALOG.concepts[edge.id])
    return found


def unrelated(one: Concept, other: Concept) -> bool:
    return one.id != other.id and one.id not in leads_to(other) and other.id not in leads_to(one)


def sections(lesson: str) -> dict[str, str]:
    """The body of each section of a lesson by its title."""
    parts = (part.split("\n", 1) for part in lesson.split("\n## ")[1:])
    return {title: body.strip() for title, body in parts}


def wrong(question: Question) -> list[str]:
    return [one for place, one in enumerate(question.options) if place != question.answer]


def right(question: Question) -> str:
    return question.options[question.answer]


def sentence(phrase: str) -> str:
    return f"{phrase[0].upper()}{phrase[1:]}."


def only(found: Iterable[Concept]) -> Concept:
    (one,) = found
    return one


# --- the lesson ----------------------------------------------------------------------------------


@every_concept
def test_a_lesson_opens_with_what_the_concept_is(concept: Concept) -> None:
    lesson = content(concept).lesson
    assert lesson.startswith(f"# {concept.name}\n\n{concept.description}\n\n## Why it matters\n\n")
    assert list(sections(lesson)) == [
        *("Why it matters", "Know this first", "What to learn", "Practise", "Read on")
    ]


@every_concept
def test_a_lesson_gives_one_or_two_reasons_from_the_catalog(concept: Concept) -> None:
    reasons = sections(content(concept).lesson)["Why it matters"].splitlines()
    followers = {
        f"**{one.name}**: {edge.reason}."
        for one in CONCEPTS
        for edge in one.requires
        if edge.id == concept.id
    }
    goals = {
        f"**{one.name}**. {one.blurb}"
        for one in CATALOG.goals.values()
        if concept.id in (*one.targets.core, *one.targets.supporting)
    }
    assert 1 <= len(reasons) <= 2
    for reason in reasons:
        assert f"**{reason.split('**', 1)[1]}" in (followers or goals)


@every_concept
def test_a_lesson_names_every_prerequisite_with_its_reason(concept: Concept) -> None:
    known_first = sections(content(concept).lesson)["Know this first"]
    for edge in concept.requires:
        mark = "" if edge.hard else " (helps)"
        assert f"- **{CATALOG.concepts[edge.id].name}**{mark}: {edge.reason}." in known_first
    assert concept.requires or known_first == "Nothing: you can begin here."


@every_concept
def test_a_lesson_says_for_every_outcome_how_to_check_it(concept: Concept) -> None:
    to_learn = sections(content(concept).lesson)["What to learn"].split("### ")[1:]
    assert len(to_learn) == len(concept.outcomes)
    for part, outcome in zip(to_learn, concept.outcomes, strict=True):
        assert part.startswith(f"{sentence(outcome)[:-1]}\n\nHow to check: ")
        assert part.strip().endswith(".")


@every_concept
def test_a_lesson_ends_with_practice_and_where_to_read_on(concept: Concept) -> None:
    made = content(concept)
    titles = sections(made.lesson)
    assert titles["Practise"].splitlines() == [f"- {one}" for one in made.practice]
    assert all(f"]({one.url})" in titles["Read on"] for one in made.resources)
    assert made.practice == concept.practice
    assert [one.url for one in made.resources] == [one.url for one in concept.resources]
    assert {one.source for one in made.resources} == {"catalog"}


def test_no_text_of_the_catalog_is_mistaken_for_markdown() -> None:
    texts = [
        text
        for one in CONCEPTS
        for text in (
            *(one.name, one.description, *one.outcomes, *one.practice),
            *(edge.reason for edge in one.requires),
            *(link.title for link in one.resources),
        )
    ]
    texts += [text for goal in CATALOG.goals.values() for text in (goal.name, goal.blurb)]
    assert [text for text in texts if set("*`<>[]") & set(text)] == []
    assert [link.url for one in CONCEPTS for link in one.resources if ")" in link.url] == []


# --- the quiz ------------------------------------------------------------------------------------


@every_concept
def test_a_quiz_has_three_questions_of_four_different_options(concept: Concept) -> None:
    quiz = content(concept).quiz
    assert len({question.question for question in quiz}) == len(quiz) == 3
    for question in quiz:
        assert concept.name in question.question
        assert len(set(question.options)) == len(question.options) == 4
        assert question.explanation


@every_concept
def test_only_one_sentence_describes_the_concept(concept: Concept) -> None:
    described = content(concept).quiz[0]
    assert right(described) == concept.description
    for option in wrong(described):
        other = only(one for one in CONCEPTS if one.description == option)
        assert other.id != concept.id
        assert f"“{other.name}”" in described.explanation


@pytest.mark.parametrize("concept", [one for one in CONCEPTS if one.needs], ids=lambda one: one.id)
def test_only_one_option_has_to_come_first(concept: Concept) -> None:
    before = content(concept).quiz[1]
    needed = only(one for one in CONCEPTS if one.name == right(before))
    assert needed.id in concept.needs
    assert any(edge.reason in before.explanation for edge in concept.requires)
    for option in wrong(before):
        other = only(one for one in CONCEPTS if one.name == option)
        assert other.id not in leads_to(concept) | {concept.id}


@pytest.mark.parametrize("concept", FIRST, ids=lambda one: one.id)
def test_a_concept_that_needs_nothing_is_asked_for_its_exercise(concept: Concept) -> None:
    exercise = content(concept).quiz[1]
    assert right(exercise) in concept.practice
    for option in wrong(exercise):
        assert unrelated(concept, only(one for one in CONCEPTS if option in one.practice))


@every_concept
def test_only_one_option_becomes_possible_by_the_concept(concept: Concept) -> None:
    ability = content(concept).quiz[2]
    assert right(ability) == sentence(concept.outcomes[0])
    for option in wrong(ability):
        other = only(one for one in CONCEPTS if option in map(sentence, one.outcomes))
        assert unrelated(concept, other)
        assert f"“{other.name}”" in ability.explanation


@pytest.mark.parametrize("number", range(3))
def test_the_place_of_the_right_option_gives_nothing_away(number: int) -> None:
    places = Counter(content(one).quiz[number].answer for one in CONCEPTS)
    assert set(places) == {0, 1, 2, 3}
    assert max(places.values()) < len(CONCEPTS) * 0.4


# --- the whole -----------------------------------------------------------------------------------


def test_content_is_a_matter_of_the_catalog_alone() -> None:
    again = read_catalog(FOLDER)
    assert [content(one) for one in CONCEPTS] == [
        content_of(again, one) for one in again.concepts.values()
    ]


def test_content_survives_its_way_through_json() -> None:
    contents = Contents(concepts={one.id: content(one) for one in CONCEPTS})
    assert Contents.model_validate(json.loads(contents.model_dump_json())) == contents
