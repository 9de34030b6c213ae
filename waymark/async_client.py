"""The client of Waymark's HTTP API, for Python that awaits. The same without: client.py."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from typing import Any, Unpack

from waymark import calls, pages, streaming, waiting
from waymark.async_connection import AsyncConnection
from waymark.calls import Id, ListOptions, RunOptions, Submission, TaskOptions
from waymark.errors import Deleted
from waymark.received import Attempt, Batch, Event, StoredRoadmap, Task, Validated


class AsyncClient(AsyncConnection):
    """Every method raises ApiError if the API refuses, and Unreachable if it does not answer, after
    as many tries as make sense: each submission has a key, so that no repetition runs twice."""

    async def submit(
        self,
        goal: Submission,
        *,
        idempotency_key: str | None = None,
        wait: float | None = None,
        **options: Unpack[TaskOptions],
    ) -> Task:
        """The accepted task: it will end. The same key and request always give the same task.

        ``wait``: seconds, up to 60, for which the answer may be held until the task has ended.
        """
        return await self.ask(calls.submit(goal, options, idempotency_key, wait), Task.of)

    async def submit_many(
        self,
        submissions: Iterable[Submission],
        *,
        atomic: bool = True,
        idempotency_key: str | None = None,
    ) -> Batch:
        """Up to 100 in one transaction: all or, unless ``atomic``, those that break no rule."""
        call = calls.submit_many(submissions, atomic=atomic, key=idempotency_key)
        return await self.ask(call, Batch.of)

    async def validate(self, goal: Submission, **options: Unpack[TaskOptions]) -> Validated:
        """What a submission would come to. Nothing is written."""
        return await self.ask(calls.validate(goal, options), Validated.of)

    async def task(self, task_id: Id) -> Task:
        return await self.ask(calls.task(task_id), Task.of)

    def tasks(
        self, *, limit: int | None = None, **filters: Unpack[ListOptions]
    ) -> AsyncGenerator[Task, None]:
        """The tasks, newest first, over all pages; at most ``limit``."""
        return self.each(pages.all_tasks(filters, limit), Task.of)

    async def wait(
        self,
        task_id: Id,
        timeout: float | None = None,
        *,
        seen: Callable[[Task], object] = lambda _task: None,
    ) -> Task:
        """The task once it has ended. ``seen`` gets it at every look: when it changes, and now
        and then. Raises NotFinished after ``timeout`` seconds."""
        talk = waiting.wait(task_id, timeout, self.patience, lambda task: seen(Task.of(task)))
        return Task.of(await self.run(talk))

    def stream(self, task_id: Id, after: int = 0) -> AsyncGenerator[Event, None]:
        """Its events as they are committed, from the first one that is newer than ``after`` to
        the one that ends it: each once, in order, over lost connections and restarts of the API.
        """
        talk = streaming.stream(task_id, after, self.patience, self.silence)
        return self.each(talk, Event.of)

    async def events(self, task_id: Id, after: int = 0) -> list[Event]:
        """Those that are there now."""
        return [Event.of(one) for one in await self.run(pages.all_events(task_id, after))]

    async def attempts(self, task_id: Id) -> list[Attempt]:
        return await self.ask(calls.attempts(task_id), Attempt.each_of)

    async def roadmap(self, roadmap_id: Id) -> StoredRoadmap:
        """``roadmap_id`` is in ``result`` of a task that has succeeded."""
        return await self.ask(calls.roadmap(roadmap_id), StoredRoadmap.of)

    async def cancel(self, task_id: Id, *, if_match: int | None = None) -> Task:
        """The task, canceled; or still running, then its worker lets go of it soon.

        Raises Conflict if it has ended otherwise, or is past ``if_match``, the version that was
        decided on.
        """
        return await self.ask(calls.cancel(task_id, if_match), Task.of)

    async def retry(
        self,
        task_id: Id,
        *,
        input: Mapping[str, Any] | None = None,  # noqa: A002 - the API's word
        idempotency_key: str | None = None,
        wait: float | None = None,
        **options: Unpack[RunOptions],
    ) -> Task:
        """A new task that runs an ended one again; ``input`` is a merge patch of its input."""
        call = calls.retry(task_id, input, options, idempotency_key, wait)
        return await self.ask(call, Task.of)

    async def delete(self, task_id: Id) -> None:
        """Erase a task that has ended, with its result. Erased before is as well."""
        try:
            await self.ask(calls.delete(task_id), bool)
        except Deleted:
            return
