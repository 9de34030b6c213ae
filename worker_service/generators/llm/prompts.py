"""What the model is told: rules of ours, and material that is data whoever wrote it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shared.roadmap import Concept, Roadmap, RoadmapRequest

from .checks import FEWEST_HOURS, MOST_CONCEPTS, MOST_HOURS, MOST_STAGES, STEEPEST, Finding
from .model import Prompt
from .outline import Outline
from .shapes import Understanding

VERSION = 1
"""Part of every step's inputs: grows with every change of a rule below."""

MOST_FINDINGS = 40
"""That the model is shown at once; the rest is found again in the next round."""

Material = dict[str, Any]  # JSON

ROLE = "You plan how people learn. Write in the language of the material's `language`."

UNDERSTAND = f"""{ROLE}
Say what this learner wants to be able to do, in the words of the field: a title, a summary of what
they will be able to do, and the topics that lead there, without what they know already or exclude.
Set `plannable` to false, and say why in `objection`, only if the goal is nothing that a person can
learn by study and practice; give the other fields all the same."""

DESIGN = f"""{ROLE}
Design the way to this goal: stages, in them modules, in them concepts, all in the order of study.
- Begin where the level and the known topics leave off. Plan nothing that is known or excluded,
  unless the goal cannot do without it.
- A concept is one thing to learn. Its name is unique, short, and says it without the plan around.
- `needs` are names of concepts that come earlier in this plan, written exactly as there.
- `hours` are what this learner needs for it, practice included: {FEWEST_HOURS:g} to {MOST_HOURS:g}.
- Difficulty (1 to 5) rises by at most {STEEPEST} over all that comes before.
- With `weeks`, all hours together fit hours_per_week times weeks; mark as optional what is.
- At most {MOST_STAGES} stages, with a milestone each: a work that shows what was learned.
- At most {MOST_CONCEPTS} concepts; 15 to 40 are usual. Ids, weeks and totals are not yours."""

EDIT = f"""{ROLE}
This plan has `findings`. Mend them by as few operations as will do, and leave the rest as it is.
Name concepts and modules by their ids. An operation is one of:
- add: the concept `added`, at the end of `module`; its needs are names or ids;
- remove: `concept`, if the plan is better without it; what needed it then needs what it needed;
- move: `concept` to the end of `module`;
- rename: `concept` gets the new `name`;
- adjust: `concept` gets other `difficulty`, `hours` or `needs` (all of them, by ids).
Concepts are studied in the order that is shown: what one needs has to stand before it.
`skipped` says which operations of the round before could not be applied."""

LESSON = f"""{ROLE}
Write what the learner studies for this one concept of the plan, for their level.
- `lesson`: Markdown, 500 to 1200 words: what it is, why it is so, a worked example, usual mistakes.
  Build on the prerequisites without explaining them again, and reach every outcome.
- `practice`: tasks that they can do alone and check alone.
- `resources`: at most 3 that you are certain exist, at https addresses; better none than a guess.
- `quiz`: 3 to 5 questions about understanding. `answer` is the index of the one right option."""


def understand(request: RoadmapRequest) -> Prompt:
    return Prompt(UNDERSTAND, _learner(request))


def design(request: RoadmapRequest, understanding: Understanding) -> Prompt:
    return Prompt(DESIGN, {**_learner(request), "wanted": _wanted(understanding)})


def edit(
    request: RoadmapRequest,
    understanding: Understanding,
    outline: Outline,
    findings: Sequence[Finding],
    notes: Sequence[str],
) -> Prompt:
    material = {
        **_learner(request),
        "wanted": _wanted(understanding),
        "plan": _shown(outline),
        "findings": [one.sentence for one in findings[:MOST_FINDINGS]],
        "skipped": list(notes[:MOST_FINDINGS]),
    }
    return Prompt(EDIT, material)


def lesson(plan: Roadmap, concept: Concept) -> Prompt:
    """Only what this lesson depends on: it is not paid again when the rest of the plan changes."""
    names = {one.id: one.name for one in plan.concepts()}
    material = {
        "plan": plan.title,
        "concept": {
            "name": concept.name,
            "description": concept.description,
            "outcomes": list(concept.outcomes),
            "prerequisites": [names[one.concept_id] for one in concept.prerequisites],
        },
        "level": plan.level.value,
        "language": plan.language,
    }
    return Prompt(LESSON, material)


def _learner(request: RoadmapRequest) -> Material:
    return request.model_dump(mode="json", exclude={"start_date"})


def _wanted(understanding: Understanding) -> Material:
    return understanding.model_dump(mode="json", include={"title", "summary", "topics"})


def _shown(outline: Outline) -> list[Material]:
    """The outline by ids, without the words that no edit changes."""
    return [
        {
            "stage": stage.name,
            "modules": [
                {
                    "id": module.id,
                    "name": module.name,
                    "concepts": [
                        {
                            "id": one.id,
                            "name": one.name,
                            "kind": one.kind,
                            "difficulty": one.difficulty,
                            "hours": one.hours,
                            "needs": list(one.needs),
                        }
                        for one in module.concepts
                    ],
                }
                for module in stage.modules
            ],
        }
        for stage in outline.stages
    ]
