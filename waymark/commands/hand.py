"""Who acts and why, and how an act is told to programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from waymark.complaints import Complaint
from waymark.exit_codes import ExitCode

if TYPE_CHECKING:
    from shared.operating import Document

ActorOption = Annotated[
    str | None,
    typer.Option("--actor", metavar="NAME", help="Who does it. Default: this user @ this host."),
]

JsonOption = Annotated[bool, typer.Option("--json", help="Print a JSON document.")]
ReasonOption = Annotated[
    str | None, typer.Option("--reason", metavar="TEXT", help="Why. It is recorded.")
]
YesOption = Annotated[
    bool, typer.Option("--yes", help="Do not ask, although a filter chooses them.")
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")
]


def why(reason: str | None) -> str:
    said = (reason or "").strip()
    if not said:
        raise Complaint(
            "say why with --reason TEXT.",
            hint="it is recorded with the act, for whoever asks later.",
            code=ExitCode.USAGE,
        )
    return said


def actor_or_me(actor: str | None) -> str:
    import getpass
    import os
    import socket

    if actor and actor.strip():
        return actor.strip()
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def print_json(document: Document) -> None:
    import json

    typer.echo(json.dumps(document, ensure_ascii=False, default=_as_text))


def _as_text(value: object) -> str:
    from datetime import UTC, datetime

    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return str(value)
