"""``/openapi.json`` says all that a client may be answered, by example."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from api_service.app import create_app
from api_service.openapi import operations
from api_service.ops_schemas import NOT_BLANK
from api_service.problems import MEDIA_TYPE, TYPES
from shared.settings import Settings

DOCUMENT: dict[str, Any] = create_app(Settings()).openapi()
OPERATIONS = [operation for _, _, operation in operations(DOCUMENT)]
NAMES = [operation["operationId"] for operation in OPERATIONS]
MADE_BY_HAND = {"method-not-allowed", "not-ready"}
"""Of no operation: of an address, and of a probe."""


def resolved(one: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in one:
        return one
    found: Any = DOCUMENT
    for part in one["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return dict(found)


def contents(operation: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Media type and content of its request and of each of its answers."""
    for holder in (operation.get("requestBody", {}), *operation["responses"].values()):
        yield from holder.get("content", {}).items()


def test_each_operation_has_a_name_of_its_own_that_is_one_of_a_method() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert all(name.isidentifier() for name in NAMES)


@pytest.mark.parametrize("operation", OPERATIONS, ids=NAMES)
def test_each_answer_is_described_with_its_headers(operation: dict[str, Any]) -> None:
    assert operation["tags"]
    assert operation["summary"]
    for status, answer in operation["responses"].items():
        assert status.isdigit(), "a range says nothing"
        assert answer["description"]
        assert "Request-Id" in answer["headers"]
        if status in ("429", "503"):
            assert answer["headers"]["Retry-After"]["required"]


@pytest.mark.parametrize("operation", OPERATIONS, ids=NAMES)
def test_each_body_and_each_answer_has_examples_that_fit_its_schema(
    operation: dict[str, Any],
) -> None:
    for media_type, content in contents(operation):
        if media_type == "text/event-stream":
            continue
        assert content["examples"]
        schema = content["schema"] | {"components": DOCUMENT["components"]}
        for example in content["examples"].values():
            found = Draft202012Validator(schema).iter_errors(resolved(example)["value"])
            assert [f"{error.json_path}: {error.message}" for error in found] == []


@pytest.mark.parametrize("operation", OPERATIONS, ids=NAMES)
def test_each_link_leads_to_an_operation_by_parameters_that_it_has(
    operation: dict[str, Any],
) -> None:
    for answer in operation["responses"].values():
        for link in answer.get("links", {}).values():
            target = OPERATIONS[NAMES.index(link["operationId"])]
            has = {one["name"] for one in target.get("parameters", ())}
            assert set(link.get("parameters", ())) <= has
            assert ("requestBody" not in link) or ("requestBody" in target)


def test_each_type_of_problem_is_documented_where_it_can_happen() -> None:
    told = {
        slug
        for operation in OPERATIONS
        for media_type, content in contents(operation)
        if media_type == MEDIA_TYPE
        for slug in content["examples"]
    }
    assert told == set(TYPES) - MADE_BY_HAND


def test_a_problem_stands_under_its_own_status() -> None:
    for operation in OPERATIONS:
        for status, answer in operation["responses"].items():
            for slug in answer.get("content", {}).get(MEDIA_TYPE, {}).get("examples", ()):
                assert str(TYPES[slug].status) == status


def test_what_counts_as_blank_is_told_as_it_is_judged() -> None:
    blanks = [chr(code) for code in range(0x3001) if not chr(code).strip()]
    assert "\x85" in blanks
    # Hand-written class by class: a reader of the pattern may not count \x85 among spaces.
    ascii_only = re.compile(NOT_BLANK, re.ASCII)
    assert not [one for one in blanks if ord(one) < 0xA0 and ascii_only.fullmatch(one)]
