"""A client for who prints what the API sends: its documents, as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Unpack

from waymark import calls, pages, waiting
from waymark.calls import TaskOptions
from waymark.connection import Connection
from waymark.errors import Document


class Documents(Connection):
    """As ``Client``, without its models: nothing is lost, and no member need be there."""

    def submit(
        self,
        request: Mapping[str, Any],
        idempotency_key: str | None = None,
        **options: Unpack[TaskOptions],
    ) -> Document:
        """Submit an input; the same key and request always give the same task."""
        return self.ask(calls.submit({"input": request}, options, idempotency_key), dict)

    def task(self, task_id: str) -> Document:
        return self.ask(calls.task(task_id), dict)

    def events(self, task_id: str, after: int = 0) -> list[Document]:
        """All with a higher ``seq``, over as many pages as there are."""
        return self.run(pages.all_events(task_id, after))

    def roadmap(self, roadmap_id: str) -> Document:
        return self.ask(calls.roadmap(roadmap_id), dict)

    def wait(
        self,
        task_id: str,
        *,
        timeout: float | None = None,
        seen: Callable[[Document], None] = lambda _task: None,
    ) -> Document:
        """The task once it has ended; ``seen`` gets it each time we look."""
        return self.run(waiting.wait(task_id, timeout, self.patience, seen))

    def watch(
        self,
        task_id: str,
        *,
        timeout: float | None = None,
        seen: Callable[[Document], None] = lambda _task: None,
    ) -> Iterator[Document]:
        """The events of a task as they come, until it has ended.

        ``seen`` gets a task after its events: whoever has seen it end has heard all.
        """
        return self.each(waiting.watch(task_id, timeout, self.patience, seen), dict)
