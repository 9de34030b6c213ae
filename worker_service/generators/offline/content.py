"""What a learner studies with: lesson, practice, resources and quiz of each concept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from shared import roadmap
from shared.roadmap import Module, Question, Resource, Roadmap, Stage

from .catalog import Catalog, Concept
from .lesson import closing_outline, outline
from .quiz import quiz_of
from .voices import Voice, voice_of

MOST_CONTENTS = 4096
"""Contents kept at hand: they depend on the language and on the alternatives of a plan."""


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


def resources_of(concept: Concept) -> tuple[Resource, ...]:
    """Official documentation first. Nobody has followed the links since they were written."""
    return tuple(
        Resource(
            title=link.title,
            url=link.url,
            type=link.type,
            language=link.language,
            written=link.written,
            check="unverified",
            source="catalog",
        )
        for link in concept.resources
    )


def contents_of(catalog: Catalog, plan: Roadmap) -> dict[str, OfflineContent]:
    """The content of everything in a plan that was made from this catalog, by its id."""
    settled = catalog.choosing(_chosen_in(catalog, plan))

    def content(one: roadmap.Concept) -> OfflineContent:
        concept = settled.concepts.get(one.id)
        if concept is None:
            return _of_closing(voice_of(catalog.language), one)
        # What no alternative touches is the same in every plan: then it is made only once.
        untouched = concept is catalog.concepts[one.id]
        return _content(catalog if untouched else settled, one.id)

    return {one.id: content(one) for one in plan.concepts()}


def with_content(plan: Roadmap, contents: Mapping[str, OfflineContent]) -> Roadmap:
    """The same plan, each of its concepts with its content."""
    # Copies are not validated again: content takes part in no invariant of a roadmap.
    stages = tuple(_stage(stage, contents) for stage in plan.stages)
    return plan.model_copy(update={"stages": stages})


def _chosen_in(catalog: Catalog, plan: Roadmap) -> dict[str, str]:
    """Of each group of alternatives the member that the plan takes; none if it takes none."""
    planned = {one.id: place for place, one in enumerate(plan.concepts())}
    taken = {
        group.id: [one for one in group.members if one in planned]
        for group in catalog.alternatives.values()
    }
    return {group: min(ids, key=planned.__getitem__) for group, ids in taken.items() if ids}


def _of_closing(voice: Voice, one: roadmap.Concept) -> OfflineContent:
    practice = tuple(voice.review_practice()) if one.kind == "review" else ()
    return OfflineContent(closing_outline(voice, one, practice), practice, (), ())


@lru_cache(MOST_CONTENTS)
def _content(catalog: Catalog, concept_id: str) -> OfflineContent:
    concept = catalog.concepts[concept_id]
    return OfflineContent(
        lesson=outline(catalog, concept),
        practice=concept.practice,
        resources=resources_of(concept),
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
