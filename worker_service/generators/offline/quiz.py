"""Three questions about a concept: its own, or made from the catalog with known wrong options."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from zlib import crc32

from shared.roadmap import Question

from .catalog import Catalog, Concept
from .lesson import followers_in
from .reading import quizzes_of
from .voices import voice_of

WRONG_OPTIONS = 3


def quiz_of(catalog: Catalog, concept: Concept) -> tuple[Question, ...]:
    """Those written for it; else what it is, what it needs or how it is practised, what for."""
    if written := quizzes_of(catalog.folder, catalog.language).get(concept.id):
        return tuple(
            Question(
                question=one.question,
                options=one.options,
                answer=one.answer,
                explanation=one.explanation,
            )
            for one in written
        )
    return (
        _description(catalog, concept),
        (_prerequisite if concept.implies else _exercise)(catalog, concept),
        _ability(catalog, concept),
    )


def _description(catalog: Catalog, concept: Concept) -> Question:
    others = [one for one in catalog.concepts.values() if one.id != concept.id]
    wrong = _nearest(concept, others, "description")
    return _question(
        voice_of(catalog.language).which_describes(concept.name),
        right=concept.description,
        wrong=[one.description for one in wrong],
        explanation=voice_of(catalog.language).others_describe(_names(wrong)),
    )


def _prerequisite(catalog: Catalog, concept: Concept) -> Question:
    """A soft prerequisite, or one of several that will do, would be half right.

    It is offered neither as right nor as wrong.
    """
    sure = [edge for edge in concept.requires if edge.id in concept.implies]
    edge = min(sure, key=lambda one: _shuffled(concept.id, one.id))
    half = (one for other in concept.requires for one in catalog.members(other))
    before = _leading_to(catalog, concept).union(half)
    others = [one for one in catalog.concepts.values() if one.id not in before]
    wrong = _nearest(concept, others, "prerequisite")
    return _question(
        voice_of(catalog.language).which_comes_first(concept.name),
        right=catalog.concepts[edge.id].name,
        wrong=[one.name for one in wrong],
        explanation=voice_of(catalog.language).comes_first_because(edge.reason),
    )


def _exercise(catalog: Catalog, concept: Concept) -> Question:
    wrong = _nearest(concept, _unrelated(catalog, concept), "exercise")
    return _question(
        voice_of(catalog.language).which_practises(concept.name),
        right=concept.practice[0],
        wrong=[one.practice[0] for one in wrong],
        explanation=voice_of(catalog.language).others_practise(_names(wrong)),
    )


def _ability(catalog: Catalog, concept: Concept) -> Question:
    voice = voice_of(catalog.language)
    wrong = _nearest(concept, _unrelated(catalog, concept), "ability")
    return _question(
        voice.what_can_you_do(concept.name),
        right=voice.ability(concept.outcomes[0]),  # a second one may refer to the first
        wrong=[voice.ability(one.outcomes[0]) for one in wrong],
        explanation=voice.others_need(_names(wrong)),
    )


def _unrelated(catalog: Catalog, concept: Concept) -> list[Concept]:
    """All that neither leads to the concept nor builds on it: its learner need not know them."""
    followers = followers_in(catalog)
    after = _reached(concept.id, lambda one: [other.id for other, _ in followers[one]])
    related = _leading_to(catalog, concept) | after
    return [one for one in catalog.concepts.values() if one.id not in related]


def _leading_to(catalog: Catalog, concept: Concept) -> set[str]:
    """The concept with everything that leads to it, over hard and soft edges."""
    return _reached(concept.id, lambda one: [edge.id for edge in catalog.concepts[one].requires])


def _reached(start: str, further: Callable[[str], Iterable[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting.extend(further(one))
    return found


def _nearest(concept: Concept, others: Iterable[Concept], subject: str) -> list[Concept]:
    """Of like theme and difficulty: what lies far away is too easily seen to be wrong."""

    def distance(other: Concept) -> tuple[bool, int, int]:
        return (
            other.cluster != concept.cluster,
            abs(other.difficulty - concept.difficulty),
            _shuffled(concept.id, subject, other.id),
        )

    everywhere = list(others)
    in_domain = [one for one in everywhere if one.domain == concept.domain]
    in_cluster = [one for one in in_domain if one.cluster == concept.cluster]
    circles = (in_cluster, in_domain, everywhere)
    enough = next((one for one in circles if len(one) >= WRONG_OPTIONS), everywhere)
    return sorted(enough, key=distance)[:WRONG_OPTIONS]


def _question(asked: str, *, right: str, wrong: Sequence[str], explanation: str) -> Question:
    place = _shuffled(asked) % (len(wrong) + 1)
    return Question(
        question=asked,
        options=(*wrong[:place], right, *wrong[place:]),
        answer=place,
        explanation=explanation,
    )


def _shuffled(*parts: str) -> int:
    """A number that looks random and is the same in every process, as hash() is not."""
    return crc32("/".join(parts).encode())


def _names(concepts: Sequence[Concept]) -> list[str]:
    return [one.name for one in concepts]
