"""Which known field is named beside one that is not known."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import Request
from fastapi.routing import APIRoute

from api_service import ops_routes, routes
from api_service.listing import TaskQuery
from api_service.nearest import known_names, nearest
from api_service.problems import from_validation
from api_service.schemas import BatchSubmission, TaskSubmission


def request_to(path: str, method: str, router: Any = routes.router, **state: Any) -> Request:
    """One that the framework has found a route for. Any: a router, and what a route has noted."""
    found = next(
        route
        for route in router.routes
        if isinstance(route, APIRoute) and route.path == path and method in (route.methods or ())
    )
    return Request({"type": "http", "route": found, "state": state})


SUBMISSION = known_names(TaskSubmission, ("unknown",))


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("priorty", "priority"),
        ("Priority", "priority"),
        ("deadline", "deadline_seconds"),
        ("deadlineSeconds", "deadline_seconds"),
        ("goal", "input.goal"),
        ("hours_per_week", "input.hours_per_week"),
        ("hours", "input.hours_per_week"),
        ("meta", "metadata"),
        ("tenant", None),
        ("xyzzy", None),
        ("", None),
        ("_", None),
        ("目标", None),
    ],
)
def test_the_field_that_was_meant_is_named_and_none_is_made_up(
    given: str, meant: str | None
) -> None:
    assert nearest(given, SUBMISSION) == meant


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("hours_per_wek", "hours_per_week"),
        ("hours", "hours_per_week"),
        ("hoursPerWeek", "hours_per_week"),
        ("gaol", "goal"),
        ("known", "known_topics"),
        ("days", "study_days"),
        ("week", "weeks"),
    ],
)
def test_inside_the_input_its_own_fields_are_named(given: str, meant: str) -> None:
    request = request_to("/v1/tasks", "POST")
    assert nearest(given, known_names(request, ("body", "input", given))) == meant


def test_a_query_is_compared_with_the_model_that_reads_it() -> None:
    by_hand = request_to("/v1/tasks", "GET", query_model=TaskQuery)
    assert nearest("statuss", known_names(by_hand, ("query", "statuss"))) == "status"
    audit = request_to("/v1/ops/audit", "GET", ops_routes.router)
    assert nearest("actr", known_names(audit, ("query", "actr"))) == "actor"


def test_inside_an_optional_part_of_a_body_its_fields_are_named() -> None:
    request = request_to("/v1/ops/dead-letters:replay", "POST", ops_routes.router)
    known = known_names(request, ("body", "filter", "finger"))
    assert nearest("finger", known) == "fingerprint"
    assert "filter.fingerprint" in known_names(request, ("body", "finger"))


@pytest.mark.parametrize(
    "location",
    [
        ("body", "metadata", "a", "b"),
        ("body", "nowhere", "b"),
        ("body", "input", "known_topics", 3, "b"),
        ("body", "input", 3, "b"),
        ("header", "b"),
    ],
)
def test_where_no_model_is_known_no_field_is_named(location: tuple[str | int, ...]) -> None:
    assert known_names(request_to("/v1/tasks", "POST"), location) == set()


def test_a_route_without_a_body_or_a_query_has_no_names() -> None:
    request = request_to("/v1/tasks/{task_id}", "DELETE")
    assert known_names(request, ("body", "a")) == known_names(request, ("query", "a")) == set()


def test_a_document_of_its_own_is_compared_with_its_model() -> None:
    error = {"type": "extra_forbidden", "loc": ("input", "gaol"), "msg": ""}
    problem = from_validation([error], TaskSubmission)
    (told,) = problem.errors
    assert told == {
        "pointer": "/input/gaol",
        "detail": "is not a known field (did you mean goal?)",
    }
    assert known_names(BatchSubmission, ("x",)) == {"tasks", "atomic"}
