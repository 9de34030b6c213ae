"""From a doorbell to a lease: the task is looked for, and taken if it is there and due."""

from __future__ import annotations

import asyncio
import random
from uuid import UUID

import structlog

from shared import logs, metrics
from shared.backoff import linear
from shared.database import repeated
from shared.messages import Doorbell
from shared.settings import Settings
from worker_service.leases import Lease, Leases, Sighting

log = structlog.get_logger()


class Finder:
    def __init__(self, settings: Settings, leases: Leases, deployment_id: UUID) -> None:
        self.settings = settings
        self.leases = leases
        self.deployment_id = deployment_id

    async def find(self, doorbell: Doorbell) -> Lease | Sighting | None:
        """The lease; a sighting of a task that may run here, but only alone; None if there is
        nothing to do. A task that is not there is looked for again: ten times, 200 ms × n and up
        to 100 ms of chance apart, unless set otherwise. What cannot be true is kept and refused.
        """
        if doorbell.deployment_id != self.deployment_id:
            await self._bury(doorbell, "other_deployment")
            log.error("message_refused", task_id=doorbell.task_id, of=doorbell.deployment_id)
            return None
        for looks in range(1, self.settings.lookup_tries + 1):
            if lease := await self.take(doorbell):
                return lease
            seen = await repeated(lambda: self.leases.sight(doorbell.task_id), self.settings.lease)
            if seen is not None and not seen.due:
                log.info("doorbell_without_work", task_id=doorbell.task_id, status=seen.status)
                return None
            if seen is not None and seen.suspect:
                return seen
            log.warning(
                "task_not_taken_yet", task_id=doorbell.task_id, seen=bool(seen), looks=looks
            )
            await self._pause(looks)
        if seen is None:
            await self._bury(doorbell, "task_missing")
            metrics.TASK_MISSING.inc()
            log.error("task_missing", task_id=doorbell.task_id, looks=looks)
        return None

    async def take(self, doorbell: Doorbell, *, alone: bool = False) -> Lease | None:
        lease = await repeated(
            lambda: self.leases.acquire(doorbell.task_id, alone=alone), self.settings.lease
        )
        if lease is not None:
            _report_start(lease, doorbell)
        return lease

    async def _pause(self, looks: int) -> None:
        settings = self.settings
        chance = random.random()  # noqa: S311 - jitter
        await asyncio.sleep(linear(looks, settings.lookup_step, settings.lookup_jitter, chance))

    async def _bury(self, doorbell: Doorbell, reason: str) -> None:
        await repeated(lambda: self.leases.bury(doorbell, reason), self.settings.lease)


def _report_start(lease: Lease, doorbell: Doorbell) -> None:
    metrics.STARTED.labels("takeover" if lease.takeovers else "attempt").inc()
    log.info(
        logs.TASK_FOUND,
        task_id=lease.task_id,
        attempt=lease.attempts,
        takeovers=lease.takeovers,
        lease_token=lease.token,
        traceparent=doorbell.traceparent,
    )
