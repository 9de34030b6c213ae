"""Three questions about a concept, made from the catalog alone: wrong options are known wrong."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from zlib import crc32

from shared.roadmap import Question

from .catalog import Catalog, Concept, Requirement

WRONG_OPTIONS = 3


def quiz_of(catalog: Catalog, concept: Concept) -> tuple[Question, ...]:
    """What it is, what comes before it (for a first concept: how it is practised), what for."""
    hard = [edge for edge in concept.requires if edge.hard]
    return (
        _description(catalog, concept),
        _prerequisite(catalog, concept, hard) if hard else _exercise(catalog, concept),
        _ability(catalog, concept),
    )


def _description(catalog: Catalog, concept: Concept) -> Question:
    others = [one for one in catalog.concepts.values() if one.id != concept.id]
    wrong = _nearest(concept, others, "description")
    return _question(
        f"Which sentence describes “{concept.name}”?",
        right=concept.description,
        wrong=[one.description for one in wrong],
        explanation=f"The others describe {_names(wrong)}.",
    )


def _prerequisite(catalog: Catalog, concept: Concept, hard: Sequence[Requirement]) -> Question:
    """A soft prerequisite would be half right: it is offered neither as right nor as wrong."""
    edge = min(hard, key=lambda one: _shuffled(concept.id, one.id))
    before = _beneath(catalog)[concept.id] | {concept.id}
    others = [one for one in catalog.concepts.values() if one.id not in before]
    wrong = _nearest(concept, others, "prerequisite")
    return _question(
        f"What has to be learned before “{concept.name}”?",
        right=catalog.concepts[edge.id].name,
        wrong=[one.name for one in wrong],
        explanation=f"It comes first because {edge.reason}. None of the others has to.",
    )


def _exercise(catalog: Catalog, concept: Concept) -> Question:
    wrong = _nearest(concept, _unrelated(catalog, concept), "exercise")
    return _question(
        f"Which exercise practises “{concept.name}”?",
        right=concept.practice[0],
        wrong=[one.practice[0] for one in wrong],
        explanation=f"The others practise {_names(wrong)}.",
    )


def _ability(catalog: Catalog, concept: Concept) -> Question:
    wrong = _nearest(concept, _unrelated(catalog, concept), "ability")
    return _question(
        f"What can you do once you have learned “{concept.name}”?",
        right=_able(concept),
        wrong=[_able(one) for one in wrong],
        explanation=f"For the others you need {_names(wrong)}.",
    )


def _able(concept: Concept) -> str:
    # The first outcome stands alone; a second one may refer to it.
    return f"{concept.outcomes[0][0].upper()}{concept.outcomes[0][1:]}."


def _unrelated(catalog: Catalog, concept: Concept) -> list[Concept]:
    """All that neither leads to the concept nor builds on it: its learner need not know them."""
    beneath = _beneath(catalog)
    related = beneath[concept.id] | {concept.id}
    return [
        one
        for one in catalog.concepts.values()
        if one.id not in related and concept.id not in beneath[one.id]
    ]


@cache
def _beneath(catalog: Catalog) -> dict[str, frozenset[str]]:
    """Per concept everything that leads to it, over hard and soft edges."""
    found: dict[str, frozenset[str]] = {}

    def reach(one: str) -> frozenset[str]:
        if one not in found:
            direct = frozenset(edge.id for edge in catalog.concepts[one].requires)
            found[one] = direct.union(*map(reach, direct))
        return found[one]

    for one in catalog.concepts:
        reach(one)
    return found


def _nearest(concept: Concept, others: Iterable[Concept], subject: str) -> list[Concept]:
    """Of like theme and difficulty: what lies far away is too easily seen to be wrong."""

    def distance(other: Concept) -> tuple[bool, bool, int, int]:
        return (
            other.cluster != concept.cluster,
            other.domain != concept.domain,
            abs(other.difficulty - concept.difficulty),
            _shuffled(concept.id, subject, other.id),
        )

    return sorted(others, key=distance)[:WRONG_OPTIONS]


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


def _names(concepts: Sequence[Concept]) -> str:
    quoted = [f"“{one.name}”" for one in concepts]
    return f"{', '.join(quoted[:-1])} and {quoted[-1]}"
