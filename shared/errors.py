"""Errors of a task in two families: Transient is worth another attempt, Permanent is not."""

from __future__ import annotations

from typing import Any


class WaymarkError(Exception):
    """Root of every error we raise ourselves; its text is a sentence for people."""


class StartupError(WaymarkError):
    """A process cannot start; it prints this sentence and exits with 1."""


class TaskError(WaymarkError):
    """A generation went wrong. ``code`` and ``detail`` are public; a cause is only logged."""

    retryable: bool
    code: str

    def __init__(self, detail: str, *, code: str | None = None, **extra: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or self.code
        self.extra = extra

    def as_dict(self) -> dict[str, Any]:
        """The shape stored in ``tasks.error`` and shown by the API."""
        return {"code": self.code, "detail": self.detail, "retryable": self.retryable, **self.extra}


class Transient(TaskError):
    """Worth another attempt: the world may have changed by then.

    ``retry_after``: seconds that somebody asked us to wait. Not ``charged``: it says nothing about
    the work, only that it came at a bad moment, so it costs neither an attempt nor a try.
    """

    retryable = True
    code = "temporarily_unavailable"

    def __init__(
        self,
        detail: str,
        *,
        code: str | None = None,
        retry_after: float | None = None,
        charged: bool = True,
        **extra: Any,
    ) -> None:
        super().__init__(detail, code=code, **extra)
        self.retry_after = retry_after
        self.charged = charged


class Permanent(TaskError):
    """The same input would fail again: the task ends as failed, at once."""

    retryable = False
    code = "generation_failed"


class DeadlineExceeded(Permanent):
    """The task's own deadline has passed. The sweeper says the same of tasks that do not run."""

    code = "deadline_exceeded"

    def __init__(self) -> None:
        super().__init__(
            "The task was not done by its deadline. Submit it again with a later one, or none."
        )


class GoalNotCovered(Permanent):
    """The catalog has no plan for the goal; ``nearest`` names goals it does cover."""

    code = "goal_not_covered"

    def __init__(
        self, goal: str, nearest: list[str], *, reason: str = "", detail: str | None = None
    ) -> None:
        """``reason`` is a sentence; ``detail`` says all of it in another language."""
        listed = ", ".join(nearest)
        why = f" {reason}" if reason else ""
        super().__init__(
            detail
            or f"No roadmap covers “{goal}”.{why} The nearest goals that are covered: {listed}. "
            "Submit a new task with one of them.",
            nearest=nearest,
        )
        self.nearest = nearest
