"""Replaying and discarding, in small transactions that may stop after any of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal
from uuid import UUID

from sqlalchemy import RowMapping
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from shared import operating
from shared.database import CONFLICTS, Database, sqlstate
from shared.operating import Document

Change = Callable[[AsyncSession, int], Awaitable[Sequence[RowMapping]]]
"""A statement under an act: what it changed."""

PER_SECOND = 5
"""Transactions in which a second's replays are written: none holds its locks for long."""

PORTION = 500
"""Dead letters discarded, or tasks scheduled, by one transaction."""

TRIES = 5
"""For a transaction that PostgreSQL undid because of another one."""


@dataclass(slots=True)
class Act:
    """What one person does for one reason. It is recorded with the first thing that it changes."""

    kind: Literal["replay", "discard"]
    actor: str
    reason: str
    detail: Document
    tell: Callable[[Document], None]
    """Hears of each task or dead letter once that is committed."""
    id: int | None = None
    done: list[Document] = field(default_factory=list)
    totals: Counter[str] = field(init=False)

    def __post_init__(self) -> None:
        replayed = () if self.kind == "discard" else ("new_tasks", "dispatched_again")
        self.totals = Counter(dict.fromkeys(("dead_letters", *replayed), 0))

    async def replay(self, database: Database, task_ids: Sequence[UUID], *, rate: int) -> None:
        """At most ``rate`` tasks a second."""
        size = max(1, rate // PER_SECOND)
        clock = asyncio.get_running_loop().time
        due = clock()
        for start in range(0, len(task_ids), size):
            await asyncio.sleep(due - clock())
            due = clock() + size / rate
            new_ids = {one: uuid7() for one in task_ids[start : start + size]}
            await self._unbroken(database, partial(operating.replay, new_ids=new_ids))

    async def schedule(self, database: Database, task_ids: Sequence[UUID], *, rate: int) -> None:
        """At once, and yet at most ``rate`` tasks a second: each message is due when it is its
        turn. So the outbox keeps the pace, whatever becomes of this process."""
        for start in range(0, len(task_ids), PORTION):
            portion = task_ids[start : start + PORTION]
            new_ids = {one: uuid7() for one in portion}
            delays = {one: (start + place) / rate for place, one in enumerate(portion)}
            change = partial(operating.replay, new_ids=new_ids, delays=delays)
            await self._unbroken(database, change)

    async def discard(self, database: Database, numbers: Sequence[int]) -> None:
        for start in range(0, len(numbers), PORTION):
            portion = numbers[start : start + PORTION]
            await self._unbroken(database, partial(operating.discard, numbers=portion))

    async def _unbroken(self, database: Database, change: Change) -> None:
        """Ctrl-C waits for the transaction, so that what was done is also told."""
        running = asyncio.ensure_future(self._commit(database, change))
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:
            await running
            raise

    async def _commit(self, database: Database, change: Change) -> None:
        for tries in range(1, TRIES + 1):
            try:
                changed = await self._transaction(database, change)
                break
            except DBAPIError as error:
                if tries == TRIES or sqlstate(error) not in CONFLICTS:
                    raise
        for one in changed:
            self.tell(one)

    async def _transaction(self, database: Database, change: Change) -> list[Document]:
        async with database.begin() as session:
            act_id = self.id or await operating.record(
                session, self.kind, actor=self.actor, reason=self.reason, detail=self.detail
            )
            changed = [dict(row) for row in await change(session, act_id)]
            if not changed:
                await session.rollback()  # nobody did anything
                return []
            totals = self._totals_with(changed)
            await operating.count(session, act_id, dict(totals))
        self.id, self.totals = act_id, totals
        self.done += changed
        return changed

    def _totals_with(self, changed: Sequence[Document]) -> Counter[str]:
        totals = self.totals.copy()
        for one in changed:
            if self.kind == "discard":
                totals["dead_letters"] += 1
            else:
                anew = one["replayed_as"] != one["task_id"]
                totals["dead_letters"] += len(one["dead_letters"])
                totals["new_tasks" if anew else "dispatched_again"] += 1
        return totals
