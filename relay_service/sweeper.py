"""Finds what should be happening and is not: lost memory, lost doorbells, vanished workers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog

from relay_service import outbox
from relay_service.lanes import Lanes
from relay_service.publisher import will_pass
from relay_service.trust import Trust
from relay_service.wakeup import Wakeup
from shared import metrics
from shared.database import Database, reason
from shared.errors import DeadlineExceeded
from shared.settings import Settings

log = structlog.get_logger()

PASS_LIMIT = 500
"""Rows one pass may touch: a storm is spread over passes, and no transaction gets long."""

GRACE = timedelta(seconds=5)
"""After its deadline a task is left to its worker for this long."""

Duty = Callable[[], Awaitable[object]]


class Sweeper:
    """Runs in every relay; row locks and one advisory lock keep them out of each other's way."""

    def __init__(
        self, settings: Settings, database: Database, wakeup: Wakeup, trust: Trust, lanes: Lanes
    ) -> None:
        self.settings = settings
        self.database = database
        self.wakeup = wakeup
        self.trust = trust
        self.lanes = lanes

    async def run(self, *others: tuple[Duty, float]) -> None:
        """Every duty at its own pace, those of ``others`` too: none has to wait for another."""
        every = self.settings.sweep_interval
        own = (
            (self.check_memory, self.settings.memory_check),
            (self.return_expired_leases, every),
            (self.end_overdue, every),
            (self.ring_again, 5 * every),
        )
        async with asyncio.TaskGroup() as group:
            for duty, pause in (*own, *others):
                group.create_task(self._repeat(duty, pause))

    async def check_memory(self) -> None:
        await self.trust.check()

    async def return_expired_leases(self) -> None:
        limit = self.settings.max_takeovers
        async with self.database.autocommit() as connection:
            ended = await outbox.return_expired(connection, limit, PASS_LIMIT)
        for task in ended:
            log.warning("lease_expired", task_id=task["id"], verdict=task["verdict"])
        if ended:
            self.wakeup.ring()

    async def end_overdue(self) -> None:
        error = DeadlineExceeded().as_dict()
        async with self.database.autocommit() as connection:
            ended = await outbox.end_overdue(connection, error, GRACE, PASS_LIMIT)
        for task in ended:
            log.warning("deadline_passed", task_id=task["id"], failed=task["failed"])

    async def ring_again(self) -> None:
        patience = timedelta(seconds=self.settings.redeliver_after)
        heads = self.lanes.heads()
        queued = await self.trust.publisher.queued()
        async with self.database.autocommit() as connection:
            rearmed = await outbox.rearm_unanswered(connection, heads, patience, queued, PASS_LIMIT)
        if rearmed:
            log.warning("doorbells_unanswered", task_ids=[str(one) for one in rearmed])
            metrics.REARMED.labels("unanswered").inc(len(rearmed))
            self.wakeup.ring()

    async def _repeat(self, duty: Duty, pause: float) -> None:
        name = getattr(duty, "__name__", "duty")
        while not self.wakeup.stopping:
            try:
                await duty()
            except Exception as error:
                if not will_pass(error):
                    raise
                log.warning("sweep_waits", duty=name, reason=reason(error))
                metrics.SWEEPS.labels(name, "waits").inc()
            else:
                metrics.SWEEPS.labels(name, "done").inc()
            await self.wakeup.pause(pause)
