"""Which memory of Redis may be published into, and what to do when it turns out to be a new one."""

from __future__ import annotations

from uuid import UUID

import structlog
from redis.exceptions import AuthenticationError, RedisError

from relay_service import outbox
from relay_service.publisher import BrokerUnavailable, Publisher
from shared import metrics
from shared.broker import incarnation
from shared.database import Database
from shared.errors import StartupError
from shared.messages import INCARNATION_KEY

log = structlog.get_logger()


class Trust:
    """Redis may forget everything, at any time. It is noticed here, and healed in one go."""

    def __init__(self, database: Database, publisher: Publisher, deployment_id: UUID) -> None:
        self.database = database
        self.publisher = publisher
        self.deployment_id = deployment_id
        self.incarnation: str | None = None

    def doubt(self) -> None:
        """Nothing more is known; the next check finds out."""
        self.incarnation = None

    async def check(self) -> None:
        """Ask Redis which memory it has; if it is a new one, ring all open doorbells again.

        Raises BrokerUnavailable; StartupError when Redis is not to be trusted at all.
        """
        try:
            if self.incarnation and await self._is_the_same():
                return
            found = await incarnation(
                self.publisher.client.pipeline(transaction=True), self.deployment_id
            )
        except AuthenticationError as error:
            raise StartupError(
                f"Redis refused WAYMARK_REDIS_URL's credentials: {error}."
            ) from error
        except (RedisError, OSError) as error:
            raise BrokerUnavailable(f"Redis: {error}") from error
        rearmed = await outbox.rearm_all(self.database, found)
        self.incarnation = found
        self.publisher.marker = found.partition(":")[2].encode()
        if rearmed is not None:
            say = log.warning if rearmed else log.info
            say("redis_memory_is_new", incarnation=found, rearmed=rearmed)
            metrics.REARMED.labels("memory_lost").inc(rearmed)

    async def _is_the_same(self) -> bool:
        """Two commands, once a second: a flush takes the marker, a restart or a failover from
        disk or from a stale replica keeps it, but has another run id."""
        pipeline = self.publisher.client.pipeline(transaction=False)
        pipeline.get(INCARNATION_KEY)
        pipeline.info("server")
        marker, server = await pipeline.execute()
        return bool(marker) and self.incarnation == f"{server['run_id']}:{marker.decode()}"
