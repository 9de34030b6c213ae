"""Errors over HTTP, all of one form: RFC 9457 ``application/problem+json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from asyncpg import InterfaceError, PostgresError
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.routing import iter_route_contexts
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from api_service.nearest import Shape, known_names, nearest
from shared.database import connection_lost, reason, retriable

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ProblemType:
    status: int
    title: str
    advice: str


TYPES = {
    "malformed-request": ProblemType(
        400, "The request cannot be read", "Send one well-formed JSON document in UTF-8."
    ),
    "invalid-header": ProblemType(
        400, "A header cannot be used", "Correct the header that `errors` names, or leave it out."
    ),
    "invalid-cursor": ProblemType(
        400,
        "The cursor is not one of ours",
        "Start again without a cursor; follow `next_cursor` or the Link header as they are.",
    ),
    "task-not-found": ProblemType(
        404, "No such task", "Check the id: it is in the answer to the submission."
    ),
    "roadmap-not-found": ProblemType(
        404, "No such roadmap", "Its id is in `result.roadmap_id` of a task that has succeeded."
    ),
    "dead-letter-not-found": ProblemType(
        404, "No such dead letter", "GET /v1/ops/dead-letters lists those that are open."
    ),
    "act-not-found": ProblemType(
        404, "No such act", "GET /v1/ops/audit lists all acts, the newest first."
    ),
    "process-not-found": ProblemType(
        404, "No such process", "GET /v1/ops/workers and /v1/ops/relays list those that live."
    ),
    "not-found": ProblemType(404, "Nothing at this address", "/openapi.json lists all addresses."),
    "method-not-allowed": ProblemType(
        405, "The method does not fit the address", "The Allow header names those that do."
    ),
    "task-already-ended": ProblemType(
        409, "The task has ended already", "An ended task never changes; submit a new one."
    ),
    "idempotency-in-progress": ProblemType(
        409,
        "Another request holds the idempotency key",
        "Repeat after `Retry-After` seconds with the same key and body.",
    ),
    "task-not-ended": ProblemType(
        409,
        "The task has not ended",
        "Wait until it has, or cancel it first with POST to its `/cancel`.",
    ),
    "selection-changed": ProblemType(
        409,
        "The selection is not what was previewed",
        "Preview it again with `dry_run`, look at it, and act with the new token.",
    ),
    "nothing-to-do": ProblemType(
        409, "Nothing can be done here", "Look at it again; what is decided stays so."
    ),
    "task-deleted": ProblemType(
        410, "The task was deleted", "Its input and result are gone for good; submit a new one."
    ),
    "precondition-failed": ProblemType(
        412,
        "The task has changed meanwhile",
        "Read it again and decide anew, with the ETag of that answer in If-Match.",
    ),
    "body-too-large": ProblemType(
        413, "The body is too large", "Send less: a task needs few kilobytes; split a batch."
    ),
    "unsupported-media-type": ProblemType(
        415, "The body is not JSON", "Send Content-Type: application/json."
    ),
    "validation-failed": ProblemType(
        422, "The request breaks a rule", "Correct each field named in `errors` and send it again."
    ),
    "idempotency-key-reused": ProblemType(
        422,
        "The idempotency key belongs to another request",
        "Use a new key for a new request; repeat a key only with the very same body.",
    ),
    "batch-rejected": ProblemType(
        422,
        "Nothing of the batch was accepted",
        "Correct each submission named in `errors`, or send `atomic: false` to have the others.",
    ),
    "header-too-large": ProblemType(
        431, "The head of the request is too large", "Send fewer and shorter headers."
    ),
    "request-timeout": ProblemType(
        408, "The request took too long to arrive", "Send it again, all at once."
    ),
    "rate-limited": ProblemType(
        429, "Too many requests", "Go on after `Retry-After` seconds; RateLimit says what is left."
    ),
    "too-many-streams": ProblemType(
        429, "Too many open streams", "Close one of them first, or read the events page by page."
    ),
    "internal-error": ProblemType(
        500,
        "Something broke on our side",
        "Repeat the request with the same Idempotency-Key; nothing is done twice.",
    ),
    "database-unavailable": ProblemType(
        503,
        "The database does not answer",
        "Repeat after `Retry-After` seconds with the same Idempotency-Key.",
    ),
    "intake-paused": ProblemType(
        503,
        "No tasks are accepted for now",
        "An operator has paused the intake; repeat after `Retry-After` seconds with the same "
        "Idempotency-Key.",
    ),
    "overloaded": ProblemType(
        503,
        "Too much is asked at once",
        "Nothing was done. Repeat after `Retry-After` seconds with the same Idempotency-Key.",
    ),
    "planner-unavailable": ProblemType(
        503,
        "The estimate cannot be made now",
        "Repeat after `Retry-After` seconds, or submit without it.",
    ),
    "not-ready": ProblemType(
        503, "This process cannot serve yet", "Route requests to another one and look again."
    ),
}

BY_STATUS = {
    404: "not-found",
    405: "method-not-allowed",
    408: "request-timeout",
    413: "body-too-large",
}


MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """Raise it anywhere below a route; the handler makes the answer."""

    def __init__(
        self,
        slug: str,
        detail: str,
        *,
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.slug = slug
        self.detail = detail
        self.errors = errors
        self.headers = headers


def document_of(problem: Problem) -> dict[str, Any]:
    kind = TYPES[problem.slug]
    body: dict[str, Any] = {
        "type": f"/problems/{problem.slug}",
        "title": kind.title,
        "status": kind.status,
        "detail": f"{problem.detail} {kind.advice}",
        "code": problem.slug,
    }
    if request_id := structlog.contextvars.get_contextvars().get("request_id"):
        body["request_id"] = request_id
    if problem.errors:
        body["errors"] = problem.errors
    return body


def answer(problem: Problem) -> Response:
    kind, body = TYPES[problem.slug], document_of(problem)
    headers = dict(problem.headers or {})
    if kind.status == 503:
        headers.setdefault("Retry-After", "1")
    return JSONResponse(body, status_code=kind.status, headers=headers, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Give every error of the application and of the framework the one form."""

    @app.exception_handler(Problem)
    async def _ours(_request: Request, problem: Problem) -> Response:
        return answer(problem)

    @app.exception_handler(HTTPException)
    async def _framework(request: Request, error: HTTPException) -> Response:
        slug = BY_STATUS.get(error.status_code, "malformed-request")
        headers = _allowing(request) if error.status_code == 405 else error.headers
        return answer(Problem(slug, _sentence(request, error), headers=headers))

    @app.exception_handler(RequestValidationError)
    async def _validation(request: Request, error: RequestValidationError) -> Response:
        kind = request.headers.get("content-type", "")
        if isinstance(error.body, bytes):  # the framework did not take it for JSON
            return answer(Problem("unsupported-media-type", f"Content-Type is {kind or 'absent'}."))
        return answer(from_validation(error.errors(), request))

    # What PostgreSQL, the network or the pool may say while a connection is had or used.
    for lost in (DBAPIError, PoolTimeout, OSError, PostgresError, InterfaceError):
        app.add_exception_handler(lost, _database)


