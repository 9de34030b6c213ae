"""The port in memory: steps that are run and forgotten, for plans that no task stands behind."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from uuid import uuid4

from shared.errors import Permanent, TaskError
from worker_service.generators.port import Call, Job, Output, StepFailed, Usage


class UnkeptSteps:
    """The port's ``Steps`` without a database. Each step has one try: nobody comes for another.

    ``budget`` is the USD that all steps together may cost; ``usage`` is what they took so far.
    """

    def __init__(self, budget: float = math.inf) -> None:
        self.budget = budget
        self.usage = Usage()
        self._run_id = uuid4()

    async def run(self, job: Job[Output]) -> Output:
        """The output. Raises StepFailed for what is Permanent; anything else passes as it is."""
        call = Call(f"{self._run_id}:{job.step.name}", left=self.budget - self.usage.cost)
        try:
            return await job.work(call)
        except StepFailed:
            raise
        except Permanent as error:
            raise StepFailed(job.step.name, error) from error
        finally:
            self.usage += call.usage

    async def run_all(
        self, jobs: Sequence[Job[Output]], *, at_once: int, span: tuple[int, int], unit: str
    ) -> list[Output | StepFailed]:
        room = asyncio.Semaphore(at_once)
        interruptions: list[TaskError] = []

        async def one_of(job: Job[Output]) -> Output | StepFailed | None:
            async with room:
                if interruptions:
                    return None
                try:
                    return await self.run(job)
                except StepFailed as failed:
                    return failed
                except TaskError as interruption:
                    interruptions.append(interruption)
                    return None

        async with asyncio.TaskGroup() as group:
            begun = [group.create_task(one_of(job)) for job in jobs]
        if interruptions:
            raise interruptions[0]
        return [result for one in begun if (result := one.result()) is not None]
