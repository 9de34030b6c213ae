"""A lease is a timed right to one task; its token fences every write made under it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import date, timedelta
from operator import attrgetter
from typing import Any, Literal, TypeVar
from uuid import UUID

import asyncpg
import structlog
from sqlalchemy import Row, TextClause
from sqlalchemy.exc import SQLAlchemyError
from uuid_utils.compat import uuid7

from shared.database import Database, reason
from shared.errors import TaskError, Transient
from shared.messages import Doorbell
from shared.roadmap import Roadmap
from shared.shared_commit import SharedCommit
from worker_service import statements

log = structlog.get_logger()

DOCUMENTS_AT_ONCE = 32
"""Roadmaps written by one statement: each is some hundred kilobytes."""

HandOver = Literal["worker_stopping", "lease_lapsed"]
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Lease:
    """What a worker holds, and what it needs to know to do the work."""

    task_id: UUID
    token: int
    attempts: int
    takeovers: int
    dispatch_no: int
    input: str
    """JSON."""
    accepted_on: date
    age: float
    """Seconds since the task was accepted."""
    seconds_left: float | None
    """Until the task's deadline, if it has one."""
    taken_at: float
    """By the monotonic clock, before PostgreSQL was asked: the lease cannot end earlier."""

    @property
    def ran_before(self) -> bool:
        """Whether an earlier lease may have left steps."""
        return self.dispatch_no > 1 or self.takeovers > 0

    def is_charged(self, error: TaskError, patience: float) -> bool:
        """Whether it costs an attempt and a try: unless it says nothing about the work, and the
        task has not been put off for ``patience`` seconds yet."""
        return not isinstance(error, Transient) or error.charged or self.age > patience

    @classmethod
    def of(cls, row: Row[Any], taken_at: float) -> Lease:
        return cls(
            task_id=row.id,
            token=row.lease_token,
            attempts=row.attempts,
            takeovers=row.takeovers,
            dispatch_no=row.dispatch_no,
            input=row.input,
            accepted_on=row.created_at.date(),
            age=row.age,
            seconds_left=row.seconds_left,
            taken_at=taken_at,
        )


@dataclass(frozen=True, slots=True)
class Sighting:
    """A task that was found and not taken. ``due``: it may be taken; ``suspect``: only alone."""

    status: str
    due: bool
    suspect: bool


@dataclass(frozen=True, slots=True)
class _Wish:
    id: UUID
    alone: bool


@dataclass(frozen=True, slots=True)
class _Finished:
    id: UUID
    token: int
    roadmap_id: UUID
    document: str


@dataclass(frozen=True, slots=True)
class _Return:
    id: UUID
    token: int
    delay: timedelta
    uncharged: int
    data: str


