"""What the command line returns: scripts rely on it."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    OK = 0
    UNEXPECTED = 1
    USAGE = 2
    TASK_FAILED = 3
    NOT_FOUND = 5
    TIMED_OUT = 6
    UNREACHABLE = 7
    CONFLICT = 8
    UNHEALTHY = 9
    INTERRUPTED = 130
    NOBODY_READS = 141


EXIT_CODES = {
    ExitCode.OK: "done",
    ExitCode.UNEXPECTED: "unexpected error, or a process cannot start",
    ExitCode.USAGE: "wrong usage, or the API refuses the input",
    ExitCode.TASK_FAILED: "the awaited task failed or was canceled, or no plan can be made",
    ExitCode.NOT_FOUND: "no such task, roadmap, dead letter, …; or it was deleted",
    ExitCode.TIMED_OUT: "waited long enough; the task goes on",
    ExitCode.UNREACHABLE: "the server does not answer, or asks to come back later",
    ExitCode.CONFLICT: "conflict: a reused key, an ended task, a changed selection",
    ExitCode.UNHEALTHY: "unhealthy: a message waits longer than --max-lag",
    ExitCode.INTERRUPTED: "Ctrl-C; a task that was submitted goes on",
    ExitCode.NOBODY_READS: "who read the output has left, as `head` does",
}
"""4 (credentials) is kept free for what it means elsewhere."""
