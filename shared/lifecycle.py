"""The life of a task: its states, the moves between them, and the open, finer view for people."""

from __future__ import annotations

from enum import IntEnum, StrEnum


class TaskStatus(StrEnum):
    """Closed: a client may rely on these five."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def terminal(self) -> bool:
        return not ALLOWED[self]


class Stage(StrEnum):
    """Open: a client must tolerate values it does not know."""

    ACCEPTED = "accepted"
    DISPATCHED = "dispatched"
    GENERATING = "generating"
    VALIDATING = "validating"
    STORING = "storing"
    RETRY_WAIT = "retry_wait"
    DONE = "done"


class Priority(IntEnum):
    """The smaller number goes first, so that one ascending index serves the claim."""

    HIGH = 1
    NORMAL = 2
    LOW = 3


ALLOWED: dict[TaskStatus, frozenset[TaskStatus]] = {
    TaskStatus.QUEUED: frozenset({TaskStatus.RUNNING, TaskStatus.FAILED, TaskStatus.CANCELED}),
    TaskStatus.RUNNING: frozenset(
        {TaskStatus.QUEUED, TaskStatus.SUCCEEDED, TaskStatus.FAILED, TaskStatus.CANCELED}
    ),
    TaskStatus.SUCCEEDED: frozenset(),
    TaskStatus.FAILED: frozenset(),
    TaskStatus.CANCELED: frozenset(),
}
"""What may follow what. The trigger ``tasks_lifecycle`` in the database holds the same table."""
