"""What a client of the API may have to deal with: a refusal, silence, a task that takes long."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # whoever prints documents does not wait for pydantic
    from shared.views import ProblemView
    from waymark.received import Task

Document = dict[str, Any]
"""What the API sent: the shapes are its own, see ``/openapi.json``."""


class Error(Exception):
    """Each error of a client. Its arguments are those it was made with, so it can be pickled."""


class ApiError(Error):
    """The API answered with a problem (RFC 9457); ``document`` is what it sent."""

    def __init__(self, document: Document, status: int, retry_after: float | None = None) -> None:
        super().__init__(document, status, retry_after)
        self.document = document
        self.status = status
        self.retry_after = retry_after
        """Seconds that the API asks for before the next try."""

    def __str__(self) -> str:
        told = self.document.get("detail") or self.document.get("title")
        return str(told or f"HTTP {self.status}")

    @property
    def code(self) -> str:
        """The last part of the problem's type, such as ``task-not-found``; empty if unknown."""
        return str(self.document.get("code", ""))

    @cached_property
    def problem(self) -> ProblemView:
        """What of it is no problem of Waymark is only in ``document``."""
        from pydantic import ValidationError

        from shared.views import ProblemView

        told = {name: value for name, value in self.document.items() if value is not None}
        least = {"type": "about:blank", "title": "", "detail": str(self), "status": self.status}
        try:
            return ProblemView.model_validate({"code": ""} | least | told)
        except ValidationError:
            return ProblemView.model_validate({"code": self.code} | least)


class NotFound(ApiError):
    """There is nothing under this id."""


class Deleted(NotFound):
    """There was something, and it was erased."""


class Conflict(ApiError):
    """The task, the key or the selection is not in the state that was expected."""


class ValidationFailed(ApiError):
    """The request breaks a rule; ``problem.errors`` names each field."""


class RateLimited(ApiError):
    """Too much at once; go on after ``retry_after`` seconds."""


class Unavailable(ApiError):
    """The API cannot serve now. Whether a request was carried out is not known."""


class Unreachable(Error):
    """Nobody answers there."""

    def __init__(self, url: str, reason: str = "", heard: bool = False) -> None:
        super().__init__(url, reason, heard)
        self.url = url
        self.reason = reason
        self.heard = heard
        """Whether the request may have got through, and only the answer is missing."""

    def __str__(self) -> str:
        return f"{self.url} does not answer" + (f" ({self.reason})" if self.reason else "") + "."


class NotFinished(Error):
    """The wait is over, the task is not; ``document`` is the task as it was seen last."""

    def __init__(self, document: Document, waited: float) -> None:
        super().__init__(document, waited)
        self.document = document
        self.waited = waited

    def __str__(self) -> str:
        task = self.document
        return f"task {task['id']} is still {task['status']} after {self.waited:g} s."

    @cached_property
    def task(self) -> Task:
        from waymark.received import Task

        return Task.of(self.document)


BY_CODE = {"idempotency-key-reused": Conflict}
BY_STATUS = {
    404: NotFound,
    409: Conflict,
    410: Deleted,
    412: Conflict,
    422: ValidationFailed,
    429: RateLimited,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}


def refusal(document: Document, status: int, retry_after: float | None = None) -> ApiError:
    """The error that fits: by the problem's code, else by the status."""
    kind = BY_CODE.get(str(document.get("code"))) or BY_STATUS.get(status, ApiError)
    return kind(document, status, retry_after=retry_after)
