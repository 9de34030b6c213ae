"""A whole worker process, as it is, with a generator that costs nothing: one free step."""

from __future__ import annotations

import sys
from datetime import date

from pydantic import BaseModel

from shared.roadmap import (
    Concept,
    Fit,
    GeneratedBy,
    Level,
    Module,
    Roadmap,
    RoadmapRequest,
    Stage,
)
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
    concept = Concept(
        id="c",
        name="Concept",
        description="",
        why="",
        difficulty=1,
        hours=1,
        week_from=1,
        week_to=1,
        outcomes=("done",),
    )
    module = Module(id="m", name="Module", description="", hours=1, concepts=(concept,))
    return Roadmap(
        title="Roadmap",
        summary="",
        goal="goal",
        level=Level.BEGINNER,
        start_date=date(2030, 1, 1),
        end_date=date(2030, 1, 7),
        total_hours=1,
        weeks=1,
        stages=(
            Stage(
                id="s",
                name="Stage",
                description="",
                outcome="",
                hours=1,
                week_from=1,
                week_to=1,
                modules=(module,),
            ),
        ),
        fit=Fit(
            hours_per_week=1, requested_weeks=None, planned_hours=1, planned_weeks=1, feasible=True
        ),
        generated_by=GeneratedBy(name="nothing", version="1"),
    )


def _choose(*_: object) -> RoadmapGenerator:
    return NoCost()


if __name__ == "__main__":
    sys.exit(worker.main(_choose))
