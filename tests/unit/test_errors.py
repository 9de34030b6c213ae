"""Errors of a task: two families decide about another attempt; their shape is public."""

from __future__ import annotations

import pytest

from shared.errors import (
    GoalNotCovered,
    Permanent,
    StartupError,
    TaskError,
    Transient,
    WaymarkError,
)


@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        (Transient("busy"), "temporarily_unavailable", True),
        (Transient("busy", code="model_overloaded"), "model_overloaded", True),
        (Permanent("no"), "generation_failed", False),
        (Permanent("no", code="refused"), "refused", False),
        (GoalNotCovered("knitting", ["Learn SQL"]), "goal_not_covered", False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_the_family_decides_about_another_attempt(
    error: TaskError, code: str, retryable: bool
) -> None:
    shown = error.as_dict()
    assert (shown["code"], shown["retryable"]) == (code, retryable)
    assert shown["detail"] == str(error)


def test_a_code_given_to_one_error_does_not_change_the_next() -> None:
    Transient("busy", code="model_overloaded")
    assert Transient("busy").code == "temporarily_unavailable"


def test_a_goal_that_is_not_covered_names_the_nearest_ones() -> None:
    shown = GoalNotCovered("knitting", ["Learn SQL", "Learn Git"]).as_dict()
    assert shown["nearest"] == ["Learn SQL", "Learn Git"]
    assert "“knitting”" in shown["detail"]
    assert "Learn SQL, Learn Git" in shown["detail"]


def test_details_beyond_the_sentence_are_public_too() -> None:
    assert Permanent("too long", limit=5).as_dict()["limit"] == 5


def test_every_error_of_ours_can_be_caught_as_one() -> None:
    assert issubclass(TaskError, WaymarkError)
    assert issubclass(StartupError, WaymarkError)
    assert not issubclass(StartupError, TaskError)
