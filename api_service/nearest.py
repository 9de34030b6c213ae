"""The field that somebody may have meant: named in the refusal of one that is not known."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from difflib import get_close_matches
from typing import Any, get_args

from fastapi import Request
from pydantic import BaseModel


def nearest(name: str, known: Collection[str]) -> str | None:
    """The most similar name, if one is similar enough for a typing error."""
    found = get_close_matches(name, known, n=1, cutoff=0.6)
    return found[0] if found else None


def known_names(request: Request, location: Sequence[str | int]) -> set[str]:
    """Names that would have been understood at that place of the request."""
    where, *path = location[:-1]
    names: set[str] = set()
    for annotation in _roots(request, str(where)):
        names |= set(getattr(_inside(annotation, path), "model_fields", ()))
    return names


def _roots(request: Request, where: str) -> list[Any]:  # Any: what an annotation may be
    route = request.scope["route"]
    if where == "body":
        return [route.body_field.field_info.annotation] if route.body_field else []
    by_hand = getattr(request.state, "query_model", None)
    return [by_hand] if by_hand else [p.field_info.annotation for p in route.dependant.query_params]


def _inside(annotation: Any, path: Sequence[str | int]) -> Any:
    for part in path:
        fields = getattr(_model(annotation), "model_fields", {})
        annotation = fields[part].annotation if part in fields else None
    return _model(annotation)


def _model(annotation: Any) -> Any:
    """The model in an annotation such as ``Model | None``."""
    for one in (annotation, *get_args(annotation)):
        if isinstance(one, type) and issubclass(one, BaseModel):
            return one
    return None
