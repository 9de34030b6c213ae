"""One commit for many: what arrives while a batch is being committed is the next batch."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import Context
from itertools import islice
from typing import Any, Generic, TypeVar

from shared.database import TIMED_OUT, connection_lost, sqlstate

MOST = 256
"""Items in one batch: a larger one costs hardly less per item, and keeps its first one waiting."""

SLOW = 1.0
"""Seconds after which a batch holds up the next no longer: its connection may have died unheard."""

TICK = 0.05
"""Seconds between two looks for who waited too long: a timer for each costs more than a row."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class SharedCommit(Generic[Item, Result]):
    """Who comes alone is written at once; who comes during a commit goes with the next, together
    with all who came meanwhile. There is no timer, so nobody waits for company.

    ``write`` commits a batch, and returns a result for each item in their order.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
        *,
        side_by_side: int,
        most: int = MOST,
    ) -> None:
        """``side_by_side``: how many items may be written alone at once, beside the batch.
        ``most``: how many items one batch may have."""
        self._write = write
        self._most = most
        self._room_alone = asyncio.Semaphore(side_by_side)
        self._waiting: dict[asyncio.Future[Result], Item] = {}
        self._deadlines: dict[asyncio.Future[Result], float] = {}
        self._clock: asyncio.TimerHandle | None = None
        self._gathering: asyncio.Task[None] | None = None
        self._under_way: set[asyncio.Task[None]] = set()

    async def write(self, item: Item, until: float) -> Result:
        """``until``, by the loop's clock: then TimeoutError is raised.

        Nor does a cancellation stop the others; an item not yet begun is then not written.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Result] = loop.create_future()
        self._waiting[answer] = item
        self._deadlines[answer] = until
        if self._clock is None:
            self._clock = loop.call_later(TICK, self._refuse_the_late)
        if self._gathering is None:
            self._gathering = self._start(self._write_batches())
        try:
            return await answer
        finally:
            del self._deadlines[answer]
            self._waiting.pop(answer, None)

    async def write_alone(self, item: Item, until: float) -> Result:
        async with asyncio.timeout_at(until), self._room_alone:
            return (await self._write([item]))[0]

    async def close(self) -> None:
        """Finish what is pending."""
        while self._under_way:
            await asyncio.wait(self._under_way)

    async def _write_batches(self) -> None:
        while self._waiting:
            # A turn of the loop, for those whose requests are in the process already: else the
            # first of them would go alone, and the others wait for it.
            await asyncio.sleep(0)
            if batch := self._next_batch():
                await asyncio.wait({self._start(self._write_together(batch))}, timeout=SLOW)
        self._gathering = None

    def _next_batch(self) -> dict[asyncio.Future[Result], Item]:
        batch = dict(islice(self._waiting.items(), self._most))
        for answer in batch:
            del self._waiting[answer]
        return batch

    async def _write_together(self, batch: dict[asyncio.Future[Result], Item]) -> None:
        try:
            results = await self._write(list(batch.values()))
            for answer, result in zip(batch, results, strict=True):
                _give(answer, result)
        except Exception as error:  # noqa: BLE001 - who waits for the answer judges it
            # The database failed all alike; or one item failed them, and nobody knows which.
            if len(batch) == 1 or connection_lost(error) or sqlstate(error) == TIMED_OUT:
                for answer in batch:
                    _refuse(answer, error)
            else:
                self._write_singly(batch)

    def _write_singly(self, batch: dict[asyncio.Future[Result], Item]) -> None:
        """Beside the batches: one that waits for a lock holds up nobody else."""
        for answer, item in batch.items():
            self._start(self._write_single(answer, item))

    async def _write_single(self, answer: asyncio.Future[Result], item: Item) -> None:
        async with self._room_alone:
            if answer.done():
                return
            try:
                _give(answer, (await self._write([item]))[0])
            except Exception as error:  # noqa: BLE001 - as above
                _refuse(answer, error)

    def _refuse_the_late(self) -> None:
        loop = asyncio.get_running_loop()
        for answer, until in self._deadlines.items():
            if until <= loop.time():
                _refuse(answer, TimeoutError("no answer in time"))
        self._clock = loop.call_later(TICK, self._refuse_the_late) if self._deadlines else None

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        # In no caller's context: a batch belongs to all of them alike, and its log lines to none.
        task = asyncio.create_task(work, context=Context())
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task


def _give(answer: asyncio.Future[Result], result: Result) -> None:
    if not answer.done():
        answer.set_result(result)


def _refuse(answer: asyncio.Future[Result], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
