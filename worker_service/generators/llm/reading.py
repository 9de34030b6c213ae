"""Reads what came from a model: a server's envelope, and the output in it. All is suspect."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from worker_service.generators.port import Output

from .shapes import UNSTORABLE

MOST_TOKENS = 10**9
"""A count above is nonsense, and would not fit where it is kept."""

MOST_COMPLAINTS = 10
"""A model that is told all of a hundred faults mends none."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One choice of a chat completion; ``content`` is empty if there is none."""

    content: str
    tokens_in: int
    tokens_out: int
    refused: bool
    cut_off: bool


class Unusable(Exception):
    """An answer that cannot be used; ``complaints`` are sentences that the model may mend it by."""

    def __init__(self, *complaints: str) -> None:
        super().__init__("; ".join(complaints))
        self.complaints = complaints


def read_reply(body: bytes) -> Reply:
    """What is missing or of the wrong type counts as empty. Raises Unusable if it is no JSON."""
    try:
        envelope = json.loads(body)
    except (ValueError, RecursionError):
        raise Unusable("The server answered with something else than JSON.") from None
    choice = _at(envelope, "choices", 0)
    content = _at(choice, "message", "content")
    reason = _at(choice, "finish_reason")
    return Reply(
        content=UNSTORABLE.sub("", content) if isinstance(content, str) else "",
        tokens_in=_count(_at(envelope, "usage", "prompt_tokens")),
        tokens_out=_count(_at(envelope, "usage", "completion_tokens")),
        refused=bool(_at(choice, "message", "refusal")) or reason == "content_filter",
        cut_off=reason == "length",
    )


def read_output(shape: type[Output], reply: Reply) -> Output:
    """The output in ``reply``. Raises Unusable."""
    if reply.cut_off:
        raise Unusable("It was cut off because it is too long: say it in fewer words.")
    if not reply.content.strip():
        raise Unusable("It is empty.")
    try:
        return shape.model_validate(_first_object(reply.content))
    except ValidationError as error:
        raise Unusable(*_complaints(error)) from None


def _at(value: Any, *path: str | int) -> Any:  # JSON of anybody's making
    for step in path:
        match value, step:
            case dict(), str():
                value = value.get(step)
            case list(), int() if step < len(value):
                value = value[step]
            case _:
                return None
    return value


def _count(value: object) -> int:
    return value if type(value) is int and 0 <= value <= MOST_TOKENS else 0


def _first_object(content: str) -> object:
    """The first JSON object, whatever is written before and after it: models like to talk."""
    start = content.find("{")
    if start < 0:
        raise Unusable("There is no JSON object in it.")
    decoder = json.JSONDecoder(strict=False)  # many put plain line breaks into their strings
    try:
        found, _end = decoder.raw_decode(content, start)
        return _storable(found)
    except json.JSONDecodeError as error:
        raise Unusable(f"It is no valid JSON: {error}.") from None
    except (ValueError, RecursionError):
        raise Unusable("It is no valid JSON: numbers too long, or nested too deep.") from None


def _storable(value: Any) -> Any:  # JSON of anybody's making
    """Without what can be written in JSON and nowhere else: NUL and halves of surrogate pairs."""
    match value:
        case str():
            return UNSTORABLE.sub("", value)
        case list():
            return [_storable(one) for one in value]
        case dict():
            return {_storable(key): _storable(one) for key, one in value.items()}
        case _:
            return value


def _complaints(error: ValidationError) -> Sequence[str]:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return [
        f"{'.'.join(str(step) for step in one['loc']) or 'The whole'}: {one['msg']}"
        for one in found[:MOST_COMPLAINTS]
    ]
