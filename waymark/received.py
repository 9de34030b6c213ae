"""What the typed clients return: the models of shared/views.py, with the document they came as.

An API that is newer than this client may send members that it does not know. They do not disturb,
and ``received["name"]`` reads them.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Self

from pydantic import PrivateAttr, ValidationError

from shared.views import (
    AttemptView,
    BatchResult,
    EventView,
    RoadmapView,
    TaskView,
    Validation,
    View,
)
from waymark.errors import ApiError, Document


class Received(View):
    """A view that remembers what was sent."""

    _document: Document = PrivateAttr(default_factory=dict)

    @property
    def document(self) -> Document:
        """As the API sent it, whole."""
        return self._document

    def __getitem__(self, name: str) -> Any:  # Any: what JSON can hold
        return self._document[name]

    @classmethod
    def of(cls, document: Document) -> Self:
        """Raises ApiError if a member that this client needs is absent, or is of another kind."""
        try:
            received = cls._read(document)
        except ValidationError as error:
            raise _unreadable(cls.__name__, error, document) from error
        received._document = document
        return received

    @classmethod
    def each_of(cls, document: Document) -> list[Self]:
        """Of a document that has them as ``data``."""
        return [cls.of(one) for one in document.get("data", ())]

    @classmethod
    def _read(cls, document: Document) -> Self:
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            unknown = [one["loc"] for one in error.errors() if one["type"] == "extra_forbidden"]
            if not unknown:
                raise
        return cls.model_validate(_without(document, unknown))


class Task(Received, TaskView):
    """See TaskView."""


class Event(Received, EventView):
    """See EventView."""


class Attempt(Received, AttemptView):
    """See AttemptView."""


class StoredRoadmap(Received, RoadmapView):
    """See RoadmapView."""


class Batch(Received, BatchResult):
    """See BatchResult."""


class Validated(Received, Validation):
    """See Validation."""


def _without(document: Document, unknown: Sequence[Sequence[int | str]]) -> Document:
    """The shapes of a roadmap refuse what they do not know; a reader passes over it."""
    known = copy.deepcopy(document)
    for *path, name in unknown:
        part: Any = known
        for step in path:
            part = part[step]
        del part[name]
    return known


def _unreadable(name: str, error: ValidationError, document: Document) -> ApiError:
    first = error.errors()[0]
    where = "".join(f"/{step}" for step in first["loc"])
    told = {
        "title": "Not the answer that this client knows",
        "detail": f"{name}{where}: {first['msg']}. Use a client of the API's own version, or read "
        "the document as it is with call().",
        "document": document,
    }
    return ApiError(told, 200)
