"""The API as a command asks it: where it was told to look, and answers printed as they came."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import typer

from waymark.commands.options import Place

if TYPE_CHECKING:
    from waymark.documents import Documents
    from waymark.errors import Document
    from waymark.exchange import Answer, Call


def api(place: Place) -> AbstractContextManager[Documents]:
    from waymark.commands.api import talk_to

    return talk_to(place.find_url(), place)


def ask(
    place: Place,
    method: str,
    path: str,
    *,
    params: Mapping[str, Any] | None = None,
    body: Any = None,  # Any: whatever JSON can hold
    repeatable: bool = False,
) -> Answer:
    """One question. ``repeatable``: asked twice, it does no more than once."""
    from waymark.exchange import Call

    said = {name: value for name, value in (params or {}).items() if value is not None}
    with api(place) as client:
        return answer_to(client, Call(method, path, said, body, repeatable=repeatable))


def answer_to(client: Documents, call: Call) -> Answer:
    """Raises ApiError, also for an answer that is no document."""
    from waymark.exchange import exchange

    answer = client.run(exchange(call))
    _ = answer.document
    return answer


def print_answer(answer: Answer) -> None:
    """Byte for byte."""
    typer.echo(answer.body)


def print_line(document: Document) -> None:
    """One of many, in the form of the API: a line of its own."""
    typer.echo(json.dumps(document, ensure_ascii=False, separators=(",", ":")))
