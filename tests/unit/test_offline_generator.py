"""Step by step the generator makes the plan that the planner makes at once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from shared.errors import Permanent
from shared.roadmap import Level, RoadmapRequest
from shared.settings import Settings
from tests.unit.plans import CATALOG, TODAY
from worker_service.generators import choose
from worker_service.generators.offline import plan
from worker_service.generators.offline.generator import OfflineGenerator
from worker_service.generators.port import Call, Job, Output, Reached, StepFailed
from worker_service.generators.unkept import UnkeptSteps


class StepsInJson:
    """Hands on every output as a later attempt reads it, and remembers the jobs."""

    def __init__(self) -> None:
        self.jobs: list[Job[Any]] = []  # Any: each job has a shape of its own
        self.partials: list[Mapping[str, Any]] = []  # Any: as the port has it

    async def run(self, job: Job[Output]) -> Output:
        output = await job.work(Call(job.step.name))
        self.jobs.append(job)
        self.partials += json.loads(json.dumps(list(job.partials(output))))
        return job.step.shape.model_validate_json(output.model_dump_json())

    async def run_all(
        self, jobs: Sequence[Job[Output]], *, at_once: int, span: tuple[int, int], unit: str
    ) -> list[Output | StepFailed]:
        return [await self.run(job) for job in jobs]


REQUESTS = [
    *(RoadmapRequest(goal=goal.name) for goal in CATALOG.goals.values()),
    *(RoadmapRequest(goal="FastAPI and Docker", level=level) for level in Level),
    RoadmapRequest(goal="学习机器学习", language="zh", weeks=30),
    RoadmapRequest(
        goal="Backend with Python without Docker",
        known_topics=("loops",),
        exclude=("linting", "redis"),
        weeks=12,
    ),
    RoadmapRequest(goal="FastAPI for my hospital", start_date=date(2031, 5, 5)),
]


@pytest.mark.parametrize("asked", REQUESTS, ids=lambda one: f"{one.goal}, {one.level}")
async def test_step_by_step_the_same_roadmap_is_made(asked: RoadmapRequest) -> None:
    at_once = plan(asked, today=TODAY).model_dump_json()
    for steps in (UnkeptSteps(), StepsInJson()):
        made = await OfflineGenerator().generate(asked, today=TODAY, steps=steps)
        assert made.model_dump_json() == at_once


async def test_the_steps_are_free_and_tell_how_far_the_plan_is() -> None:
    steps = StepsInJson()
    await OfflineGenerator().generate(RoadmapRequest(goal="Git"), today=TODAY, steps=steps)
    assert [(job.step.name, job.reached) for job in steps.jobs] == [
        ("understand", Reached(10, "goal matched")),
        ("design", Reached(60, "plan made")),
        ("content", Reached(95, "content added")),
    ]
    assert not any(job.step.paid for job in steps.jobs)


async def test_the_stages_are_shown_before_their_content_is_there() -> None:
    steps = StepsInJson()
    roadmap = await OfflineGenerator().generate(
        RoadmapRequest(goal="SQL"), today=TODAY, steps=steps
    )
    assert steps.partials == [
        {
            "id": stage.id,
            "name": stage.name,
            "week_from": stage.week_from,
            "week_to": stage.week_to,
            "hours": stage.hours,
            "outcome": stage.outcome,
            "concepts": [one.name for module in stage.modules for one in module.concepts],
        }
        for stage in roadmap.stages
    ]


@pytest.mark.parametrize(
    ("goal", "level", "day"),
    [
        ("SQL", Level.BEGINNER, TODAY),
        ("Git", Level.ADVANCED, TODAY),
        ("Git", Level.BEGINNER, TODAY + timedelta(days=1)),
    ],
)
async def test_what_changes_the_plan_changes_the_inputs_of_each_step(
    goal: str, level: Level, day: date
) -> None:
    usual, other = StepsInJson(), StepsInJson()
    await OfflineGenerator().generate(
        RoadmapRequest(goal="Git", weeks=20), today=TODAY, steps=usual
    )
    changed = RoadmapRequest(goal=goal, level=level, weeks=20)
    await OfflineGenerator().generate(changed, today=day, steps=other)
    for one, another in zip(usual.jobs, other.jobs, strict=True):
        assert json.dumps(one.inputs) != json.dumps(another.inputs)
        assert one.inputs["catalog_version"] == CATALOG.version


async def test_step_by_step_an_uncovered_goal_is_refused_as_well() -> None:
    request = RoadmapRequest(goal="Knit a sweater")
    with pytest.raises(Permanent) as refusal:
        await OfflineGenerator().generate(request, today=TODAY, steps=UnkeptSteps())
    assert refusal.value.code == "goal_not_covered"
    assert refusal.value.extra["nearest"]


# --- the choice ----------------------------------------------------------------------------------


def test_without_a_model_the_offline_generator_is_chosen() -> None:
    chosen = choose(Settings(llm_model=None), Redis())
    assert isinstance(chosen, OfflineGenerator)


@pytest.mark.parametrize("per_minute", [None, 60])
def test_with_a_model_the_offline_generator_is_not_the_first_choice(per_minute: int | None) -> None:
    named = Settings(llm_model="small", llm_calls_per_minute=per_minute)
    assert not isinstance(choose(named, Redis()), OfflineGenerator)
