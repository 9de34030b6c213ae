"""The lanes of the outbox, one per tenant and priority, and how far each is known to be done.

A scan that starts at a lane's first index entry crawls over the dead rows of every message ever
carried, as soon as anybody holds a snapshot. So it starts at a mark, which may rise only over
what can never wait again (docs/decisions/0007).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

NIL = UUID(int=0)


class Lane(NamedTuple):
    tenant_id: str
    priority: int


class Position(NamedTuple):
    """A message's place in its lane: lanes are read in this order."""

    available_at: datetime
    task_id: UUID


START = Position(datetime(1970, 1, 1, tzinfo=UTC), NIL)

PATIENCE = timedelta(seconds=30)
"""No transaction of ours lives as long; whose does, is left to the next full look."""

MAX_LANES = 3000
"""Each costs an index probe per look; the ones empty for the longest are found again if needed."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """When a look was taken, and which transactions it could not see: from ``xmin`` on some, from
    ``next_xid`` on all, because those had not begun. A snapshot's own xmax says less: it is the id
    after the last that ended, and younger ones may be under way."""

    now: datetime
    xmin: int
    next_xid: int


@dataclass(frozen=True, slots=True)
class Backlog:
    """What a look saw in a lane: how many are due (counted up to a limit), and the first."""

    waiting: int
    head: Position | None
    next_due: datetime | None

    def age(self, now: datetime) -> float:
        """Seconds that the first one has been due."""
        return (now - self.head.available_at).total_seconds() if self.head else 0.0


@dataclass(slots=True)
class Mark:
    """``floor``: nothing below it waits, nor ever will. ``head``: the first that waited last time.

    A look's head becomes the floor once all transactions that the look could not see have ended
    and another look has found what they left. Whatever commits later lies above: a message's
    ``available_at`` is read from the clock after its transaction got its id.
    """

    floor: Position = START
    head: Position = START
    filled_at: datetime = START.available_at
    _next: Position | None = None
    _fence: int = 0
    _since: datetime = START.available_at

    def learn(self, backlog: Backlog, snapshot: Snapshot) -> None:
        self.head = backlog.head or Position(snapshot.now, NIL)
        if backlog.head:
            self.filled_at = snapshot.now
        self.floor = min(self.floor, self.head)  # rung again, or missed by a step of the clock
        if self._next and self._has_settled(snapshot):
            self.floor = max(self.floor, min(self._next, self.head))
            self._next = None
        if self._next is None:
            self._next, self._fence, self._since = self.head, snapshot.next_xid, snapshot.now

    def _has_settled(self, snapshot: Snapshot) -> bool:
        return snapshot.xmin >= self._fence or snapshot.now - self._since > PATIENCE


@dataclass(slots=True)
class Lanes:
    """All lanes that this relay has met. Knowing too few costs one more look, never a message."""

    marks: dict[Lane, Mark] = field(default_factory=dict)

    def floors(self, *, full: bool) -> dict[Lane, Position]:
        """Where to start reading; a full look starts at the very beginning."""
        return {lane: START if full else mark.floor for lane, mark in self.marks.items()}

    def heads(self) -> dict[Lane, Position]:
        """Below these, all that is left has been published and waits for its worker."""
        return {lane: mark.head for lane, mark in self.marks.items()}

    def learn(self, backlogs: Mapping[Lane, Backlog], snapshot: Snapshot) -> None:
        for lane, backlog in backlogs.items():
            self.marks.setdefault(lane, Mark()).learn(backlog, snapshot)
        surplus = len(self.marks) - MAX_LANES
        if surplus > 0:
            longest_empty = sorted(self.marks, key=lambda lane: self.marks[lane].filled_at)
            for lane in longest_empty[:surplus]:
                del self.marks[lane]

    def meet(self, lane: Lane) -> None:
        self.marks.setdefault(lane, Mark())
