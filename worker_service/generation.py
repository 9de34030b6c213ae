"""★ DO IT ONCE: find the task, take its lease, generate, commit the one outcome."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from uuid import UUID

import structlog
from pydantic import ValidationError

from shared import logs, metrics
from shared.backoff import exponential
from shared.database import Outcome, repeated
from shared.errors import DeadlineExceeded, Permanent, TaskError, Transient
from shared.failpoints import failpoint
from shared.messages import Doorbell
from shared.roadmap import Roadmap, RoadmapRequest
from shared.settings import Settings
from worker_service.finding import Finder
from worker_service.generators import RoadmapGenerator
from worker_service.heartbeat import Heartbeat, LetGo
from worker_service.leases import HandOver, Lease, Leases, Sighting
from worker_service.stepbook import StepBook
from worker_service.steps import TaskSteps

log = structlog.get_logger()


class Generation:
    """What a doorbell sets off. It may ring twice, late, or for nothing: the lease decides."""

    def __init__(
        self,
        settings: Settings,
        leases: Leases,
        book: StepBook,
        heartbeat: Heartbeat,
        generator: RoadmapGenerator,
        deployment_id: UUID,
    ) -> None:
        self.settings = settings
        self.leases = leases
        self.book = book
        self.heartbeat = heartbeat
        self.generator = generator
        self.finder = Finder(settings, leases, deployment_id)
        self._suspects: dict[UUID, Doorbell] = {}
        self._with_suspect = False

    async def answer(self, doorbell: Doorbell) -> None:
        """Never raises for what can happen: retries live in PostgreSQL, not in Redis."""
        match await self.finder.find(doorbell):
            case Lease() as lease:
                await self._run(lease)
            case Sighting():
                self._suspects[doorbell.task_id] = doorbell
                await self._run_suspects()

    async def _run_suspects(self) -> None:
        """One at a time, in one slot. None is leased while it waits: others may have room for it,
        and should this process end, its doorbell rings again."""
        if self._with_suspect:
            return
        self._with_suspect = True
        try:
            while self._suspects and not self.heartbeat.draining:
                doorbell = self._suspects.pop(next(iter(self._suspects)))
                if lease := await self.finder.take(doorbell, alone=True):
                    await self._run(lease)
        finally:
            self._with_suspect = False

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

    # --- generate ---

    async def _generate(self, lease: Lease) -> Roadmap:
        await failpoint("worker.generating")
        request = _read(lease)
        steps = TaskSteps(lease, self.book, self.heartbeat, self.settings)
        limit = asyncio.timeout(_seconds_left(lease, self.settings))
        try:
            async with limit:
                return await self.generator.generate(request, today=lease.accepted_on, steps=steps)
        except (TaskError, LetGo):
            raise
        except Exception as error:
            if limit.expired():
                raise _too_slow(lease) from error
            # A fault of ours, or a library's: another attempt may do better, the text is logged.
            log.exception("generation_broke", task_id=lease.task_id)
            raise Transient("The generator broke; the error is logged.", code="internal") from error

    # --- end ---

    async def _complete(self, lease: Lease, roadmap: Roadmap) -> None:
        await failpoint("worker.generated")
        won = await self._end(lease, "succeeded", lambda: self.leases.complete(lease, roadmap))
        await failpoint("worker.completed")
        if won:
            log.info(logs.TASK_SUCCEEDED, task_id=lease.task_id, lease_token=lease.token)

    async def _fail_or_retry(self, lease: Lease, error: TaskError) -> None:
        await failpoint("worker.failing")
        # Not the detail: it quotes the learner. It is kept with the task and its dead letter.
        about = {"task_id": lease.task_id, "code": error.code}
        if isinstance(error, Transient) and (pause := self._pause(lease, error)) is not None:
            charged = lease.is_charged(error, self.settings.llm_patience)
            won = await self._end(
                lease,
                "retrying",
                lambda: self.leases.requeue(lease, error, pause, charged=charged),
            )
            if won:
                log.warning("task_retrying", **about, delay=pause, charged=charged)
        elif await self._end(lease, "failed", lambda: self.leases.fail(lease, error)):
            log.warning("task_failed", **about)

    def _pause(self, lease: Lease, error: Transient) -> float | None:
        """Seconds until the next attempt; None if there is none to come."""
        charged = lease.is_charged(error, self.settings.llm_patience)
        if charged and lease.attempts >= self.settings.max_attempts:
            return None
        base, cap = self.settings.retry_base, self.settings.retry_cap
        # Not by attempts: one that is not charged is put off for longer each time, too.
        pause = exponential(lease.dispatch_no, base, cap, random.random())  # noqa: S311 - jitter
        return max(pause, error.retry_after or 0)

    async def _leave(self, lease: Lease, let_go: LetGo) -> None:
        match let_go.cause:
            case "canceled":
                if await self._end(lease, "canceled", lambda: self.leases.cancel(lease)):
                    log.info("task_canceled", task_id=lease.task_id)
            case "stopping":
                await self._hand_over(lease, "worker_stopping")
            case "lost":
                # Lapsed, and perhaps not taken: then nobody vanished, and it need not be swept.
                await self._hand_over(lease, "lease_lapsed")

    async def _hand_over(self, lease: Lease, reason: HandOver) -> None:
        if await self._end(lease, "handed_over", lambda: self.leases.hand_over(lease, reason)):
            log.info("task_handed_over", task_id=lease.task_id, reason=reason)

    async def _end(self, lease: Lease, outcome: str, write: Callable[[], Awaitable[bool]]) -> bool:
        """Count what became of a lease. Whatever a task comes to, a cancellation that was asked
        for before wins; if the write was fenced off, the row is the truth."""
        if await self._persist(write):
            metrics.ENDED.labels(outcome).inc()
            return True
        if await self._persist(lambda: self.leases.cancel(lease)):
            metrics.ENDED.labels("canceled").inc()
            log.info("task_canceled", task_id=lease.task_id)
        else:
            metrics.ENDED.labels("fenced").inc()
            log.warning("lease_not_ours", task_id=lease.task_id, lease_token=lease.token)
        return False

    async def _persist(self, unit: Callable[[], Awaitable[Outcome]]) -> Outcome:
        """Over lost connections, as long as a lease would last."""
        return await repeated(unit, self.settings.lease)


def _read(lease: Lease) -> RoadmapRequest:
    try:
        return RoadmapRequest.model_validate_json(lease.input)
    except ValidationError as error:
        broken = [f"{one['loc']}: {one['msg']}" for one in error.errors()]
        log.error("input_unreadable", task_id=lease.task_id, errors=broken)
        raise Permanent(
            "This release cannot read the task's input. Submit it again.", code="input_unreadable"
        ) from error


def _seconds_left(lease: Lease, settings: Settings) -> float:
    """For this attempt: until its own limit, or the task's deadline if that comes first."""
    if lease.seconds_left is None:
        return settings.generation_timeout
    return min(settings.generation_timeout, lease.taken_at + lease.seconds_left - time.monotonic())


def _too_slow(lease: Lease) -> TaskError:
    if lease.seconds_left is not None and time.monotonic() > lease.taken_at + lease.seconds_left:
        return DeadlineExceeded()
    return Transient("The generation took too long.", code="too_slow")
