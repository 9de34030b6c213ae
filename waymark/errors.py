"""What a client of the API may have to deal with: a refusal, silence, a task that takes long."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # whoever prints documents does not wait for pydantic
    from shared.views import ProblemView
    from waymark.received import Task

Document = dict[str, Any]
"""What the API sent: the shapes are its own, see ``/openapi.json``."""


class ApiError(Exception):
    """The API answered with a problem (RFC 9457); ``document`` is what it sent."""

    def __init__(
        self, document: Document, status: int, *, retry_after: float | None = None
    ) -> None:
        super().__init__(document.get("detail") or document.get("title") or f"HTTP {status}")
        self.document = document
        self.status = status
        self.retry_after = retry_after
        """Seconds that the API asks for before the next try."""

    @property
    def code(self) -> str:
        """The last part of the problem's type, such as ``task-not-found``; empty if unknown."""
        return str(self.document.get("code", ""))

    @cached_property
    def problem(self) -> ProblemView:
        from shared.views import ProblemView

        told = {name: value for name, value in self.document.items() if value is not None}
        absent = {"type": "about:blank", "title": "", "detail": str(self), "code": ""}
        return ProblemView.model_validate(absent | {"status": self.status} | told)


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


class Unreachable(Exception):
    """Nobody answers there."""

    def __init__(self, url: str, reason: str = "", *, heard: bool = False) -> None:
        super().__init__(f"{url} does not answer" + (f" ({reason})" if reason else "") + ".")
        self.url = url
        self.heard = heard
        """Whether the request may have got through, and only the answer is missing."""


class NotFinished(Exception):
    """The wait is over, the task is not; ``document`` is the task as it was seen last."""

    def __init__(self, document: Document, waited: float) -> None:
        told = f"task {document['id']} is still {document['status']} after {waited:g} s."
        super().__init__(told)
        self.document = document

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
