"""★ DO IT ONCE: find the task, take its lease, generate, commit the one outcome."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar
from uuid import UUID

import structlog
from pydantic import ValidationError

from shared import logs, metrics
from shared.backoff import exponential, linear
from shared.database import reason, retriable
from shared.errors import Permanent, TaskError, Transient
from shared.failpoints import failpoint
from shared.messages import Doorbell
from shared.roadmap import Roadmap, RoadmapRequest
from shared.settings import Settings
from worker_service.generators import RoadmapGenerator
from worker_service.heartbeat import Heartbeat, LetGo
from worker_service.leases import Lease, Leases

log = structlog.get_logger()
Outcome = TypeVar("Outcome")


class Generation:
    """What a doorbell sets off. It may ring twice, late, or for nothing: the lease decides."""

    def __init__(
        self,
        settings: Settings,
        leases: Leases,
        heartbeat: Heartbeat,
        generator: RoadmapGenerator,
        deployment_id: UUID,
    ) -> None:
        self.settings = settings
        self.leases = leases
        self.heartbeat = heartbeat
        self.generator = generator
        self.deployment_id = deployment_id

    async def answer(self, doorbell: Doorbell) -> None:
        """Never raises for what can happen: retries live in PostgreSQL, not in Redis."""
        if doorbell.deployment_id != self.deployment_id:
            await self._refuse(doorbell)
        elif lease := await self._find_and_take(doorbell):
            await self._run(lease)

    async def _run(self, lease: Lease) -> None:
        try:
            async with self.heartbeat.held(lease):
                roadmap = await self._generate(lease)
        except LetGo as let_go:
            await self._leave(lease, let_go)
        except TaskError as error:
            await self._fail_or_retry(lease, error)
        else:
            await self._complete(lease, roadmap)

    # --- find and take ---

    async def _find_and_take(self, doorbell: Doorbell) -> Lease | None:
        """The lease, or None if there is nothing to do. A task that is not there is looked for
        again: ten times, 200 ms × n and up to 100 ms of chance apart, unless set otherwise."""
        task_id, settings = doorbell.task_id, self.settings
        for looks in range(1, settings.lookup_tries + 1):
            lease = await self._persist(
                lambda: self.leases.acquire(task_id, settings.max_takeovers)
            )
            if lease is not None:
                self._report_start(lease, doorbell)
                return lease
            seen = await self._persist(lambda: self.leases.sight(task_id))
            if seen is not None and not seen.due:
                log.info("doorbell_without_work", task_id=task_id, status=seen.status)
                return None
            chance = random.random()  # noqa: S311 - jitter
            pause = linear(looks, settings.lookup_step, settings.lookup_jitter, chance)
            log.warning("task_not_taken_yet", task_id=task_id, seen=bool(seen), looks=looks)
            await asyncio.sleep(pause)
        if seen is None:
            await self._record_missing(doorbell)
        return None

    async def _record_missing(self, doorbell: Doorbell) -> None:
        await self._persist(lambda: self.leases.bury(doorbell, "task_missing"))
        metrics.TASK_MISSING.inc()
        log.error("task_missing", task_id=doorbell.task_id, looks=self.settings.lookup_tries)

    def _report_start(self, lease: Lease, doorbell: Doorbell) -> None:
        metrics.STARTED.labels("takeover" if lease.takeovers else "attempt").inc()
        log.info(
            logs.TASK_FOUND,
            task_id=lease.task_id,
            attempt=lease.attempts,
            takeovers=lease.takeovers,
            lease_token=lease.token,
            traceparent=doorbell.traceparent,
        )

    async def _refuse(self, doorbell: Doorbell) -> None:
        await self._persist(lambda: self.leases.bury(doorbell, "other_deployment"))
        log.error("message_refused", task_id=doorbell.task_id, deployment_id=doorbell.deployment_id)

    # --- generate and commit ---

    async def _generate(self, lease: Lease) -> Roadmap:
        await failpoint("worker.generating")
        try:
            request = RoadmapRequest.model_validate_json(json.dumps(lease.input))
        except ValidationError as error:
            broken = error.errors(include_input=False, include_url=False)
            log.error("input_unreadable", task_id=lease.task_id, errors=broken)
            raise Permanent(
                "This release cannot read the task's input. Submit it again.",
                code="input_unreadable",
            ) from error
        try:
            async with asyncio.timeout(self.settings.generation_timeout) as limit:
                return await self.generator.generate(request, today=lease.accepted_on)
        except TaskError:
            raise
        except Exception as error:
            if limit.expired():
                raise Transient("The generation took too long.", code="too_slow") from error
            # A fault of ours, or a library's: another attempt may do better, the text is logged.
            log.exception("generation_broke", task_id=lease.task_id)
            raise Transient("The generator broke; the error is logged.", code="internal") from error

    async def _complete(self, lease: Lease, roadmap: Roadmap) -> None:
        await failpoint("worker.generated")
        won = await self._persist(lambda: self.leases.complete(lease, roadmap))
        await failpoint("worker.completed")
        if self._still_ours(lease, won, "succeeded"):
            log.info(logs.TASK_SUCCEEDED, task_id=lease.task_id, lease_token=lease.token)

    async def _fail_or_retry(self, lease: Lease, error: TaskError) -> None:
        about = {"task_id": lease.task_id, "code": error.code, "detail": error.detail}
        if isinstance(error, Permanent) or lease.attempts >= self.settings.max_attempts:
            won = await self._persist(lambda: self.leases.fail(lease, error))
            if self._still_ours(lease, won, "failed"):
                log.warning("task_failed", **about)
        else:
            base, cap = self.settings.retry_base, self.settings.retry_cap
            delay = exponential(lease.attempts, base, cap, random.random())  # noqa: S311 - jitter
            won = await self._persist(lambda: self.leases.requeue(lease, error, delay))
            if self._still_ours(lease, won, "retrying"):
                log.warning("task_retrying", **about, delay=delay)

    async def _leave(self, lease: Lease, let_go: LetGo) -> None:
        stopping = let_go.cause == "stopping"
        won = stopping and await self._persist(lambda: self.leases.hand_over(lease))
        if self._still_ours(lease, won, "handed_over"):
            log.info("task_handed_over", task_id=lease.task_id)

    def _still_ours(self, lease: Lease, won: bool, outcome: str) -> bool:
        """Count what became of a lease. If a write was fenced off, the row is the truth."""
        metrics.ENDED.labels(outcome if won else "fenced").inc()
        if not won:
            log.warning("lease_not_ours", task_id=lease.task_id, lease_token=lease.token)
        return won

    async def _persist(self, unit: Callable[[], Awaitable[Outcome]]) -> Outcome:
        """Repeat a guarded unit of work over lost connections, as long as a lease would last.

        Each is safe to repeat after a COMMIT of unknown outcome: its guard then matches nothing.
        """
        deadline = time.monotonic() + self.settings.lease
        tries = 0
        while True:
            try:
                return await unit()
            except Exception as error:
                tries += 1
                if not retriable(error) or time.monotonic() > deadline:
                    raise
                log.warning("database_waits", tries=tries, error=reason(error))
                await asyncio.sleep(exponential(tries, 0.1, 2, random.random()))  # noqa: S311 - jitter
