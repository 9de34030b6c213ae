"""The API's own description, whole: what the framework derives, and all that it cannot know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel

from api_service.answers import (
    GOOD,
    HEADERS,
    LINKS,
    ON_EVERY_ANSWER,
    ON_PROBLEMS,
    Good,
    headers_of,
)
from api_service.documented import ALWAYS, WITH_BODY, add_problem
from api_service.examples import EXAMPLES, TASK
from api_service.explanations import example_of
from api_service.listing import TaskQuery
from api_service.problems import MEDIA_TYPE, TYPES
from shared.roadmap import Shape
from shared.views import View

Document = dict[str, Any]
"""Any: JSON."""

JSON = "application/json"
STREAM = "text/event-stream"
SCHEMAS = "#/components/schemas/"

TAGS = {
    "tasks": "Submit a learning goal, follow it, act on it.",
    "roadmaps": "What came of it.",
    "operators": "What is going on, and what can be done by hand. Each act is recorded.",
}

PROBLEM: Document = {
    "title": "Problem",
    "description": "RFC 9457. `type` is the address of a page that says what to do.",
    "type": "object",
    "required": ["type", "title", "status", "detail", "code", "request_id"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string", "enum": list(TYPES)},
        "request_id": {"type": "string"},
        "errors": {"type": "array", "items": {"$ref": f"{SCHEMAS}FieldError"}},
    },
}

PARAMETERS: dict[str, Document] = {
    "idempotency-key": {
        "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
        "example": "7c1e",
    },
    "traceparent": {"example": f"00-{'4' * 32}-{'2' * 16}-01"},
    "prefer": {"example": "wait=10"},
    "if-none-match": {"example": '"3.0"'},
    "if-match": {"example": '"3.0"'},
    "last-event-id": {
        "schema": {"type": "string", "pattern": "^[0-9]{1,9}$"},
        "example": "3",
    },
}
"""More than the framework knows about headers."""

STREAM_EXAMPLE = 'id: 2\nevent: task.started\ndata: {"seq": 2, "type": "task.started"}\n\n'


class DescribedApi(FastAPI):
    """Describes itself once, when it is first asked."""

    def openapi(self) -> Document:
        if self.openapi_schema is None:
            self.openapi_schema = completed(super().openapi())
        return self.openapi_schema


def operation_id(route: APIRoute) -> str:
    """For ``generate_unique_id_function``: the name of the function makes a good method's name."""
    return route.name


def operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, Document]]:
    """Address, method and operation."""
    for address, methods in document["paths"].items():
        for method, operation in methods.items():
            yield address, method, operation


def completed(document: Document) -> Document:
    document["tags"] = [{"name": name, "description": said} for name, said in TAGS.items()]
    schemas = document["components"]["schemas"]
    schemas["Problem"] = PROBLEM
    document["components"]["headers"] = HEADERS
    document["components"]["examples"] = {
        slug: {"summary": kind.title, "value": example_of(slug)} for slug, kind in TYPES.items()
    }
    _restore_examples(schemas)
    _describe_patch(schemas)
    for address, _method, operation in operations(document):
        operation.setdefault("tags", ["roadmaps" if "/roadmaps/" in address else "tasks"])
        _complete_parameters(operation)
        _complete_body(operation, schemas)
        _complete_good_answers(operation, schemas)
        _complete_problems(operation)
        operation["responses"] = dict(sorted(operation["responses"].items()))
    for frameworks in ("HTTPValidationError", "ValidationError"):
        schemas.pop(frameworks, None)
    return document


def _restore_examples(schemas: Document) -> None:
    """The framework drops each null of the examples that models have of their own."""
    for shape in (*_heirs_of(View), *_heirs_of(Shape)):
        own = shape.model_config.get("json_schema_extra")
        if isinstance(own, dict) and shape.__name__ in schemas:
            schemas[shape.__name__] |= {
                name: own[name] for name in ("example", "examples") if name in own
            }


def _describe_patch(schemas: Document) -> None:
    """A retry's input is a merge patch: any field of an input, and null to take it out."""
    fields = schemas["RoadmapRequest"]["properties"]
    patch = schemas["TaskRetry"]["properties"]["input"]
    patch["additionalProperties"] = False
    patch["properties"] = {
        name: shape if name == "goal" else {"anyOf": [shape, {"type": "null"}]}
        for name, shape in fields.items()
    }


