"""Every concept of the catalog has a study guide and a quiz whose wrong options are wrong."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable

import pytest

from shared.roadmap import Question
from worker_service.generators.offline import load_catalog
from worker_service.generators.offline.catalog import Concept
from worker_service.generators.offline.content import OfflineContent, content_of
from worker_service.generators.offline.lesson import plain
from worker_service.generators.offline.reading import FOLDER, quizzes_of, read_catalog
from worker_service.generators.offline.shapes import Contents

CATALOG = load_catalog()
CONCEPTS = list(CATALOG.concepts.values())
QUIZZES = quizzes_of(FOLDER, "en")
MADE = [one for one in CONCEPTS if one.id not in QUIZZES]
"""Those whose quiz is made from the catalog."""

Test = Callable[[Concept], None]


def for_each(concepts: Iterable[Concept]) -> Callable[[Test], Callable[[], None]]:
    """One test for all: hundreds of each kind would take longer to report than to run."""

    def decorate(test: Test) -> Callable[[], None]:
        def run() -> None:
            for concept in concepts:
                try:
                    test(concept)
                except Exception as error:
                    error.add_note(f"concept: {concept.id}")
                    raise

        run.__name__ = test.__name__
        return run

    return decorate


every_concept = for_each(CONCEPTS)
every_made_quiz = for_each(MADE)


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
    opening = f"# {plain(concept.name)}\n\n{plain(concept.description)}\n\n## Why it matters\n\n"
    assert lesson.startswith(f"{opening}{plain(concept.why)}\n\n- ")
    assert list(sections(lesson)) == [
        *("Why it matters", "Know this first", "What to learn", "Practise", "Read on")
    ]


@every_concept
def test_a_lesson_gives_one_or_two_reasons_from_the_catalog(concept: Concept) -> None:
    reasons = sections(content(concept).lesson)["Why it matters"].splitlines()[2:]
    followers = {
        f"**{plain(one.name)}**: {plain(edge.reason)}."
        for one in CONCEPTS
        for edge in one.requires
        if edge.id == concept.id
    }
    goals = {
        f"**{one.name}**. {one.blurb}"
        for one in CATALOG.goals.values()
        if concept.id in (*one.targets.core, *one.targets.supporting, *one.targets.extensions)
    }
    assert 1 <= len(reasons) <= 2
    for reason in reasons:
        assert f"**{reason.split('**', 1)[1]}" in (followers or goals)


@every_concept
def test_a_lesson_names_every_prerequisite_with_its_reason(concept: Concept) -> None:
    known_first = sections(content(concept).lesson)["Know this first"]
    for edge in concept.requires:
        mark = "" if edge.hard else " (helps)"
        name, reason = plain(CATALOG.concepts[edge.id].name), plain(edge.reason)
        (line,) = (one for one in known_first.splitlines() if one.endswith(f": {reason}."))
        assert line.startswith(f"- **{name}**")
        assert not mark or mark.strip(" ()") in line
        for other in CATALOG.members(edge):
            assert plain(CATALOG.concepts[other].name) in line
    assert concept.requires or known_first == "Nothing: you can begin here."


@every_concept
def test_a_lesson_says_for_every_outcome_how_to_check_it(concept: Concept) -> None:
    to_learn = sections(content(concept).lesson)["What to learn"].split("### ")[1:]
    assert len(to_learn) == len(concept.outcomes)
    for part, outcome in zip(to_learn, concept.outcomes, strict=True):
        assert part.startswith(f"{sentence(plain(outcome))[:-1]}\n\nHow to check: ")
        assert part.strip().endswith(".")


@every_concept
def test_a_lesson_ends_with_practice_and_where_to_read_on(concept: Concept) -> None:
    made = content(concept)
    titles = sections(made.lesson)
    assert titles["Practise"].splitlines() == [f"- {plain(one)}" for one in made.practice]
    assert all(f"]({one.url})" in titles["Read on"] for one in made.resources)
    assert made.practice == concept.practice
    assert [one.url for one in made.resources] == [one.url for one in concept.resources]
    assert {one.source for one in made.resources} == {"catalog"}


def test_no_text_of_the_catalog_is_mistaken_for_markdown() -> None:
    assert plain("*args, __init__, p < 0.05, a[0]") == (r"\*args, \_\_init\_\_, p \< 0.05, a\[0\]")
    assert [link.url for one in CONCEPTS for link in one.resources if ")" in link.url] == []


# --- the quiz ------------------------------------------------------------------------------------


@every_concept
def test_a_quiz_has_three_questions_of_four_different_options(concept: Concept) -> None:
    quiz = content(concept).quiz
    assert len({question.question for question in quiz}) == len(quiz) == 3
    for question in quiz:
        assert len(set(question.options)) == len(question.options) == 4
        assert question.explanation


@every_made_quiz
def test_only_one_sentence_describes_the_concept(concept: Concept) -> None:
    described = content(concept).quiz[0]
    assert right(described) == concept.description
    for option in wrong(described):
        other = only(one for one in CONCEPTS if one.description == option)
        assert other.id != concept.id
        assert f"“{other.name}”" in described.explanation


@for_each([one for one in MADE if one.implies])
def test_only_one_option_has_to_come_first(concept: Concept) -> None:
    before = content(concept).quiz[1]
    needed = only(one for one in CONCEPTS if one.name == right(before))
    assert needed.id in concept.implies
    assert any(edge.reason in before.explanation for edge in concept.requires)
    would_do = {one for edge in concept.requires for one in CATALOG.members(edge)}
    for option in wrong(before):
        other = only(one for one in CONCEPTS if one.name == option)
        assert other.id not in leads_to(concept) | would_do | {concept.id}


@for_each([one for one in MADE if not one.implies])
def test_a_concept_that_needs_nothing_is_asked_for_its_exercise(concept: Concept) -> None:
    exercise = content(concept).quiz[1]
    assert right(exercise) in concept.practice
    for option in wrong(exercise):
        assert unrelated(concept, only(one for one in CONCEPTS if option in one.practice))


@every_made_quiz
def test_only_one_option_becomes_possible_by_the_concept(concept: Concept) -> None:
    ability = content(concept).quiz[2]
    assert right(ability) == sentence(concept.outcomes[0])
    for option in wrong(ability):
        other = only(one for one in CONCEPTS if option in map(sentence, one.outcomes))
        assert unrelated(concept, other)
        assert f"“{other.name}”" in ability.explanation


@pytest.mark.parametrize("number", range(3))
def test_the_place_of_the_right_option_gives_nothing_away(number: int) -> None:
    places = Counter(content(one).quiz[number].answer for one in MADE)
    assert set(places) == {0, 1, 2, 3}
    assert max(places.values()) < len(MADE) * 0.4


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_written_quiz_comes_before_a_made_one(language: str) -> None:
    catalog, written = load_catalog(language), quizzes_of(FOLDER, language)
    for one, questions in written.items():
        shown = content_of(catalog, catalog.concepts[one]).quiz
        assert [question.question for question in shown] == [each.question for each in questions]
        assert [question.options for question in shown] == [each.options for each in questions]


# --- the whole -----------------------------------------------------------------------------------


def test_content_is_a_matter_of_the_catalog_alone() -> None:
    again = read_catalog(FOLDER)
    assert [content(one) for one in CONCEPTS] == [
        content_of(again, one) for one in again.concepts.values()
    ]


def test_content_survives_its_way_through_json() -> None:
    contents = Contents(concepts={one.id: content(one) for one in CONCEPTS})
    assert Contents.model_validate(json.loads(contents.model_dump_json())) == contents
