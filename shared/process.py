"""What every process does at its edges: say that it is ready, and say why it cannot start."""

from __future__ import annotations

import os
import sys

from shared.settings import Settings


def announce_ready(settings: Settings) -> None:
    """Tell the supervisor, if there is one, that this role can do its work now."""
    if settings.ready_fd is not None:
        os.write(settings.ready_fd, b"ready\n")
        os.close(settings.ready_fd)


def refuse_to_start(reason: Exception) -> int:
    """One clear line on stderr instead of a traceback; returns the exit code."""
    sys.stderr.write(f"waymark: cannot start: {reason}\n")
    return 1
