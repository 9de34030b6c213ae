"""A whole worker process whose generator asks a model, once or several times, one after the other.

``WAYMARK_LLM_SIDE_BY_SIDE`` says how many times: here nothing is asked side by side.
"""

from __future__ import annotations

import sys
from datetime import date

from redis.asyncio import Redis

from benchmarks.no_cost_worker import smallest
from shared.roadmap import Roadmap, RoadmapRequest
from shared.settings import Settings
from worker_service import __main__ as worker
from worker_service.generators.llm.model import Model, Prompt
from worker_service.generators.llm.shapes import Understanding
from worker_service.generators.port import Call, Job, RoadmapGenerator, Step, Steps


class Asking:
    def __init__(self, settings: Settings) -> None:
        self.model = Model(settings)
        self.times = settings.llm_side_by_side
        self.roadmap = smallest()

    async def generate(self, request: RoadmapRequest, *, today: date, steps: Steps) -> Roadmap:
        prompt = Prompt("Say what the learner wants.", {"goal": request.goal})

        async def ask(call: Call) -> Understanding:
            return await self.model.ask(Understanding, prompt, call)

        for number in range(self.times):
            step = Step(name=f"ask:{number}", shape=Understanding, paid=True)
            await steps.run(Job(step=step, inputs={"goal": request.goal}, work=ask))
        return self.roadmap


def _choose(settings: Settings, _client: Redis) -> RoadmapGenerator:
    return Asking(settings)


if __name__ == "__main__":
    sys.exit(worker.main(_choose))
