"""A thin, synchronous client of Waymark's HTTP API."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self
from urllib.parse import quote, urlsplit
from uuid import uuid4

import httpx2

from shared.backoff import exponential

Document = dict[str, Any]
"""What the API sent: the shapes are its own, see ``/openapi.json``."""

Look = tuple[Document, list[Document]]
"""A task, and the events that came since the look before."""

TRIES = 5
ENDED = ("succeeded", "failed", "canceled")
POLL_FIRST, POLL_LAST = 0.1, 1.0
POLL_RUNNING = 0.5
"""While it runs, people watch its stages come; before that only the wait gets longer."""
ANSWER_LOST = (
    httpx2.ReadError,
    httpx2.ReadTimeout,
    httpx2.RemoteProtocolError,
    httpx2.WriteError,
    httpx2.WriteTimeout,
)
"""Errors on an open connection: the server may have got the request. Others come before that."""
SILENCE = 30.0
"""While a task is awaited, the API may restart: only a silence this long is an error."""


class ApiError(Exception):
    """The API answered with a problem (RFC 9457)."""

    def __init__(self, problem: Document, status: int) -> None:
        super().__init__(problem.get("detail") or problem.get("title") or f"HTTP {status}")
        self.problem = problem
        self.status = status

    @property
    def code(self) -> str:
        return str(self.problem.get("code", ""))


class Unreachable(Exception):
    """Nobody answers there."""

    def __init__(self, url: str, reason: str = "", *, heard: bool = False) -> None:
        super().__init__(f"{url} does not answer" + (f" ({reason})" if reason else "") + ".")
        self.url = url
        self.heard = heard
        """Whether the request may have got through, and only the answer is missing."""


class NotFinished(Exception):
    """The wait is over, the task is not."""

    def __init__(self, task: Document, waited: float) -> None:
        super().__init__(f"task {task['id']} is still {task['status']} after {waited:g} s.")
        self.task = task


class Client:
    """Every request may be repeated: reads by nature, a submission by its idempotency key."""

    def __init__(self, url: str, *, timeout: float = 10) -> None:
        self.url = url.rstrip("/")
        local = urlsplit(url).hostname in ("127.0.0.1", "::1", "localhost")
        self._http = httpx2.Client(
            base_url=self.url,
            timeout=timeout,
            trust_env=not local,  # a proxy from the environment cannot know this machine's ports
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def submit(
        self,
        request: Mapping[str, Any],
        idempotency_key: str | None = None,
        *,
        deadline_seconds: int | None = None,
    ) -> Document:
        """Submit a goal; the same key and body always give the same task."""
        body: Document = {"input": dict(request)}
        if deadline_seconds is not None:
            body["deadline_seconds"] = deadline_seconds
        return self._call(
            "POST",
            "/v1/tasks",
            json=body,
            headers={"Idempotency-Key": idempotency_key or str(uuid4())},
        )

    def task(self, task_id: str) -> Document:
        return self._call("GET", _path(task_id))

    def cancel(self, task_id: str) -> Document:
        """The task, canceled; or still running, then its worker lets go of it soon.

        Raises ApiError, ``task-already-ended`` if it ended in another way.
        """
        return self._call("POST", f"{_path(task_id)}/cancel")

    def events(self, task_id: str, after: int = 0) -> list[Document]:
        """All events with a higher ``seq``, over as many pages as there are."""
        found: list[Document] = []
        while True:
            page = self._call("GET", f"{_path(task_id)}/events", params={"after": after})
            found += page["data"]
            if not page["has_more"] or not page["data"]:
                return found
            after = page["data"][-1]["seq"]

    def roadmap(self, roadmap_id: str) -> Document:
        return self._call("GET", f"/v1/roadmaps/{quote(roadmap_id, safe='')}")

    def wait(
        self,
        task_id: str,
        *,
        timeout: float | None = None,
        seen: Callable[[Document], None] = lambda _task: None,
    ) -> Document:
        """The task once it has ended; ``seen`` gets it each time we look."""
        task: Document = {}
        for task, _ in self._looks(lambda: (self.task(task_id), []), timeout):
            seen(task)
        return task

    def watch(
        self,
        task_id: str,
        *,
        timeout: float | None = None,
        seen: Callable[[Document], None] = lambda _task: None,
    ) -> Iterator[Document]:
        """The events of a task as they come, until it has ended; ``seen`` as in ``wait``.

        ``seen`` gets a task after its events: whoever has seen it end has heard all.
        """
        last = 0

        def look() -> Look:
            task = self.task(task_id)
            return task, self.events(task_id, after=last) if task["version"] != last else []

        for task, events in self._looks(look, timeout):
            for event in events:
                last = event["seq"]
                yield event
            seen(task)

    def _looks(self, look: Callable[[], Look], timeout: float | None) -> Iterator[Look]:
        """One look after the other, slower with time; the last one finds the task ended."""
        begun = heard = time.monotonic()
        pause = POLL_FIRST
        task: Document | None = None
        while True:
            try:
                task, events = look()
            except (Unreachable, ApiError) as error:
                lasting = isinstance(error, ApiError) and error.status < 500
                if task is None or lasting or time.monotonic() - heard > SILENCE:
                    raise
            else:
                heard = time.monotonic()
                yield task, events
                if task["status"] in ENDED:
                    return
            if timeout is not None and time.monotonic() - begun > timeout:
                raise NotFinished(task, timeout)
            time.sleep(pause)
            pause = min(pause * 1.2, POLL_RUNNING if task["status"] == "running" else POLL_LAST)

    def _call(self, method: str, path: str, **how: Any) -> Document:
        """Any: httpx2's own keyword arguments."""
        heard = False
        for tries in range(1, TRIES + 1):
            try:
                response = self._http.request(method, path, **how)
            except (httpx2.TransportError, httpx2.InvalidURL) as error:
                heard = heard or isinstance(error, ANSWER_LOST)
                if tries == TRIES or not isinstance(
                    error,
                    httpx2.NetworkError | httpx2.TimeoutException | httpx2.RemoteProtocolError,
                ):
                    raise Unreachable(self.url, str(error), heard=heard) from error
            else:
                heard = True
                if response.status_code not in (502, 503, 504) or tries == TRIES:
                    return _document(response)
            time.sleep(exponential(tries, 0.1, 2, random.random()))  # noqa: S311 - jitter
        raise AssertionError("unreachable")


def _path(task_id: str) -> str:
    return f"/v1/tasks/{quote(task_id, safe='')}"


def _document(response: httpx2.Response) -> Document:
    try:
        document = response.json()
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise ApiError(
            {
                "title": "Not an answer of Waymark",
                "detail": f"{response.url} answered {response.status_code}, but not as Waymark "
                "does: is the URL right?",
            },
            response.status_code if response.is_error else 502,
        )
    if response.is_error:
        raise ApiError(document, response.status_code)
    return document
