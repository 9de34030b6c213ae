"""A model's edits are applied one by one; what cannot be is skipped and said."""

from __future__ import annotations

from typing import Any

from tests.unit.test_outline import concept, design
from worker_service.generators.llm.edits import Edited, apply
from worker_service.generators.llm.outline import Ids, Outline, outline_of
from worker_service.generators.llm.shapes import Design, Edits, Operation

IDS = Ids(None)


def outline() -> Outline:
    """Two stages of one module each: A, B needs A; C needs B."""
    first = design(concept("A"), concept("B", "A")).stages[0]
    second = design(concept("C", "B")).stages[0]
    return outline_of(Design(stages=(first, second)), IDS)


def edited(*operations: dict[str, Any], before: Outline | None = None) -> Edited:
    made = tuple(Operation(**one) for one in operations)
    return apply(before or outline(), Edits(operations=made), IDS)


def names(one: Edited) -> list[list[str]]:
    return [[part.name for part in module.concepts] for module in one.outline.modules()]


def needs(one: Edited, of: str) -> tuple[str, ...]:
    return next(part.needs for part in one.outline.concepts() if part.id == of)


def test_a_concept_is_added_at_the_end_of_a_module() -> None:
    added = concept("D", "A").model_dump()
    result = edited({"op": "add", "module": "m-a", "added": added})
    assert names(result) == [["A", "B", "D"], ["C"]]
    assert needs(result, "d") == ("a",)
    assert result.notes == ()


def test_what_needed_a_removed_concept_needs_what_that_needed() -> None:
    result = edited({"op": "remove", "concept": "b"})
    assert names(result) == [["A"], ["C"]]
    assert needs(result, "c") == ("a",)


def test_of_two_that_need_each_other_the_one_that_is_left_is_free() -> None:
    circle = outline_of(design(concept("A", "B"), concept("B", "A"), concept("C", "B")), IDS)
    result = edited({"op": "remove", "concept": "b"}, before=circle)
    assert needs(result, "a") == ()
    assert needs(result, "c") == ("a",)


def test_a_concept_is_moved_to_the_end_of_a_module() -> None:
    assert names(edited({"op": "move", "concept": "a", "module": "m-c"})) == [["B"], ["C", "A"]]
    assert names(edited({"op": "move", "concept": "a", "module": "m-a"})) == [["B", "A"], ["C"]]


def test_a_renamed_concept_gets_a_new_id_and_keeps_its_followers() -> None:
    result = edited({"op": "rename", "concept": "b", "name": "Bees"})
    assert names(result) == [["A", "Bees"], ["C"]]
    assert needs(result, "c") == ("bees",)


def test_ids_stay_as_they_were_shown_while_edits_go_on() -> None:
    result = edited(
        {"op": "rename", "concept": "a", "name": "Ants"},
        {"op": "rename", "concept": "a", "name": "Apes"},
        {"op": "move", "concept": "b", "module": "m-c"},
        {"op": "move", "concept": "a", "module": "m-c"},
        {"op": "adjust", "concept": "c", "needs": ["a", "b"]},
        {"op": "move", "concept": "c", "module": "m-a"},
    )
    assert result.notes == ()
    assert names(result) == [["C"], ["B", "Apes"]]
    assert needs(result, "c") == ("apes", "b")


def test_two_concepts_can_swap_their_names() -> None:
    result = edited(
        {"op": "rename", "concept": "a", "name": "X"},
        {"op": "rename", "concept": "b", "name": "A"},
        {"op": "rename", "concept": "a", "name": "B"},
        {"op": "adjust", "concept": "a", "hours": 7},
    )
    assert names(result)[0] == ["B", "A"]
    assert [one.hours for one in result.outline.concepts()] == [7, 2, 2]
    assert needs(result, "a") == ("b",)


def test_a_repeated_concept_is_mended_by_another_name() -> None:
    twice = outline_of(design(concept("SQL"), concept("sql", "SQL")), IDS)
    result = edited({"op": "rename", "concept": "sql~2", "name": "More SQL"}, before=twice)
    assert [one.id for one in result.outline.concepts()] == ["sql", "more-sql"]


def test_a_name_that_is_taken_stays_a_repetition() -> None:
    result = edited({"op": "rename", "concept": "b", "name": "a"})
    assert [one.id for one in result.outline.concepts()] == ["a", "a~2", "c"]


def test_difficulty_hours_and_needs_are_adjusted() -> None:
    result = edited({"op": "adjust", "concept": "c", "difficulty": 5, "hours": 3, "needs": []})
    *_, last = result.outline.concepts()
    assert (last.difficulty, last.hours, last.needs) == (5, 3, ())


def test_needs_may_be_given_by_name() -> None:
    assert needs(edited({"op": "adjust", "concept": "c", "needs": ["A", "B", "b"]}), "c") == (
        "a",
        "b",
    )


def test_modules_and_stages_that_are_left_empty_are_gone() -> None:
    result = edited({"op": "move", "concept": "c", "module": "m-a"})
    assert names(result) == [["A", "B", "C"]]
    assert len(result.outline.stages) == 1


def test_an_emptied_module_can_still_be_filled() -> None:
    added = concept("D").model_dump()
    result = edited(
        {"op": "remove", "concept": "c"}, {"op": "add", "module": "m-c", "added": added}
    )
    assert names(result) == [["A", "B"], ["D"]]


def test_everything_may_be_removed() -> None:
    result = edited(*({"op": "remove", "concept": one} for one in "abc"))
    assert result.outline == Outline(())


def test_what_cannot_be_is_skipped_and_said() -> None:
    known = concept("A").model_dump()
    result = edited(
        {"op": "remove", "concept": "z"},
        {"op": "move", "concept": "a", "module": "m-z"},
        {"op": "add", "module": "m-a"},
        {"op": "add", "module": "m-z", "added": known},
        {"op": "add", "module": "m-a", "added": known},
        {"op": "rename", "concept": "a"},
        {"op": "rename", "concept": "a", "name": "x" * 121},
        {"op": "adjust", "concept": "a"},
    )
    assert result.outline == outline()
    assert len(result.notes) == 8
    assert result.notes[1] == "Operation 2 (move) was skipped: there is no module 'm-z'."
