"""★ CARRY IT OVER: claim committed messages, verify their tasks, publish, settle."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from relay_service import outbox
from relay_service.outbox import Claimed
from relay_service.publisher import Publisher, will_pass
from relay_service.verification import Bury, Deliver, Doubts, Drop, LookAgain, Verdict, verify
from relay_service.wakeup import Wakeup
from shared import logs, metrics
from shared.backoff import exponential
from shared.database import Database, reason
from shared.failpoints import failpoint
from shared.messages import Doorbell
from shared.settings import Settings

log = structlog.get_logger()


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
        self.doubts = Doubts(settings.verify_tries, settings.verify_step)

    async def run(self) -> None:
        """Until the wake-up says stop: a batch in hand is finished first."""
        failures = 0
        while not self.wakeup.stopping:
            try:
                claimed = await self.run_once()
                failures = 0
            except Exception as error:
                if not will_pass(error):
                    raise
                failures += 1
                pause = exponential(failures, 0.1, 5, random.random())  # noqa: S311 - jitter
                log.warning("relay_waits", reason=reason(error), failures=failures, pause=pause)
                await self.wakeup.pause(pause)
                continue
            if claimed < self.settings.relay_batch:
                await self.wakeup.wait(min(self.settings.relay_poll, self.doubts.patience()))

    async def run_once(self) -> int:
        """Carry one batch over; how many messages it had.

        The transaction holds the claim. If Redis does not take the batch, it is rolled back:
        nothing is settled and no attempt is charged. If this process dies after publishing,
        the messages are published again, which Redis and workers recognise.
        """
        async with self.database.begin() as session:
            resting = self.doubts.resting()
            claimed = await outbox.claim(session, self.settings.relay_batch, resting)
            if not claimed:
                return 0
            judged = await self._verify(claimed)
            added = await self.publisher.publish(judged.deliver)
            await failpoint("relay.published")
            await self._settle(session, claimed, judged)
            self._report(judged, added)
        return len(claimed)

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
        if judged.deliver:
            log.info(logs.TASK_VERIFIED, task_ids=[str(bell.task_id) for bell in judged.deliver])
        return judged

    async def _settle(
        self, session: AsyncSession, claimed: Sequence[Claimed], judged: Judged
    ) -> None:
        await outbox.mark_dispatched(session, [bell.task_id for bell in judged.deliver])
        await outbox.drop(session, [one.message.task_id for one in judged.drop])
        for one in judged.bury:
            await outbox.bury(session, one.message, one.reason)
        again = {one.message.task_id for one in judged.look_again}
        self.doubts.looked(again, settled={one.task_id for one in claimed} - again)

    def _report(self, judged: Judged, added: Sequence[bool]) -> None:
        # Before COMMIT: a worker cannot take a task while its message is locked, so its own
        # lines come after this one.
        if judged.deliver:
            log.info(
                logs.TASK_DISPATCHED,
                task_ids=[str(bell.task_id) for bell in judged.deliver],
                repeated=added.count(False),
            )
            metrics.PUBLISHED.labels("new").inc(added.count(True))
            metrics.PUBLISHED.labels("repeated").inc(added.count(False))
        for dropped in judged.drop:
            log.info("message_dropped", task_id=dropped.message.task_id, reason=dropped.reason)
            metrics.VERDICTS.labels("drop", dropped.reason).inc()
        for buried in judged.bury:
            log.error("message_buried", task_id=buried.message.task_id, reason=buried.reason)
            metrics.VERDICTS.labels("bury", buried.reason).inc()
            if buried.reason == "task_missing":
                metrics.TASK_MISSING.inc()


@dataclass(slots=True)
class Judged:
    """The verdicts of a batch, by kind."""

    deliver: list[Doorbell] = field(default_factory=list)
    drop: list[Drop] = field(default_factory=list)
    bury: list[Bury] = field(default_factory=list)
    look_again: list[LookAgain] = field(default_factory=list)

    @classmethod
    def of(cls, verdicts: Iterable[Verdict]) -> Judged:
        judged = cls()
        for verdict in verdicts:
            match verdict:
                case Deliver(doorbell):
                    judged.deliver.append(doorbell)
                case Drop():
                    judged.drop.append(verdict)
                case Bury():
                    judged.bury.append(verdict)
                case LookAgain():
                    judged.look_again.append(verdict)
        return judged
