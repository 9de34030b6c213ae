"""The API, as commands use it: a client whose errors are complaints."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from waymark.client import ApiError, Client, NotFinished, Unreachable
from waymark.complaints import Complaint
from waymark.exit_codes import ExitCode


@contextmanager
def talk_to(url: str) -> Iterator[Client]:
    try:
        with Client(url) as client:
            yield client
    except (ApiError, Unreachable, NotFinished) as error:
        raise _complaint(error) from error


def _complaint(error: ApiError | Unreachable | NotFinished) -> Complaint:
    """What an answer of the API, or none, means on the command line."""
    match error:
        case Unreachable():
            return Complaint(
                str(error),
                hint="start one with `waymark up`, or name another with --url or WAYMARK_URL.",
                code=ExitCode.UNREACHABLE,
            )
        case NotFinished():
            return Complaint(
                str(error),
                hint=f"go on watching with `waymark tasks watch {error.task['id']}`.",
                code=ExitCode.TIMED_OUT,
            )
        case ApiError():
            return Complaint(_sentence(error), code=_code(error))


def _code(error: ApiError) -> ExitCode:
    if error.code == "idempotency-key-reused":
        return ExitCode.CONFLICT
    match error.status:
        case 404:
            return ExitCode.NOT_FOUND
        case 409 | 412:
            return ExitCode.CONFLICT
        case 502 | 503 | 504:
            return ExitCode.UNREACHABLE
        case status if 400 <= status < 500:
            return ExitCode.USAGE
        case _:
            return ExitCode.UNEXPECTED


def _sentence(error: ApiError) -> str:
    fields = error.problem.get("errors") or []
    if not fields:
        return str(error)
    lines = [f"  {one.get('pointer', '')}  {one.get('detail', '')}" for one in fields]
    return "\n".join([str(error.problem.get("title", "the API refused")), *lines])
