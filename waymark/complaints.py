"""Errors on their way to a person: one line that says what is wrong, one that says what to do."""

from __future__ import annotations

import sys

from waymark.exit_codes import ExitCode
from waymark.program import runnable


class Complaint(Exception):
    """Ends the command with a sentence, a hint and an exit code."""

    def __init__(
        self, message: str, *, hint: str = "", code: ExitCode = ExitCode.UNEXPECTED
    ) -> None:
        super().__init__(message)
        self.hint = hint
        self.code = code


def complain(complaint: Complaint) -> ExitCode:
    say(f"waymark: {complaint}")
    if complaint.hint:
        say(f"hint: {complaint.hint}")
    return complaint.code


def say(text: str) -> None:
    """Tell a person something on stderr; stdout is for data."""
    sys.stderr.write(f"{runnable(text)}\n")
