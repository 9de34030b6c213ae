"""Errors on their way to a person: one line that says what is wrong, one that says what to do."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from waymark.exit_codes import ExitCode
from waymark.program import runnable


class Complaint(Exception):
    """Ends the command with a sentence, a hint and an exit code."""

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        code: ExitCode = ExitCode.UNEXPECTED,
        document: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.hint = hint
        self.code = code
        self.document = document
        """What a program reads in place of the sentence: the problem that the API sent."""


def complain(complaint: Complaint) -> ExitCode:
    if complaint.document is not None:
        told = json.dumps(complaint.document, ensure_ascii=False, separators=(",", ":"))
        sys.stderr.write(f"{told}\n")
        return complaint.code
    say(f"waymark: {complaint}")
    if complaint.hint:
        say(f"hint: {complaint.hint}")
    return complaint.code


def say(text: str) -> None:
    """Tell a person something on stderr; stdout is for data."""
    sys.stderr.write(f"{runnable(text)}\n")
