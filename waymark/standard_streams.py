"""Where a command reads and writes: shells may have closed it, and readers may leave."""

from __future__ import annotations

import io
import os
import sys

from waymark.exit_codes import ExitCode

NAMES = {"stdin": "r", "stdout": "w", "stderr": "w"}


def prepare_streams() -> None:
    """What was closed is as if it led nowhere; what its encoding does not have becomes a "?"."""
    for name, mode in NAMES.items():
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123 - for as long as we run
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def nobody_reads() -> int:
    """Ends what is written to who has left. What is still in store goes nowhere, so that the end
    of the program does not stumble over it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    return ExitCode.NOBODY_READS
