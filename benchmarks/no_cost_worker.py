"""A whole worker process, as it is, with a generator that costs nothing: one free step."""

from __future__ import annotations

import sys
from datetime import date

from pydantic import BaseModel

from shared.roadmap import Roadmap, RoadmapRequest
from tests.factories import small_roadmap
from worker_service import __main__ as worker
from worker_service.generators.port import Call, Job, RoadmapGenerator, Step, Steps


class Nothing(BaseModel):
    """An output of hardly any size."""


NOTHING = Step(name="nothing", shape=Nothing)


class NoCost:
    """The smallest roadmap, after the smallest step."""

    def __init__(self) -> None:
        self.roadmap = smallest()

    async def generate(self, request: RoadmapRequest, *, today: date, steps: Steps) -> Roadmap:
        await steps.run(Job(step=NOTHING, inputs={"goal": request.goal}, work=_nothing))
        return self.roadmap


async def _nothing(_call: Call) -> Nothing:
    return Nothing()


def smallest() -> Roadmap:
    """Made once: it is the same for every task."""
    return small_roadmap(RoadmapRequest(goal="Nothing"), today=date(2030, 1, 1))


def _choose(*_: object) -> RoadmapGenerator:
    return NoCost()


if __name__ == "__main__":
    sys.exit(worker.main(_choose))
