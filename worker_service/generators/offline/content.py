"""What a learner studies with: lesson, practice, resources and quiz of each concept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from shared.roadmap import Module, Question, Resource, Roadmap, Stage

from .catalog import Catalog, Concept
from .lesson import outline
from .quiz import quiz_of


@dataclass(frozen=True, slots=True)
class OfflineContent:
    """The content of one concept; ``lesson`` is an outline in Markdown."""

    lesson: str
    practice: tuple[str, ...]
    resources: tuple[Resource, ...]
    quiz: tuple[Question, ...]


def content_of(catalog: Catalog, concept: Concept) -> OfflineContent:
    """Pure: the same catalog and concept give the same content, in every process."""
    return _content(catalog, concept.id)


def contents_of(catalog: Catalog, roadmap: Roadmap) -> dict[str, OfflineContent]:
    """The content of every concept of a plan that was made from this catalog, by its id."""
    return {one.id: _content(catalog, one.id) for one in roadmap.concepts()}


def with_content(roadmap: Roadmap, contents: Mapping[str, OfflineContent]) -> Roadmap:
    """The same plan, each of its concepts with its content."""
    # Copies are not validated again: content takes part in no invariant of a roadmap.
    stages = tuple(_stage(stage, contents) for stage in roadmap.stages)
    return roadmap.model_copy(update={"stages": stages})


@cache
def _content(catalog: Catalog, concept_id: str) -> OfflineContent:
    concept = catalog.concepts[concept_id]
    return OfflineContent(
        lesson=outline(catalog, concept),
        practice=concept.practice,
        resources=tuple(
            Resource(title=link.title, url=link.url, type=link.type, source="catalog")
            for link in concept.resources
        ),
        quiz=quiz_of(catalog, concept),
    )


def _stage(stage: Stage, contents: Mapping[str, OfflineContent]) -> Stage:
    modules = tuple(_module(module, contents) for module in stage.modules)
    return stage.model_copy(update={"modules": modules})


def _module(module: Module, contents: Mapping[str, OfflineContent]) -> Module:
    concepts = tuple(
        concept.model_copy(update=_fields(contents[concept.id])) for concept in module.concepts
    )
    return module.model_copy(update={"concepts": concepts})


def _fields(content: OfflineContent) -> dict[str, object]:
    return {
        "lesson": content.lesson,
        "practice": content.practice,
        "resources": content.resources,
        "quiz": content.quiz,
        "content": "catalog",
    }
