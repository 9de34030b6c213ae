"""Options that say how a task is to be run, and by which it is found again."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from waymark.complaints import Complaint
from waymark.exit_codes import ExitCode

PriorityName = Literal["high", "normal", "low"]
PriorityOption = Annotated[
    PriorityName | None,
    typer.Option("--priority", metavar="PRIORITY", help="high, normal or low. Default: normal."),
]
MetadataOption = Annotated[
    list[str] | None,
    typer.Option("--metadata", metavar="KEY=VALUE", help="A note of your own. May be repeated."),
]
NotBeforeOption = Annotated[
    str | None,
    typer.Option(
        "--not-before",
        metavar="TIME",
        help="Begin no earlier: 2h from now, or 2026-11-23T10:00Z.",
    ),
]


def metadata_of(pairs: list[str] | None) -> dict[str, str] | None:
    """None if there are none."""
    found: dict[str, str] = {}
    for pair in pairs or ():
        key, sign, value = pair.partition("=")
        if not key or not sign:
            raise Complaint(
                f"“{pair}” is not metadata.",
                hint="it looks like customer=42.",
                code=ExitCode.USAGE,
            )
        if key in found:
            raise Complaint(
                f"“{key}” has two values.", hint="give each key once.", code=ExitCode.USAGE
            )
        found[key] = value
    return found or None
