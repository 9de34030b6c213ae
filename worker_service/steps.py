"""Steps of a generation, paid once: kept outputs are read, the others are run and kept."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import structlog
from pydantic import ValidationError

from shared import metrics
from shared.database import repeated
from shared.errors import Permanent, TaskError, Transient
from shared.failpoints import failpoint
from shared.settings import Settings
from worker_service.generators.port import Call, Job, Output, Reached, StepFailed
from worker_service.heartbeat import Heartbeat, LetGo
from worker_service.leases import Lease
from worker_service.stepbook import Entry, Kept, Key, StepBook

log = structlog.get_logger()

NOTICE = 1.0
"""Seconds for writing down what an interrupted call took, where PostgreSQL is away."""

Event = tuple[str, dict[str, Any]]


class TaskSteps:
    """The port's ``Steps`` for one task, under one lease."""

    def __init__(
        self, lease: Lease, book: StepBook, heartbeat: Heartbeat, settings: Settings
    ) -> None:
        self.lease = lease
        self.book = book
        self.heartbeat = heartbeat
        self.settings = settings
        self._kept: dict[Key, Kept] | None = None if lease.ran_before else {}
        self.spent = 0.0

    async def run(self, job: Job[Output]) -> Output:
        return await self._run(job, lambda: job.reached)

    async def run_all(
        self, jobs: Sequence[Job[Output]], *, at_once: int, span: tuple[int, int], unit: str
    ) -> list[Output | StepFailed]:
        side_by_side = _SideBySide(len(jobs), asyncio.Semaphore(at_once), span, unit)
        async with asyncio.TaskGroup() as group:
            begun = [group.create_task(self._one_of(job, side_by_side)) for job in jobs]
        results = [one.result() for one in begun]
        if side_by_side.interruptions:
            raise side_by_side.first
        return [one for one in results if one is not None]

    async def _one_of(self, job: Job[Output], beside: _SideBySide) -> Output | StepFailed | None:
        """None if it was interrupted, or not begun because others were."""
        async with beside.room:
            if beside.is_over:
                return None
            turn = _Turn(beside)
            result: Output | StepFailed
            try:
                result = await self._run(job, turn.reached)
            except StepFailed as failed:
                result = failed
            except Exception as interruption:  # noqa: BLE001 - raised when all have ended
                beside.interruptions.append(interruption)
                return None
            turn.end()
            return result

    async def _run(self, job: Job[Output], reached: Callable[[], Reached | None]) -> Output:
        key = Key.of(job)
        kept = (await self._known()).get(key)
        if kept is not None and kept.output is not None:
            return self._read(job, kept.output)
        self.heartbeat.boundary(self.lease)
        failures = kept.failures if kept else 0
        if failures >= self.settings.step_tries:
            raise StepFailed(key.step, _last_error(kept))
        output: Output = await _Run(self, job, key, failures).finish(reached)
        return output

    async def _known(self) -> dict[Key, Kept]:
        if self._kept is None:
            self._kept = await repeated(
                lambda: self.book.kept(self.lease.task_id), self.settings.lease
            )
            self.spent = sum(kept.cost for kept in self._kept.values())
        return self._kept

    def _read(self, job: Job[Output], output: str) -> Output:
        try:
            return job.step.shape.model_validate_json(output)
        except ValidationError as error:
            # Whoever changes a shape raises its version; else nobody can tell old from new.
            log.error("step_unreadable", task_id=self.lease.task_id, step=job.step.name)
            detail = "This release cannot read a kept step of the task. Submit it again."
            raise Permanent(detail, code="step_unreadable", step=job.step.name) from error

    async def record(self, key: Key, patience: float | None = None, **what: Any) -> None:
        """Raises LetGo when the lease is no longer ours: then nothing was written.

        ``patience``: seconds that it is tried over lost connections, a lease's length if None.
        """
        entry = Entry(
            task_id=self.lease.task_id,
            token=self.lease.token,
            step=key.step,
            version=key.version,
            input_hash=key.input_hash,
            **what,
        )
        within = patience or self.settings.lease
        if not await repeated(lambda: self.book.record(entry, patience), within):
            raise LetGo("lost")


@dataclass(slots=True)
class _SideBySide:
    """What jobs that run side by side know of each other."""

    total: int
    room: asyncio.Semaphore
    span: tuple[int, int]
    unit: str
    done: int = 0
    interruptions: list[Exception] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        """No more is begun after what the others would run into as well."""
        return not all(isinstance(one, Transient) and one.charged for one in self.interruptions)

    @property
    def first(self) -> Exception:
        """Who was told to stop stops, whatever else went wrong."""
        told = (one for one in self.interruptions if isinstance(one, LetGo))
        return next(told, self.interruptions[0])

    def reached(self) -> Reached:
        first, last = self.span
        percent = first + (last - first) * self.done // self.total
        return Reached(percent, f"{self.done} of {self.total} {self.unit}")


@dataclass(slots=True)
class _Turn:
    """Of one job among many; it is counted once, before its progress is told."""

    beside: _SideBySide
    ended: bool = False

    def end(self) -> None:
        self.beside.done += not self.ended
        self.ended = True

    def reached(self) -> Reached:
        self.end()
        return self.beside.reached()


