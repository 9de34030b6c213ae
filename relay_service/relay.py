"""★ CARRY IT OVER: look, claim committed messages, verify their tasks, publish, settle."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from relay_service import outbox, report
from relay_service.fairness import Shares
from relay_service.lookout import Lookout
from relay_service.outbox import Claimed, Look
from relay_service.publisher import MemoryLost, Publisher, Result, will_pass
from relay_service.trust import Trust
from relay_service.verification import Deliver, Doubts, Judged, verify
from relay_service.wakeup import Wakeup
from relay_service.window import Window
from shared import metrics
from shared.backoff import exponential
from shared.database import Database, reason
from shared.failpoints import failpoint
from shared.settings import Settings

log = structlog.get_logger()

FULL = 0.02
"""Seconds until Redis is asked again whether its workers have made room."""


class Relay:
    """Any number may run side by side: a message is claimed by one of them at a time."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        publisher: Publisher,
        wakeup: Wakeup,
        deployment_id: UUID,
    ) -> None:
        self.settings = settings
        self.database = database
        self.publisher = publisher
        self.wakeup = wakeup
        self.deployment_id = deployment_id
        self.trust = Trust(database, publisher, deployment_id)
        self.doubts = Doubts(settings.verify_tries, settings.verify_step)
        self.lookout = Lookout(settings, database, self.doubts)
        self.shares = Shares(settings.tenant_weights, settings.relay_ageing)
        self.window = Window(settings, publisher)
        self.published = 0
        self.paused = False
        self.patience = 0.0
        """Seconds until the next look if nothing rings: what the last one gave reason for."""

    async def run(self, beat: Callable[[], None]) -> None:
        """Until the wake-up says stop: a batch in hand is finished first."""
        failures = 0
        while not self.wakeup.stopping:
            beat()
            try:
                claimed = await self.run_once()
            except Exception as error:
                if not will_pass(error):
                    raise
                failures += 1
                await self._wait_out(error, failures)
                continue
            failures = 0
            metrics.BREAKER_OPEN.set(0)
            if not claimed:
                await self.wakeup.wait(self.patience)

    async def run_once(self) -> int:
        """Carry one batch over; how many messages it had.

        The transaction holds the claim. If Redis does not take the batch, it is rolled back:
        nothing is settled and no attempt is charged. If this process dies after publishing,
        the messages are published again, which Redis and workers recognise.
        """
        if self.trust.incarnation is None:
            await self.trust.check()
        look = await self.lookout.look()
        self.patience = self._patience(look)
        self.paused = look.paused
        if look.paused or not look.waiting:
            return 0
        room = min(await self.window.room(look.waiting), self.settings.relay_batch)
        if not room:
            self.patience = FULL
            return 0
        async with self.database.begin() as session:
            claimed = await self._claim(session, look, room)
            if not claimed:
                return 0
            await failpoint("relay.claimed")
            judged = await self._verify(claimed)
            await failpoint("relay.verified")
            delivered = await self._publish(judged.deliver)
            await failpoint("relay.published")
            await self._settle(session, claimed, judged, delivered)
            await failpoint("relay.settled")
        return len(claimed)

    async def _claim(self, session: AsyncSession, look: Look, room: int) -> list[Claimed]:
        spare = None
        cap = self.settings.tenant_max_running
        if cap is not None:
            engaged = await outbox.engaged(session, self.lookout.lanes.heads())
            spare = {lane.tenant_id: cap - engaged.get(lane.tenant_id, 0) for lane in look.backlogs}
        quotas = self.shares.allot(look.backlogs, look.snapshot.now, room, spare)
        floors = self.lookout.lanes.floors(full=False)
        return await outbox.claim(session, quotas, floors, self.doubts.resting()) if quotas else []

    async def _verify(self, claimed: Sequence[Claimed]) -> Judged:
        facts = await outbox.look_up(self.database, claimed)
        judged = Judged.of(
            verify(
                message,
                facts.get(message.task_id),
                deployment_id=self.deployment_id,
                last_look=self.doubts.is_last_look(message.task_id),
            )
            for message in claimed
        )
        report.verified(judged)
        return judged

    async def _publish(self, deliver: Sequence[Deliver]) -> dict[UUID, Result]:
        """What Redis did with each; it may have no room for some, and those wait with us."""
        if not deliver:
            return {}
        messages = [(one.message_id, one.body) for one in deliver]
        try:
            published = await self.publisher.publish(messages, self.window.size)
        except MemoryLost:
            self.trust.doubt()
            raise
        self.window.filled(published.depth)
        ids = (one.message.task_id for one in deliver)
        results = zip(ids, published.results, strict=True)
        return {task_id: result for task_id, result in results if result is not Result.NO_ROOM}

    async def _settle(
        self,
        session: AsyncSession,
        claimed: Sequence[Claimed],
        judged: Judged,
        delivered: dict[UUID, Result],
    ) -> None:
        await outbox.mark_dispatched(session, delivered)
        await outbox.drop(session, [one.message.task_id for one in judged.drop])
        for one in judged.bury:
            await outbox.bury(session, one.message, one.reason)
        again = {one.message.task_id for one in judged.look_again}
        self.doubts.looked(again, settled={one.task_id for one in claimed} - again)
        # Before COMMIT: a worker cannot take a task while its message is locked, so its own
        # lines come after these.
        report.settled(judged, delivered)
        self.published += len(delivered)

    def _patience(self, look: Look) -> float:
        return min(self.wakeup.poll, look.until_next_due, self.doubts.patience())

    async def _wait_out(self, error: Exception, failures: int) -> None:
        """The breaker: for a while nothing is asked of anybody; nothing is charged either."""
        metrics.BREAKER_OPEN.set(1)
        pause = exponential(failures, 0.1, 5, random.random())  # noqa: S311 - jitter
        log.warning("relay_waits", reason=reason(error), failures=failures, pause=pause)
        await self.wakeup.pause(pause)
