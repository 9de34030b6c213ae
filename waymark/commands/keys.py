"""The idempotency key under which a command makes a task: repeated, it makes no second one."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from waymark.complaints import Complaint
from waymark.exit_codes import ExitCode


def _idempotency_key(text: str | None) -> str | None:
    if text is None or re.fullmatch(r"[ -~]{1,255}", text):
        return text
    raise Complaint(
        "the idempotency key must be 1 to 255 printable ASCII characters.",
        hint="without --idempotency-key a new one is made.",
        code=ExitCode.USAGE,
    )


KeyOption = Annotated[
    str | None,
    typer.Option(
        "--idempotency-key",
        metavar="KEY",
        callback=_idempotency_key,
        help="Repeat it to get the same task, not a second one.",
    ),
]


@contextmanager
def under_key(key: str | None, command: str) -> Iterator[str]:
    """Gives the key, a new one if none was said. Without a clear answer of the API, the complaint
    repeats what was typed, with the key behind ``command``."""
    from uuid import uuid4

    from waymark.commands.api import one_task

    said: list[str] = []
    if key is None:
        key = str(uuid4())
        said = ["--idempotency-key", key]
    with one_task(key, repetition(command, *said)):
        yield key


def repetition(command: str, *further: str) -> str:
    """What was typed, with ``further`` words behind ``command``, in backquotes."""
    words = sys.argv[1:]
    after = words.index(command) + 1
    return f"`waymark {shlex.join([*words[:after], *further, *words[after:]])}`"
