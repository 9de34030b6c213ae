"""Finds what should be happening and is not: lost memory, lost doorbells, vanished workers."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import structlog
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, RedisError

from relay_service import outbox
from relay_service.publisher import BrokerUnavailable, will_pass
from relay_service.wakeup import Wakeup
from shared import metrics
from shared.broker import incarnation
from shared.database import Database, reason
from shared.errors import StartupError
from shared.settings import Settings

log = structlog.get_logger()

PASS_LIMIT = 500
"""Rows one pass may touch: a storm is spread over passes, and no transaction gets long."""


class Sweeper:
    """Runs in every relay; row locks and one advisory lock keep them out of each other's way."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        client: Redis,
        wakeup: Wakeup,
        deployment_id: UUID,
    ) -> None:
        self.settings = settings
        self.database = database
        self.client = client
        self.wakeup = wakeup
        self.deployment_id = deployment_id
        self.known_incarnation: str | None = None

    async def run(self) -> None:
        while not self.wakeup.stopping:
            for duty in (self.check_memory, self.return_expired_leases, self.ring_again):
                try:
                    await duty()
                except Exception as error:
                    if not will_pass(error):
                        raise
                    log.warning("sweep_waits", duty=duty.__name__, reason=reason(error))
            await self.wakeup.pause(self.settings.sweep_interval)

    async def check_memory(self) -> None:
        """Ask Redis which memory it has; if it is a new one, ring all open doorbells again.

        Raises BrokerUnavailable; StartupError when Redis is not to be trusted at all.
        """
        try:
            found = await incarnation(self.client.pipeline(transaction=True), self.deployment_id)
        except AuthenticationError as error:
            raise StartupError(
                f"Redis refused WAYMARK_REDIS_URL's credentials: {error}."
            ) from error
        except (RedisError, OSError) as error:
            raise BrokerUnavailable(f"Redis: {error}") from error
        if found == self.known_incarnation:
            return
        async with self.database.begin() as session:
            rearmed = await outbox.rearm_all(session, found)
        self.known_incarnation = found
        if rearmed is not None:
            say = log.warning if rearmed else log.info
            say("redis_memory_is_new", incarnation=found, rearmed=rearmed)
            metrics.REARMED.labels("memory_lost").inc(rearmed)

    async def return_expired_leases(self) -> None:
        async with self.database.begin() as session:
            ended = await outbox.return_expired(session, self.settings.max_takeovers, PASS_LIMIT)
        for task in ended:
            log.warning("lease_expired", task_id=task["id"], requeued=task["requeued"])

    async def ring_again(self) -> None:
        patience = timedelta(seconds=self.settings.redeliver_after)
        async with self.database.begin() as session:
            rearmed = await outbox.rearm_unanswered(session, patience, PASS_LIMIT)
        if rearmed:
            log.warning("doorbells_unanswered", task_ids=[str(one) for one in rearmed])
            metrics.REARMED.labels("unanswered").inc(len(rearmed))
