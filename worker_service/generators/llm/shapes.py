"""What the model is asked for. Its answers are data: names and words, never ids or authority."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
"""PostgreSQL cannot hold NUL, UTF-8 cannot hold half of a surrogate pair."""


class Answer(BaseModel):
    """Unknown fields are dropped, not an error: a model that says more than asked did its work."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


def _storable(value: object) -> object:
    return UNSTORABLE.sub("", value).strip() if isinstance(value, str) else value


Storable = BeforeValidator(_storable)
Name = Annotated[str, Storable, Field(min_length=1, max_length=120)]
Sentence = Annotated[str, Storable, Field(min_length=1, max_length=600)]
Markdown = Annotated[str, Storable, Field(min_length=1, max_length=20_000)]


class Understanding(Answer):
    """What the learner wants, in the words of the field."""

    plannable: bool = Field(description="Whether this is something that can be learned.")
    objection: Annotated[str, Storable, Field(max_length=600)] = ""
    title: Name
    summary: Sentence
    topics: tuple[Name, ...] = Field(min_length=1, max_length=40)


class DesignedConcept(Answer):
    name: Name
    description: Sentence
    why: Sentence
    difficulty: int = Field(ge=1, le=5)
    hours: float = Field(ge=0, le=1000)
    kind: Literal["core", "supporting", "optional"] = "core"
    needs: tuple[Name, ...] = Field(
        default=(), description="Names of concepts of this plan that have to come first."
    )
    outcomes: tuple[Sentence, ...] = Field(min_length=1, max_length=4)


class DesignedModule(Answer):
    name: Name
    description: Sentence
    concepts: tuple[DesignedConcept, ...] = Field(min_length=1)


class DesignedMilestone(Answer):
    title: Name
    deliverable: Sentence
    acceptance: tuple[Sentence, ...] = Field(default=(), max_length=6)


class DesignedStage(Answer):
    name: Name
    description: Sentence
    outcome: Sentence
    modules: tuple[DesignedModule, ...] = Field(min_length=1)
    milestone: DesignedMilestone | None = None


class Design(Answer):
    stages: tuple[DesignedStage, ...] = Field(min_length=1)


class Operation(Answer):
    """One change of a design. ``concept`` and ``module`` are ids as they were shown."""

    op: Literal["add", "remove", "move", "rename", "adjust"]
    concept: Annotated[str, Storable] = Field(
        default="", description="Which concept is removed, moved, renamed or adjusted."
    )
    module: Annotated[str, Storable] = Field(
        default="", description="Where a concept is added or moved to."
    )
    name: Annotated[str, Storable] = Field(default="", description="The new name.")
    difficulty: int | None = Field(default=None, ge=1, le=5)
    hours: float | None = Field(default=None, gt=0, le=1000)
    needs: tuple[str, ...] | None = Field(
        default=None, description="All ids of what has to come first, in place of the old ones."
    )
    added: DesignedConcept | None = Field(default=None, description="The concept to add.")


class Edits(Answer):
    operations: tuple[Operation, ...] = Field(max_length=100)


class AskedQuestion(Answer):
    question: Sentence
    options: tuple[Sentence, ...] = Field(min_length=2, max_length=6)
    answer: int = Field(ge=0, description="Index of the right option, from 0.")
    explanation: Annotated[str, Storable, Field(max_length=600)] = ""


class FoundResource(Answer):
    title: Name
    url: Annotated[str, Storable, Field(max_length=500)]
    type: Literal["documentation", "article", "book", "course", "video", "tool"] = "article"


class Lesson(Answer):
    """The content of one concept."""

    lesson: Markdown
    practice: tuple[Sentence, ...] = Field(min_length=1, max_length=4)
    resources: tuple[FoundResource, ...] = Field(default=(), max_length=5)
    quiz: tuple[AskedQuestion, ...] = Field(min_length=3, max_length=5)
