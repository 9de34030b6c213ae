"""Errors on their way to a person: one line that says what is wrong, one that says what to do."""

from __future__ import annotations

import sys

from waymark.exit_codes import ExitCode


class Complaint(Exception):
    """Ends the command with a sentence, a hint and an exit code."""

    def __init__(
        self, message: str, *, hint: str = "", code: ExitCode = ExitCode.UNEXPECTED
    ) -> None:
        super().__init__(message)
        self.hint = hint
        self.code = code


def complain(complaint: Complaint) -> ExitCode:
    """Print it on stderr; stdout is for data."""
    sys.stderr.write(f"waymark: {complaint}\n")
    if complaint.hint:
        sys.stderr.write(f"hint: {complaint.hint}\n")
    return complaint.code
