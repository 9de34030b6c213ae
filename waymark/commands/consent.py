"""A last question before something is done that cannot be undone."""

from __future__ import annotations

import sys

import typer

from waymark.complaints import Complaint, say
from waymark.exit_codes import ExitCode


def agreed(question: str, yes: bool) -> bool:
    """Whether it is meant. Where nobody can be asked, only ``yes`` means that it is."""
    if yes:
        return True
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise Complaint(
            "nobody can be asked here. Nothing was done.",
            hint="repeat the command with --yes to do it.",
            code=ExitCode.USAGE,
        )
    try:
        if typer.confirm(question, err=True):
            return True
    except typer.Abort:
        raise KeyboardInterrupt from None
    say("Nothing was done.")
    return False
