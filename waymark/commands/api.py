"""The API, as commands use it: a client whose errors are complaints."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from waymark.commands.options import DEFAULT_URL, URL_VARIABLE, Place
from waymark.complaints import Complaint, say
from waymark.documents import Documents
from waymark.errors import ApiError, NotFinished, Unreachable
from waymark.exchange import BUSY, Pause
from waymark.exit_codes import ExitCode

WORTH_TELLING = 2.0
"""Seconds."""


@contextmanager
def talk_to(url: str, place: Place) -> Iterator[Documents]:
    """``place`` is how the person got to that URL: hints repeat it."""
    try:
        client = Documents(url, pausing=_tell_pause)
    except (ImportError, OSError, ValueError) as error:
        raise Complaint(
            f"no connection can be made as the environment asks for it: {error}.",
            hint="look at HTTPS_PROXY, ALL_PROXY, SSL_CERT_FILE and SSL_CERT_DIR.",
            code=ExitCode.USAGE,
        ) from error
    try:
        with client:
            yield client
    except (ApiError, Unreachable, NotFinished) as error:
        raise _complaint(error, place) from error


@contextmanager
def one_task(key: str, repetition: str) -> Iterator[None]:
    """Around a submission: without a clear answer the task may exist, and its key finds it."""
    try:
        yield
    except KeyboardInterrupt:
        raise _unclear("interrupted.", ExitCode.INTERRUPTED, key, repetition) from None
    except Unreachable as error:
        if not error.heard:
            raise
        raise _unclear(str(error), ExitCode.UNREACHABLE, key, repetition) from error
    except ApiError as error:
        if error.status < 500:
            raise
        raise _unclear(str(error), _code(error), key, repetition) from error


def _unclear(what: str, code: ExitCode, key: str, repetition: str) -> Complaint:
    return Complaint(
        f"{what} The task may have been accepted, under the idempotency key {key}.",
        hint=f"find out with {repetition}: under this key it stays one task.",
        code=code,
    )


def _tell_pause(pause: Pause) -> None:
    """Nobody looks at a command that says nothing for long."""
    if pause.why and pause.seconds >= WORTH_TELLING:
        say(f"{pause.why} Asking again in {pause.seconds:.0f} s; Ctrl-C ends it.")


def _complaint(error: ApiError | Unreachable | NotFinished, place: Place) -> Complaint:
    """What an answer of the API, or none, means on the command line."""
    match error:
        case Unreachable():
            return Complaint(str(error), hint=_how_to_reach(place), code=ExitCode.UNREACHABLE)
        case NotFinished():
            watch = place.command("tasks", "watch", error.document["id"])
            hint = f"go on watching with {watch}."
            return Complaint(str(error), hint=hint, code=ExitCode.TIMED_OUT)
        case ApiError():
            return Complaint(_sentence(error), code=_code(error), document=error.document)


def _how_to_reach(place: Place) -> str:
    if place.url is not None:
        return f"is the URL right? {place.up()} starts a stack on {DEFAULT_URL}."
    return f"start one with {place.up()}, or name another with --url or {URL_VARIABLE}."


def _code(error: ApiError) -> ExitCode:
    if error.code == "idempotency-key-reused":
        return ExitCode.CONFLICT
    if not error.code and error.status not in BUSY:
        return ExitCode.UNEXPECTED  # of somebody else: what is not there is for Waymark to say
    match error.status:
        case 404 | 410:
            return ExitCode.NOT_FOUND
        case 409 | 412:
            return ExitCode.CONFLICT
        case 429 | 502 | 503 | 504:
            return ExitCode.UNREACHABLE
        case status if 400 <= status < 500:
            return ExitCode.USAGE
        case _:
            return ExitCode.UNEXPECTED


def _sentence(error: ApiError) -> str:
    fields = error.document.get("errors") or []
    if not fields:
        return str(error)
    lines = [f"  {one.get('pointer', '')}  {one.get('detail', '')}" for one in fields]
    return "\n".join([str(error.document.get("title", "the API refused")), *lines])
