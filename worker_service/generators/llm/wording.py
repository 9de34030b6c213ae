"""Every sentence that a learner gets from this generator, but for those of the model."""

from __future__ import annotations

from collections.abc import Sequence

from shared.errors import TaskError
from shared.roadmap import Concept, RoadmapRequest
from worker_service.generators.offline.catalog import Catalog

from .checks import excluded
from .outline import Outline
from .shapes import Understanding

CONTRADICTION = "The model's plan contradicts itself. Submit the goal again, or in other words."


def objection(understanding: Understanding) -> str:
    reason = understanding.objection.rstrip(".") or "study and practice do not lead there"
    return f"The model sees no plan for this goal: {reason}. Submit a new task with another goal."


def planned_without_model(error: TaskError) -> str:
    return f"The model could not design this plan ({cause(error)}); the catalog's planner made it."


def planned_by_nobody(error: TaskError, nearest: Sequence[str]) -> str:
    """What the model failed at, and what the catalog has in place of it."""
    sentences = [f"{cause(error)}.", "The catalog does not cover the goal, either."]
    if nearest:
        sentences.append(f"The nearest goals that it covers: {', '.join(nearest)}.")
    return " ".join([*sentences, "Submit a new task with one of those, or this goal again later."])


def kept_in_spite(outline: Outline, request: RoadmapRequest, shelf: Catalog | None) -> list[str]:
    """One warning for each topic that is in the plan although the learner excluded it."""
    names: dict[str, list[str]] = {}
    for topic, one in excluded(outline, request, shelf):
        names.setdefault(topic, []).append(one.name)
    return [
        f"“{topic}” was excluded; the model's plan does not do without {quoted(kept)}."
        for topic, kept in names.items()
    ]


def without_lesson(empty: Sequence[Concept], error: TaskError) -> str:
    names = quoted([one.name for one in empty])
    again = "Submit the goal again to have it written."
    return f"No lesson could be written for {names} ({cause(error)}). {again}"


def cause(error: TaskError) -> str:
    """The first sentence, without its full stop: what follows is advice for another place."""
    return error.detail.split(". ")[0].rstrip(".")


def quoted(names: Sequence[str]) -> str:
    return ", ".join(f"“{one}”" for one in names)