def _heirs_of(shape: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for heir in shape.__subclasses__():
        yield heir
        yield from _heirs_of(heir)


# --- what is asked ---


def _complete_parameters(operation: Document) -> None:
    found = [one for one in operation.get("parameters", ()) if one["name"] != "accept"]
    if operation["operationId"] == "list_tasks":
        found += _query_of_list()
    for parameter in found:
        parameter["schema"] = _never_null(parameter["schema"])
        parameter |= PARAMETERS.get(parameter["name"], {})
        if parameter["name"] == "task_id":
            parameter["example"] = TASK
    if found:
        operation["parameters"] = found


def _query_of_list() -> Iterator[Document]:
    """It is read by hand, for ``metadata[KEY]=VALUE``."""
    shapes = TaskQuery.model_json_schema(ref_template=f"{SCHEMAS}{{model}}")["properties"]
    for name, shape in shapes.items():
        parameter = {"name": name, "in": "query", "required": False, "schema": shape}
        if name == "metadata":
            parameter |= {"style": "deepObject", "explode": True}
        if said := shape.pop("description", None):
            parameter["description"] = said
        yield parameter


def _never_null(schema: Document) -> Document:
    """A parameter is there or not; the framework takes what is absent for null."""
    if "anyOf" not in schema:
        return schema
    rest = [one for one in schema["anyOf"] if one != {"type": "null"}]
    others = {name: value for name, value in schema.items() if name not in ("anyOf", "default")}
    return others | (rest[0] if len(rest) == 1 else {"anyOf": rest})


def _complete_body(operation: Document, schemas: Document) -> None:
    if body := operation.get("requestBody"):
        _add_examples(body["content"][JSON], schemas)


# --- what is answered ---


def _complete_good_answers(operation: Document, schemas: Document) -> None:
    answers = operation["responses"]
    good = GOOD[operation["operationId"]]
    document = answers[min(status for status in answers if status < "3")].get("content")
    for status, told in good.items():
        answer = answers.setdefault(str(status), {})
        if told.body and document:
            answer.setdefault("content", dict(document))
        _complete_good_answer(answer, told, schemas)


def _complete_good_answer(answer: Document, told: Good, schemas: Document) -> None:
    answer["description"] = told.meaning
    answer["headers"] = headers_of(told.headers + ON_EVERY_ANSWER)
    if told.leads_to:
        answer["links"] = {name: LINKS[name] for name in told.leads_to}
    if not told.body:
        answer.pop("content", None)
    elif JSON in answer["content"]:
        _add_examples(answer["content"][JSON], schemas)
    if STREAM in answer.get("content", {}):
        answer["content"][STREAM]["example"] = STREAM_EXAMPLE


def _add_examples(content: Document, schemas: Document) -> None:
    """Of each component that the body may be."""
    names = _schema_names(content["schema"])
    found = [one for name in names for one in _examples_of(name, schemas)]
    content["examples"] = {str(number): {"value": one} for number, one in enumerate(found, 1)}


def _examples_of(name: str, schemas: Document) -> list[Any]:
    """Its own, or ours; a page has one of those that it lists."""
    schema = schemas[name]
    if "example" in schema:
        return [schema["example"]]
    if found := schema.get("examples") or EXAMPLES.get(name):
        return list(found)
    data = schema["properties"]["data"]
    listed = _schema_names((data.get("anyOf") or [data])[-1]["items"])[0]
    rest = {"has_more": False, "next_cursor": None} if "has_more" in schema["properties"] else {}
    return [{"data": [_examples_of(listed, schemas)[0]]} | rest]


def _complete_problems(operation: Document) -> None:
    answers = operation["responses"]
    if JSON in answers.get("422", {}).get("content", {}):
        del answers["422"]  # the framework's own
    further: tuple[str, ...] = ALWAYS
    if operation.get("requestBody"):
        further += WITH_BODY
    for slug in further:
        add_problem(answers, str(TYPES[slug].status), slug)
    for status, answer in answers.items():
        if MEDIA_TYPE in answer.get("content", {}):
            names = ON_PROBLEMS.get(int(status), ())
            answer["headers"] = headers_of(names + ON_EVERY_ANSWER)


def _schema_names(schema: Document) -> list[str]:
    """The components that a body may be."""
    found = schema.get("anyOf", [schema])
    return [one["$ref"].removeprefix(SCHEMAS) for one in found if "$ref" in one]
