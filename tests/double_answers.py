"""What the double of a model answers: the same to the same request, and always of use."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

Json = dict[str, Any]  # as a request holds it, and an answer

USAGE = {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150}


def completion(
    content: str | None,
    *,
    finish: str = "stop",
    refusal: str | None = None,
    usage: object = USAGE,
) -> bytes:
    """The envelope around ``content``; what UTF-8 cannot hold in it is escaped."""
    message = {"role": "assistant", "content": content, "refusal": refusal}
    envelope = {
        "id": "chatcmpl-double",
        "object": "chat.completion",
        "created": 0,
        "model": "double",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": usage,
    }
    return json.dumps(envelope).encode()


def shape_asked_for(request: Mapping[str, Any]) -> str:
    """The name of a shape, or "" for none that is known."""
    named: object = request.get("response_format", {}).get("json_schema", {}).get("name")
    if named:
        return str(named)
    rules = request["messages"][0]["content"]
    return next((shape for shape in ANSWERS if re.search(rf'"title": ?"{shape}"', rules)), "")


def answer_to(shape: str, request: Mapping[str, Any], concepts: int) -> Json:
    material = json.loads(request["messages"][1]["content"])
    subject = _text_at(material, "concept") or _text_at(material, "goal") or "the goal"
    make = ANSWERS.get(shape)
    return make(subject[:80], concepts) if make else {}


def _text_at(material: object, key: str) -> str | None:
    """The first text under ``key``, or the name of what is there, at any depth."""
    match material:
        case dict():
            here = material.get(key)
            if isinstance(here, str):
                return here
            if isinstance(here, dict) and isinstance(here.get("name"), str):
                return str(here["name"])
            return _first_of(material.values(), key)
        case list():
            return _first_of(material, key)
        case _:
            return None


def _first_of(materials: Any, key: str) -> str | None:  # any iterable of JSON
    return next((text for one in materials if (text := _text_at(one, key))), None)


def _understanding(goal: str, _concepts: int) -> Json:
    return {
        "plannable": True,
        "title": f"{goal}: a plan",
        "summary": f"From the beginnings to the first own work in {goal}.",
        "topics": [f"{goal}: foundations", f"{goal}: practice"],
    }


def _design(goal: str, concepts: int) -> Json:
    """Two stages, the second of two modules; each concept needs the one before it."""
    chain = [_concept(goal, number, concepts) for number in range(1, concepts + 1)]
    half, rest = (concepts + 1) // 2, (concepts + 2) // 4 + (concepts + 1) // 2
    stages = [
        _stage("Foundations", [chain[:half]]),
        _stage("Practice", [chain[half:rest], chain[rest:]]),
    ]
    return {"stages": [stage for stage in stages if stage["modules"]]}


def _stage(name: str, modules: list[list[Json]]) -> Json:
    return {
        "name": name,
        "description": f"{name}, step by step.",
        "outcome": f"You have done the work of {name.lower()} yourself.",
        "modules": [
            {"name": f"{name} {n}", "description": f"Part {n} of {name.lower()}.", "concepts": part}
            for n, part in enumerate(modules, 1)
            if part
        ],
        "milestone": {
            "title": f"{name} done",
            "deliverable": f"A small work that shows {name.lower()}.",
            "acceptance": ["It runs.", "Somebody else understands it."],
        },
    }


def _concept(goal: str, number: int, concepts: int) -> Json:
    return {
        "name": _name(goal, number),
        "description": f"What part {number} of {goal} is about.",
        "why": f"Part {number} carries what comes after it.",
        "difficulty": 1 + 3 * (number - 1) // concepts,
        "hours": 2,
        "kind": "core",
        "needs": [_name(goal, number - 1)] if number > 1 else [],
        "outcomes": [f"Explain part {number} of {goal} in your own words."],
    }


def _name(goal: str, number: int) -> str:
    return f"{goal}, part {number}"


def _edits(_goal: str, _concepts: int) -> Json:
    return {"operations": []}


def _lesson(subject: str, _concepts: int) -> Json:
    return {
        "lesson": f"# {subject}\n\nWhat {subject} is, and how it is used.",
        "practice": [f"Use {subject} in a small work of your own."],
        "resources": [],
        "quiz": [_question(subject, number) for number in (1, 2, 3)],
    }


def _question(subject: str, number: int) -> Json:
    return {
        "question": f"Which sentence about {subject} is true? ({number})",
        "options": ["It can be learned.", "It cannot be learned."],
        "answer": 0,
        "explanation": "You have just done so.",
    }


ANSWERS: dict[str, Callable[[str, int], Json]] = {
    "Understanding": _understanding,
    "Design": _design,
    "Edits": _edits,
    "Lesson": _lesson,
}