async def _database(_request: Request, error: Exception) -> Response:
    if connection_lost(error) or retriable(error):
        log.warning("database_unavailable", error=reason(error))
        return answer(
            Problem("database-unavailable", "Whether the request was carried out is not known.")
        )
    raise error


def _allowing(request: Request) -> dict[str, str]:
    """All methods of the address: the framework names those of one of its routes."""
    found: set[str] = set()
    for route in iter_route_contexts(request.app.routes):
        if route.path and compile_path(route.path)[0].match(request.url.path):
            found |= route.methods or set()
    if "GET" in found:
        found.add("HEAD")  # see frame.py
    return {"Allow": ", ".join(sorted(found))}


def _sentence(request: Request, error: HTTPException) -> str:
    match error.status_code:
        case 404:
            return f"{request.url.path} is not an address of this API."
        case 405:
            return f"{request.method} is not offered at {request.url.path}."
        case _:
            return f"{error.detail}."


def from_validation(found: Sequence[Any], shape: Shape | None = None) -> Problem:
    """What pydantic found, as one problem. Any: its details are loosely typed.

    ``shape``: what an unknown field of it is nearest to is named.
    """
    if any(one["type"] == "json_invalid" for one in found):
        where = found[0]["loc"][-1]
        return Problem("malformed-request", f"The body is not JSON from character {where} on.")
    errors = [
        {"pointer": _pointer(one["loc"]), "detail": _what(one) + _meant(one, shape)}
        for one in found
    ]
    listed = "; ".join(f"{one['pointer'] or 'The body'} {one['detail']}" for one in errors[:5])
    return Problem("validation-failed", f"{listed}.", errors=errors)


def _pointer(location: Sequence[str | int]) -> str:
    """A JSON pointer into the body (RFC 6901); other places are named first, e.g. /header/…."""
    parts = location[1:] if location and location[0] == "body" else location
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in parts)


def _meant(error: Mapping[str, Any], shape: Shape | None) -> str:
    if shape is None or error["type"] != "extra_forbidden":
        return ""
    meant = nearest(str(error["loc"][-1]), known_names(shape, error["loc"]))
    return f" (did you mean {meant}?)" if meant else ""


def _what(error: Mapping[str, Any]) -> str:
    match error["type"]:
        case "extra_forbidden":
            return "is not a known field"
        case "missing":
            return "is required"
        case "value_error":
            return str(error["ctx"]["error"])
        case "model_attributes_type" | "dict_type":
            return "must be a JSON object"
        case "tuple_type":
            return "must be a JSON array"
        case "string_unicode":
            return "must not contain half of a surrogate pair"
        case _:
            message = str(error["msg"])
            return message[:1].lower() + message[1:]
