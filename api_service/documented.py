"""What a route promises beside its good answer: its problems, by status, each with an example."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from api_service.problems import MEDIA_TYPE, TYPES

SCHEMA = {"$ref": "#/components/schemas/Problem"}

ALWAYS = (
    "malformed-request",
    "validation-failed",
    "request-timeout",
    "rate-limited",
    "header-too-large",
    "internal-error",
    "overloaded",
    "database-unavailable",
)
"""Any request may be answered with these: before it is read, because we fail, or because its query
string says something that nobody understands."""

WITH_BODY = ("body-too-large", "unsupported-media-type")

SUBMITTING = (
    "invalid-header",
    "idempotency-key-reused",
    "idempotency-in-progress",
    "task-deleted",
    "intake-paused",
)
"""Of all that makes tasks. Deleted: the one that the key stands for."""

Responses = dict[int | str, dict[str, Any]]


def problems_of(*slugs: str) -> Responses:
    """For ``responses=`` of a route. KeyError for a slug that is not one of ours."""
    found: Responses = {}
    for slug in slugs:
        add_problem(found, TYPES[slug].status, slug)
    return found


def add_problem(responses: MutableMapping[Any, dict[str, Any]], status: object, slug: str) -> None:
    """Beside the others of its status."""
    response = responses.setdefault(status, {"content": {}})
    content = response["content"].setdefault(MEDIA_TYPE, {"schema": SCHEMA, "examples": {}})
    content["examples"][slug] = {"$ref": f"#/components/examples/{slug}"}
    response["description"] = "; or: ".join(TYPES[one].title for one in content["examples"])
