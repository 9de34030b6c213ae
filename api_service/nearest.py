"""The field that somebody may have meant: named in the refusal of one that is not known."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from difflib import get_close_matches
from typing import Any, get_args

from fastapi import Request
from pydantic import BaseModel

LIKE = 0.6
"""From which likeness on a name counts as mistyped; 1 is the same."""

Shape = Request | type[BaseModel]
"""What was read: a whole request, or a document that has this model."""


def nearest(name: str, known: Collection[str]) -> str | None:
    """The known name that is spelled most alike, else the shortest that has all its words."""
    said = _words(name)
    whole = sorted((one for one in known if said <= _words(one)), key=lambda one: (len(one), one))
    return next(iter((*get_close_matches(name, sorted(known), n=1, cutoff=LIKE), *whole)), None)


def known_names(shape: Shape, location: Sequence[str | int]) -> set[str]:
    """Names that would have been understood at that place, and one level below: ``input.goal``."""
    names: set[str] = set()
    for annotation, path in _roots(shape, location[:-1]):
        names.update(_names(_inside(annotation, path)))
    return names


def _roots(shape: Shape, path: Sequence[str | int]) -> list[tuple[Any, Sequence[str | int]]]:
    """Where to begin, and the way from there. Any: what an annotation may be."""
    if not isinstance(shape, Request):
        return [(shape, path)]
    where, *further = path
    route = shape.scope["route"]
    by_hand = getattr(shape.state, "query_model", None)
    fields = [route.body_field] if where == "body" else route.dependant.query_params
    if where == "query" and by_hand:
        return [(by_hand, further)]
    return [(one.field_info.annotation, further) for one in fields if one]


def _inside(annotation: Any, path: Sequence[str | int]) -> type[BaseModel] | None:
    model = _model(annotation)
    for part in path:
        field = model.model_fields.get(str(part)) if model else None
        model = _model(field.annotation) if field else None
    return model


def _model(annotation: Any) -> type[BaseModel] | None:
    """The model in an annotation such as ``Model | None``."""
    for one in (annotation, *get_args(annotation)):
        if isinstance(one, type) and issubclass(one, BaseModel):
            return one
    return None


def _names(model: type[BaseModel] | None) -> Iterator[str]:
    for name, field in model.model_fields.items() if model else ():
        yield name
        below = _model(field.annotation)
        yield from (f"{name}.{one}" for one in (below.model_fields if below else ()))


def _words(name: str) -> frozenset[str]:
    """Also of ``hoursPerWeek``."""
    return frozenset(re.sub("([a-z])([A-Z])", r"\1_\2", name).lower().replace(".", "_").split("_"))