class _Run:
    """One try of a step: begun, run, and whatever comes of it written down."""

    def __init__(self, steps: TaskSteps, job: Job[Any], key: Key, failures: int) -> None:
        self.steps = steps
        self.job = job
        self.key = key
        self.failures = failures
        settings = steps.settings
        left = math.inf if settings.llm_budget is None else settings.llm_budget - steps.spent
        self.call = Call(f"{steps.lease.task_id}:{key.step}:{key.input_hash.hex()[:32]}", left=left)

    @property
    def kind(self) -> str:
        """Its name without the part of the roadmap that it is about."""
        return self.key.step.partition(":")[0]

    async def finish(self, reached: Callable[[], Reached | None]) -> Any:
        """Any: the job's own output."""
        if self.job.step.paid:
            await self.steps.record(self.key, tries=1, events=_told(self._started()))
            await failpoint("worker.step_begun")
        begun = time.perf_counter()
        try:
            output = await self._work()
        except TaskError as error:
            seconds = time.perf_counter() - begun
            if let_go := self.steps.heartbeat.let_go_of(self.steps.lease):
                await self._note_usage(seconds)
                raise let_go from error  # what a call makes of being broken off is no failure
            await self._to_the_end(self._fail(error, seconds))
            raise
        except asyncio.CancelledError:
            await self._note_usage(time.perf_counter() - begun)
            raise
        metrics.STEPS.labels(self.kind, "completed").inc()
        await failpoint("worker.step_answered")
        await self._to_the_end(self._keep(output, reached(), time.perf_counter() - begun))
        await failpoint("worker.step_kept")
        return output

    async def _to_the_end(self, write: Coroutine[Any, Any, None]) -> None:
        """What was paid for is written down also when the work is stopped just then."""
        writing = asyncio.create_task(write)
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.wait({writing}, timeout=NOTICE)
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)  # the stop comes first
            raise

    async def _work(self) -> Any:
        try:
            async with asyncio.timeout(self.steps.settings.step_timeout) as limit:
                return await self.job.work(self.call)
        except TaskError:
            raise
        except Exception as error:
            if limit.expired():
                detail = f"The step {self.key.step} took too long."
                raise Transient(detail, code="too_slow") from error
            # A fault of ours, or a library's: another try may do better, the text is logged.
            log.exception("step_broke", task_id=self.steps.lease.task_id, step=self.key.step)
            detail = f"The step {self.key.step} broke; the error is logged."
            raise Transient(detail, code="internal") from error

    async def _keep(self, output: Any, reached: Reached | None, seconds: float) -> None:
        data = {"step": self.key.step, "seconds": round(seconds, 3), **self._usage()}
        events: list[Event] = [("step.completed", data)]
        if not self.job.step.paid:  # begun and completed in one: nothing was lost if it was not
            events.insert(0, self._started())
        if reached is not None:
            data["progress"] = _progress(reached.percent, reached.message)
        events += [("roadmap.partial", dict(one)) for one in self.job.partials(output)]
        await self.steps.record(
            self.key,
            tries=int(not self.job.step.paid),
            output=output.model_dump_json(),
            seconds=seconds,
            events=_told(*events),
            progress=reached.percent if reached else None,
            message=reached.message if reached else None,
            **self._book_usage(),
        )

    async def _fail(self, error: TaskError, seconds: float) -> None:
        """Raises StepFailed when no other try is to come; else the error goes on as it is."""
        lease, settings = self.steps.lease, self.steps.settings
        charged = lease.is_charged(error, settings.llm_patience)
        failures = self.failures + int(charged)
        last = failures >= settings.step_tries or lease.attempts >= settings.max_attempts
        final = isinstance(error, Permanent) or (charged and last)
        metrics.STEPS.labels(self.kind, "failed" if final else "retrying").inc()
        data = {"step": self.key.step, "charged": charged, **error.as_dict(), **self._usage()}
        await self.steps.record(
            self.key,
            failures=int(charged),
            error=json.dumps(error.as_dict()),
            seconds=seconds,
            events=_told(("step.failed" if final else "step.retrying", data)),
            **self._book_usage(),
        )
        if final:
            raise StepFailed(self.key.step, error) from error

    async def _note_usage(self, seconds: float) -> None:
        """What an interrupted call took is known, and kept, even if nobody else is to know."""
        if not self.call.usage.calls:
            return
        try:
            await self.steps.record(self.key, NOTICE, seconds=seconds, **self._book_usage())
        except LetGo:
            log.info("usage_not_kept", task_id=self.steps.lease.task_id, step=self.key.step)
        except Exception:
            # The work is being stopped, which this must not turn into something else.
            log.exception("usage_not_kept", task_id=self.steps.lease.task_id, step=self.key.step)

    def _started(self) -> Event:
        return "step.started", {"step": self.key.step, "attempt": self.steps.lease.attempts}

    def _book_usage(self) -> dict[str, Any]:
        usage = self.call.usage
        self.steps.spent += usage.cost
        metrics.MODEL_CALLS.inc(usage.calls)
        metrics.MODEL_TOKENS.labels("in").inc(usage.tokens_in)
        metrics.MODEL_TOKENS.labels("out").inc(usage.tokens_out)
        metrics.MODEL_COST.inc(usage.cost)
        return asdict(usage)

    def _usage(self) -> dict[str, Any]:
        usage = self.call.usage
        return asdict(usage) if usage.calls else {}


def _progress(percent: int, message: str | None) -> dict[str, Any]:
    """As clients see it, in events and in tasks."""
    return {"completed": percent, "total": 100, "unit": "percent", "message": message}


def _told(*events: Event) -> str:
    return json.dumps(events)


def _last_error(kept: Kept | None) -> TaskError:
    """The error that spent the last try."""
    error = dict(kept.error or {}) if kept else {}
    detail = str(error.get("detail", "The step failed too often."))
    return Permanent(detail, code=str(error.get("code", "step_failed")))
