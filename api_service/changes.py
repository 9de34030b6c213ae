"""News of tasks for all who wait for them: one look at PostgreSQL for everybody, not one each.

A task's version grows with each of its events, so nothing has to be remembered to find what is
new, and nothing is missed when a look fails. NOTIFY would take an instance-wide lock at the commit
of every event; a look that finds nothing costs less than that.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from itertools import groupby
from typing import Any
from uuid import UUID

import structlog

from shared.backoff import exponential
from shared.database import Database, reason, retriable
from shared.lifecycle import TaskStatus

log = structlog.get_logger()

AT_ONCE = 200
"""Events of one task in one look; the next look brings those that are left."""

SLOWEST = 5.0
"""Seconds between two looks at a PostgreSQL that does not answer."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What has to change for a task to count as moved on."""

    version: int
    published: bool
    """Whether its outbox message is on its way."""

    def moved_to(self, other: Mark) -> bool:
        """Not if ``other`` is what an older look had found."""
        if other.version == self.version:
            return other.published != self.published
        return other.version > self.version


@dataclass(frozen=True)
class Event:
    """One row of a task's history. Its frame is written once, for however many streams."""

    seq: int
    type: str
    data: str
    """JSON, as PostgreSQL gives it: on one line."""
    created_at: datetime

    @cached_property
    def frame(self) -> bytes:
        return f"id: {self.seq}\nevent: {self.type}\ndata: {self.document}\n\n".encode()

    @property
    def document(self) -> str:
        """As ``shared.views.EventView`` has it."""
        at = self.created_at.astimezone(UTC).isoformat().replace("+00:00", "Z")
        kind = json.dumps(self.type)
        return f'{{"seq":{self.seq},"type":{kind},"data":{self.data},"created_at":"{at}"}}'


@dataclass(frozen=True, slots=True)
class News:
    """What one look has found of one task."""

    now: Mark
    events: Sequence[Event]
    ended: bool
    """Whether the last of them is the last there will be."""


Ear = asyncio.Queue[News | None]
"""Of one stream. None: this process stops."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What all have seen who watch a task: looks find what lies beyond."""

    version: int
    published: bool | None = None
    """None where they differ, or do not care."""

    def to_both(self, other: _Known) -> _Known:
        return self if self == other else _Known(min(self.version, other.version))


@dataclass(slots=True)
class _Watched:
    known: _Known
    ears: set[Ear] = field(default_factory=set)
    waits: dict[asyncio.Future[bool], Mark] = field(default_factory=dict)


class Changes:
    """The tasks that somebody of this process watches. While nobody does, nobody looks."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.looks = 0
        self._watched: dict[UUID, _Watched] = {}
        self._somebody = asyncio.Event()
        self._stopping = False

    async def news(self, task_id: UUID, beyond: Mark, seconds: float) -> bool:
        """True as soon as the task is not at ``beyond`` any more; False after ``seconds``, or when
        this process stops. A look that overlaps with the caller's may say True too soon."""
        if self._stopping:
            return False
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        with self._watching(task_id, _Known(beyond.version, beyond.published)) as watched:
            watched.waits[answer] = beyond
            try:
                async with asyncio.timeout(seconds):
                    return await answer
            except TimeoutError:
                return False
            finally:
                del watched.waits[answer]

    @contextmanager
    def follow(self, task_id: UUID, after: int) -> Iterator[Ear]:
        """Where the task's news arrive: in order and without a gap all events with a greater
        ``seq``, perhaps after some that others had missed."""
        ear: Ear = asyncio.Queue()
        if self._stopping:
            ear.put_nowait(None)
        with self._watching(task_id, _Known(after)) as watched:
            watched.ears.add(ear)
            try:
                yield ear
            finally:
                watched.ears.discard(ear)

    @property
    def watched(self) -> int:
        """How many tasks each look is for."""
        return len(self._watched)

    def stop(self) -> None:
        """Whoever waits is told that nothing more will come from here; ``run`` ends."""
        self._stopping = True
        self._somebody.set()
        for watched in self._watched.values():
            for answer in watched.waits:
                _give(answer, moved=False)
            for ear in watched.ears:
                ear.put_nowait(None)

    async def run(self) -> None:
        failures = 0
        while True:
            await self._somebody.wait()
            if self._stopping:
                return
            pause = self.database.settings.stream_poll
            try:
                await self.run_once()
                failures = 0
            except Exception as error:  # whatever it is: streams must not fall silent
                failures += 1
                why = reason(error)
                odd = not retriable(error)
                log.warning("changes_not_seen", tries=failures, error=why, exc_info=odd)
                pause = exponential(failures, max(pause, 0.1), SLOWEST, random.random())  # noqa: S311 - jitter
            await asyncio.sleep(pause)

    async def run_once(self) -> int:
        """Look once for all; of how many tasks there were news."""
        asked = {task_id: watched.known for task_id, watched in self._watched.items()}
        versions = [known.version for known in asked.values()]
        published = [known.published for known in asked.values()]
        self.looks += 1
        found = await self.database.fetch(LOOK, list(asked), versions, published, AT_ONCE)
        told = 0
        for task_id, rows in groupby(found, key=lambda row: row["id"]):
            told += 1
            self._tell(task_id, asked[task_id], _news(list(rows)))
        return told

    def _tell(self, task_id: UUID, asked: _Known, news: News) -> None:
        watched = self._watched.get(task_id)
        if watched is None:
            return
        for answer, beyond in watched.waits.items():
            if beyond.moved_to(news.now):
                _give(answer, moved=True)
        if watched.known != asked:  # somebody came who knows less: the next look is for all
            return
        seen = news.events[-1].seq if news.events else asked.version
        watched.known = _Known(seen, news.now.published)
        if news.events:
            for ear in watched.ears:
                ear.put_nowait(news)

    @contextmanager
    def _watching(self, task_id: UUID, known: _Known) -> Iterator[_Watched]:
        watched = self._watched.setdefault(task_id, _Watched(known))
        watched.known = watched.known.to_both(known)
        self._somebody.set()
        try:
            yield watched
        finally:
            if not watched.ears and not watched.waits:
                del self._watched[task_id]
                if not self._watched and not self._stopping:
                    self._somebody.clear()


def _news(rows: Sequence[Any]) -> News:
    """Any: rows of ``LOOK``, of one task."""
    latest = rows[0]
    events = [
        Event(row["seq"], row["type"], row["data"], row["created_at"])
        for row in rows
        if row["seq"] is not None
    ]
    complete = bool(events) and events[-1].seq == latest["version"]
    ended = complete and TaskStatus(latest["status"]).terminal
    return News(Mark(latest["version"], latest["published"]), events, ended)


def _give(answer: asyncio.Future[bool], *, moved: bool) -> None:
    if not answer.done():
        answer.set_result(moved)


# One row for each new event; one without an event for a task of which only the message moved.
LOOK = """
    SELECT task.id, task.version, task.status, message.dispatched_at IS NOT NULL AS published,
           event.seq, event.type, CAST(event.data AS text) AS data, event.created_at
    FROM unnest($1::uuid[], $2::integer[], $3::boolean[]) AS known (id, version, published)
    JOIN tasks AS task ON task.id = known.id
    LEFT JOIN outbox_messages AS message ON message.task_id = task.id
    LEFT JOIN LATERAL (
        SELECT seq, type, data, created_at FROM task_events
        WHERE task_id = known.id AND seq > known.version ORDER BY seq LIMIT $4
    ) AS event ON true
    WHERE task.version > known.version
       OR (message.dispatched_at IS NOT NULL) IS DISTINCT FROM known.published
    ORDER BY task.id, event.seq
"""
