"""The content of each concept: the model's, else the catalog's, else none and a word about it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

from shared.roadmap import Concept, Module, Question, Resource, Roadmap, Stage
from worker_service.generators.offline.catalog import Catalog
from worker_service.generators.offline.content import OfflineContent, content_of, resources_of
from worker_service.generators.port import StepFailed

from . import wording
from .shapes import AskedQuestion, FoundResource, Lesson

MOST_FOUND = 3
"""Addresses of the model's own that one concept shows."""

FEWEST_QUESTIONS, MOST_QUESTIONS = 3, 5

HOST = re.compile(r"([a-z0-9-]+\.)+[a-z][a-z0-9-]+")
"""A public name: no number, no machine of the learner's own network."""

PLAIN = re.compile(r"[!-\[\]-~]+")
"""ASCII without backslash: urlsplit drops line breaks, and to a browser a backslash is a slash."""


def fill(
    plan: Roadmap,
    lessons: Mapping[str, Lesson | StepFailed],
    catalog: Catalog,
    shelf: Catalog | None,
) -> Roadmap:
    """The plan with content, by the ids of its concepts; one warning names those without.

    ``catalog`` knows addresses; ``shelf`` is the same if it knows this plan's concepts, too.
    """

    def filled(one: Concept) -> Concept:
        return _filled(one, lessons[one.id], catalog, _on_shelf(shelf, one))

    stages = tuple(_stage(stage, filled) for stage in plan.stages)
    # Copies are not validated again: content takes part in no invariant of a roadmap.
    full = plan.model_copy(update={"stages": stages})
    return full.model_copy(update={"warnings": (*plan.warnings, *_warnings(full, lessons))})


def _stage(stage: Stage, filled: Callable[[Concept], Concept]) -> Stage:
    modules = tuple(_module(module, filled) for module in stage.modules)
    return stage.model_copy(update={"modules": modules})


def _module(module: Module, filled: Callable[[Concept], Concept]) -> Module:
    return module.model_copy(update={"concepts": tuple(map(filled, module.concepts))})


def _on_shelf(shelf: Catalog | None, concept: Concept) -> OfflineContent | None:
    known = shelf.concepts.get(concept.id) if shelf else None
    return content_of(shelf, known) if shelf and known else None


def _filled(
    concept: Concept,
    lesson: Lesson | StepFailed,
    catalog: Catalog,
    offline: OfflineContent | None,
) -> Concept:
    if isinstance(lesson, Lesson):
        return concept.model_copy(update=_of_model(lesson, catalog, offline))
    if offline is not None:
        return concept.model_copy(update=_of_catalog(offline))
    return concept


def _of_model(lesson: Lesson, catalog: Catalog, offline: OfflineContent | None) -> dict[str, Any]:
    listed = offline.resources if offline else ()
    spare = offline.quiz if offline else ()
    return {
        "lesson": lesson.lesson,
        "practice": lesson.practice,
        "resources": resources(lesson.resources, catalog, listed),
        "quiz": quiz(lesson.quiz, spare),
        "content": "model",
    }


def _of_catalog(offline: OfflineContent) -> dict[str, Any]:
    return {
        "lesson": offline.lesson,
        "practice": offline.practice,
        "resources": offline.resources,
        "quiz": offline.quiz,
        "content": "catalog",
    }


def resources(
    found: Iterable[FoundResource], catalog: Catalog, listed: Iterable[Resource] = ()
) -> tuple[Resource, ...]:
    """Those of the catalog first, then MOST_FOUND of the model's, no address twice.

    What the model names and the catalog lists anywhere is shown as the catalog has it.
    """
    shown = {_address(one.url): one for one in listed}
    known = _known_addresses(catalog)
    of_model = 0
    for one in found:
        address = _address(one.url)
        if of_model < MOST_FOUND and address is not None and address not in shown:
            shown[address] = known.get(address) or _of_its_own(one)
            of_model += 1
    return tuple(shown.values())


def quiz(asked: Iterable[AskedQuestion], spare: Iterable[Question] = ()) -> tuple[Question, ...]:
    """Questions whose answer is among their options; if too few are left, more from ``spare``."""
    questions = [
        Question(**one.model_dump()) for one in asked if 0 <= one.answer < len(one.options)
    ][:MOST_QUESTIONS]
    lacking = max(FEWEST_QUESTIONS - len(questions), 0)
    return (*questions, *islice(spare, lacking))


def _of_its_own(found: FoundResource) -> Resource:
    return Resource(
        title=found.title, url=found.url, type=found.type, check="unverified", source="model"
    )


def _address(url: str) -> str | None:
    """What tells addresses apart; None for what is none that a learner may be sent to."""
    try:
        parts = urlsplit(url)
        named = parts.port is None and HOST.fullmatch(parts.hostname or "")
    except ValueError:
        return None
    if not named or parts.scheme != "https" or "@" in parts.netloc or not PLAIN.fullmatch(url):
        return None
    return f"{parts.hostname}{parts.path.rstrip('/')}?{parts.query}#{parts.fragment}"


@cache
def _known_addresses(catalog: Catalog) -> Mapping[str | None, Resource]:
    return {
        _address(one.url): one
        for concept in catalog.concepts.values()
        for one in resources_of(concept)
    }


def _warnings(full: Roadmap, lessons: Mapping[str, Lesson | StepFailed]) -> Iterator[str]:
    empty = [one for one in full.concepts() if one.content == "missing"]
    failed = (lesson for one in empty if isinstance(lesson := lessons[one.id], StepFailed))
    if first := next(failed, None):
        yield wording.without_lesson(empty, first)
