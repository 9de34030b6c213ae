"""``waymark api``: any request to the API, its answer as it is."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from waymark.commands.asking import api
from waymark.commands.keys import repetition
from waymark.commands.options import DEFAULT_DATA_DIR, DataDirOption, Place, UrlOption
from waymark.commands.plain import Command
from waymark.complaints import Complaint
from waymark.exit_codes import ExitCode

if TYPE_CHECKING:
    from waymark.documents import Documents
    from waymark.exchange import Answer, Call

MAKES_TASKS = re.compile(r"^/v1/tasks(:batch|/[^/]+/retry)?$")

Fields = list[tuple[str, Any]]
"""Any: whatever JSON can hold."""


class RawCommand(Command):
    tells_documents = True


def raw_api(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="GET, POST, DELETE, …")],
    path: Annotated[str, typer.Argument(metavar="PATH", help="Such as /v1/tasks.")],
    fields: Annotated[
        list[str] | None,
        typer.Option(
            *("-f", "--field"),
            metavar="KEY=VALUE",
            help="Of the query for GET and DELETE, else of the body. input[goal]=SQL is a member "
            "of a member; true, 5 and [1] are JSON.",
        ),
    ] = None,
    headers: Annotated[
        list[str] | None, typer.Option("-H", "--header", metavar="NAME:VALUE", help="A header.")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option("--input", metavar="FILE", help="The body, as JSON; - reads it from stdin."),
    ] = None,
    paginate: Annotated[
        bool, typer.Option("--paginate", help="All pages, one after the other.")
    ] = False,
    include: Annotated[
        bool, typer.Option("-i", "--include", help="Status and headers before each answer.")
    ] = False,
    url: UrlOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Ask the API anything. A problem goes to stderr, and the exit code tells its kind."""
    said = _headers(headers)
    call = _call(method.upper(), path, _fields(fields), said, source)
    with api(Place(url, data_dir)) as client, _one_task(call, said):
        for answer in _answers(client, call, paginate):
            _print(answer, include)


def _call(
    method: str, path: str, fields: Fields, headers: dict[str, str], source: str | None
) -> Call:
    from urllib.parse import urlencode

    from waymark.exchange import Call

    if not path.startswith("/"):
        path = f"/{path}"
    if method in ("GET", "HEAD", "DELETE"):
        _refuse(source is not None, f"{method} has no body: --input is for POST.")
        query = urlencode([(name, _text(value)) for name, value in fields])
        onward = ("&" if "?" in path else "?") if query else ""
        return Call(method, f"{path}{onward}{query}", {}, None, headers)
    _refuse(source is not None and bool(fields), "--input is the whole body: leave -f out.")
    return Call(method, path, {}, _nested(fields) if source is None else _read(source), headers)


@contextmanager
def _one_task(call: Call, headers: dict[str, str]) -> Iterator[None]:
    """A request that makes a task gets a key, by which it is found if no answer comes."""
    from uuid import uuid4

    from waymark.commands.api import one_task

    if call.method != "POST" or not MAKES_TASKS.search(call.path):
        yield
        return
    name = "Idempotency-Key"
    key = {name.lower(): value for name, value in headers.items()}.get(name.lower())
    said: list[str] = []
    if key is None:
        key = headers[name] = str(uuid4())
        said = ["-H", f"{name}:{key}"]
    with one_task(key, repetition("api", *said)):
        yield


def _answers(client: Documents, call: Call, paginate: bool) -> Iterator[Answer]:
    from dataclasses import replace

    from waymark.exchange import exchange

    answer = client.run(exchange(call))
    yield answer
    while paginate and (onward := _next(answer)):
        answer = client.run(exchange(replace(call, path=onward, params={})))
        yield answer


def _next(answer: Answer) -> str | None:
    """Where the next page is, by the header that all lists have (RFC 8288)."""
    found = re.search(r'<(/[^>]*)>; rel="next"', answer.headers.get("link", ""))
    return found and found[1]


def _print(answer: Answer, include: bool) -> None:
    if include:
        typer.echo(f"HTTP {answer.status}")
        for name, value in answer.headers.items():
            typer.echo(f"{name}: {value}")
        typer.echo()
    if answer.body:
        typer.echo(answer.body)


def _fields(pairs: list[str] | None) -> Fields:
    fields = []
    for pair in pairs or ():
        name, sign, value = pair.partition("=")
        _refuse(not name or not sign, f"“{pair}” is no field: it looks like limit=5.")
        fields.append((name, _value(value)))
    return fields


def _value(text: str) -> Any:  # Any: whatever JSON can hold
    try:
        return json.loads(text, parse_constant=_no_number)
    except ValueError:
        return text


def _no_number(text: str) -> None:
    """NaN and Infinity are none in JSON (RFC 8259)."""
    raise ValueError(text)


def _text(value: Any) -> str:  # Any: as above
    return value if isinstance(value, str) else json.dumps(value)


def _nested(fields: Fields) -> dict[str, Any] | None:
    """``input[goal]`` is the member ``goal`` of the member ``input``."""
    body: dict[str, Any] = {}
    for name, value in fields:
        *way, last = [name.partition("[")[0], *re.findall(r"\[([^]]*)\]", name)]
        place = body
        for step in way:
            place = place.setdefault(step, {})
            _refuse(not isinstance(place, dict), f"“{name}”: {step} has a value already.")
        place[last] = value
    return body if fields else None


def _headers(pairs: list[str] | None) -> dict[str, str]:
    headers = {}
    for pair in pairs or ():
        name, sign, value = pair.partition(":")
        _refuse(not name or not sign, f"“{pair}” is no header: it looks like Prefer:wait=5.")
        name, value = name.strip(), value.strip()
        _refuse(not f"{name}{value}".isascii(), f"“{pair}” is no header: it is not ASCII.")
        _refuse(
            name.lower() == "accept" and "event-stream" in value,
            "a stream has no end: `waymark tasks watch ID` follows one.",
        )
        headers[name] = value
    return headers


def _read(source: str) -> Any:  # Any: as above
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8")
        return json.loads(text)
    except OSError as error:
        reason = error.strerror or "it cannot be read"
    except ValueError as error:
        reason = f"it is not JSON: {error}"
    raise Complaint(f"{source}: {reason}.", code=ExitCode.USAGE)


def _refuse(wrong: bool, sentence: str) -> None:
    if wrong:
        raise Complaint(sentence, code=ExitCode.USAGE)