class Leases:
    """Those of one worker. What several tasks want at the same moment shares a commit."""

    def __init__(
        self, database: Database, *, owner: str, seconds: float, max_takeovers: int
    ) -> None:
        self.database = database
        self.owner = owner
        self.seconds = seconds
        self.max_takeovers = max_takeovers
        self._acquiring = SharedCommit(self._acquire, side_by_side=1)
        self._completing = SharedCommit(self._complete, side_by_side=1, most=DOCUMENTS_AT_ONCE)
        self._returning = SharedCommit(self._return, side_by_side=1)

    @property
    def alone_from(self) -> int:
        """Takeovers from which on a task is a suspect: it may be what ended its workers.

        Only one suspect runs in a worker at a time, so that it takes no other one with it.
        """
        return max(1, self.max_takeovers - 1)

    # --- take ---

    async def acquire(self, task_id: UUID, *, alone: bool = False) -> Lease | None:
        """Take the task if it is due, or if its worker's lease ran out; None if neither.

        The same transaction deletes the outbox message: the promise to run it is being kept.
        ``alone``: no other suspect runs here, so that this task may be one.
        """
        return await self._together(self._acquiring, _Wish(task_id, alone))

    async def sight(self, task_id: UUID) -> Sighting | None:
        parameters = {"task_id": task_id, "max_takeovers": self.max_takeovers}
        async with self.database.autocommit() as connection:
            row = (await connection.execute(statements.SIGHT, parameters)).one_or_none()
        return Sighting(row.status, row.due, row.takeovers >= self.alone_from) if row else None

    # --- end; each tells whether the lease was still ours ---

    async def complete(self, lease: Lease, roadmap: Roadmap) -> bool:
        """Roadmap, success and event, or nothing."""
        document = roadmap.model_dump_json()
        finished = _Finished(lease.task_id, lease.token, uuid7(), document)
        if await self._together(self._completing, finished):
            return True
        # The COMMIT of an earlier try may have worked and only its answer been lost.
        return await self._won(statements.COMPLETED_BEFORE, lease)

    async def requeue(self, lease: Lease, error: TaskError, delay: float, *, charged: bool) -> bool:
        """Another attempt after ``delay`` seconds, its outbox message in the same transaction."""
        data = {"reason": "retry", "charged": charged, **error.as_dict()}
        return await self._give_back(lease, delay, charged=charged, data=data)

    async def hand_over(self, lease: Lease, reason: HandOver = "worker_stopping") -> bool:
        """Give the task back at once, for another worker to go on with. No attempt is charged."""
        return await self._give_back(lease, 0, charged=False, data={"reason": reason})

    async def fail(self, lease: Lease, error: TaskError) -> bool:
        """End the task as failed, for good."""
        return await self._won(statements.FAIL, lease, error=json.dumps(error.as_dict()))

    async def cancel(self, lease: Lease) -> bool:
        """End the task as canceled, if that was asked for."""
        return await self._won(statements.CANCEL, lease)

    async def bury(self, doorbell: Doorbell, reason: str) -> None:
        """Keep a message that cannot be true: of no task, or of another deployment."""
        parameters = {
            "task_id": doorbell.task_id,
            "dispatch_no": doorbell.dispatch_no,
            "reason": reason,
            "detail": json.dumps(doorbell.as_kwargs()),
        }
        async with self.database.autocommit() as connection:
            await connection.execute(statements.BURY, parameters)

    async def _give_back(
        self, lease: Lease, delay: float, *, charged: bool, data: dict[str, Any]
    ) -> bool:
        pause = timedelta(seconds=delay)
        wish = _Return(lease.task_id, lease.token, pause, int(not charged), json.dumps(data))
        return await self._together(self._returning, wish)

    async def _won(self, statement: TextClause, lease: Lease, **parameters: Any) -> bool:
        """Run a write that the lease token guards; whether it took place."""
        fence = {"task_id": lease.task_id, "token": lease.token}
        async with self.database.autocommit() as connection:
            return (await connection.execute(statement, fence | parameters)).first() is not None

    async def _together(self, commit: SharedCommit[Item, Result], item: Item) -> Result:
        patience = self.database.settings.database_command_timeout
        return await commit.write(item, asyncio.get_running_loop().time() + patience)

    # --- batches ---

    async def _acquire(self, wishes: Sequence[_Wish]) -> list[Lease | None]:
        taken_at = time.monotonic()
        rows = await self._run(
            statements.ACQUIRE,
            *columns(_by_id(wishes)),
            self.owner,
            timedelta(seconds=self.seconds),
            self.max_takeovers,
            self.alone_from,
        )
        taken = {row.id: Lease.of(row, taken_at) for row in rows}
        return [self._granted(wish, taken) for wish in wishes]

    def _granted(self, wish: _Wish, taken: dict[UUID, Lease]) -> Lease | None:
        """Of two wishes for one task one is granted, and a suspect only to who has room for it."""
        lease = taken.get(wish.id)
        if lease is None or (lease.takeovers >= self.alone_from and not wish.alone):
            return None
        return taken.pop(wish.id)

    async def _complete(self, finished: Sequence[_Finished]) -> list[bool]:
        rows = await self._run(statements.COMPLETE, *columns(_by_id(finished)))
        done = {(row.id, row.token) for row in rows}
        return [(one.id, one.token) in done for one in finished]

    async def _return(self, returns: Sequence[_Return]) -> list[bool]:
        rows = await self._run(statements.REQUEUE, *columns(_by_id(returns)))
        returned = {(row.id, row.token) for row in rows}
        won = [(one.id, one.token) in returned for one in returns]
        if any(ours and not one.delay for ours, one in zip(won, returns, strict=True)):
            await self._ring()
        return won

    async def _ring(self) -> None:
        """A hint for the relays, which poll anyway: what was returned is committed."""
        try:
            async with self.database.autocommit() as connection:
                await connection.execute(statements.RING)
        except (OSError, SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            log.info("doorbell_not_rung", error=reason(error))

    async def _run(self, statement: str, *parameters: object) -> Sequence[Row[Any]]:
        async with self.database.autocommit() as connection:
            return (await connection.exec_driver_sql(statement, parameters)).all()


def _by_id(items: Sequence[Item]) -> list[Item]:
    """In the order in which every statement locks tasks: who waits for whom is then no circle."""
    return sorted(items, key=attrgetter("id"))


def columns(items: Sequence[Any]) -> list[list[Any]]:  # Any: dataclasses have no common type
    """The items' fields as the arrays that a statement unnests."""
    return [[getattr(item, field.name) for item in items] for field in fields(items[0])]
