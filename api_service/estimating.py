"""What a submission would come to, before it is made: its plan, and what a model would take."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime

from api_service.model_costs import ModelCosts
from api_service.planner import Plan, Planner, Refusal
from api_service.schemas import TaskSubmission
from shared.roadmap import RoadmapRequest
from shared.views import Estimate, TaskFailure, Validation

USUAL_CONCEPTS = 30
USUAL_HOURS = 2.5
"""Of a concept."""

CONCEPTS_IN_STAGE = 8

BY_CATALOG = "the catalog's plan"
BY_GUESS = "a plan of usual size, as the catalog has none for this goal"


class Estimates:
    """Plans come from the catalog, also where a model will make the roadmap: of like size."""

    def __init__(self, planner: Planner, costs: ModelCosts) -> None:
        self.planner = planner
        self.costs = costs

    async def validation_of(self, body: TaskSubmission) -> Validation:
        """Raises Problem when the planner cannot answer."""
        today = datetime.now(UTC).date()
        normalized = body.model_dump(mode="json")
        match await self.planner.plan(normalized["input"], today):
            case Plan() as plan:
                estimate = await self._estimate(plan, BY_CATALOG)
            case Refusal(error) if not self.costs.model:
                problem = TaskFailure.model_validate(error)
                return Validation(normalized=normalized, estimate=None, problem=problem)
            case Refusal():  # a model is asked for whatever the catalog does not cover
                estimate = await self._estimate(usual_plan(body.input, today), BY_GUESS)
        return Validation(normalized=normalized, estimate=estimate)

    async def _estimate(self, plan: Plan, source: str) -> Estimate:
        return Estimate(
            goal=plan.goal,
            feasible=plan.feasible,
            stages=plan.stages,
            concepts=plan.concepts,
            hours=plan.hours,
            weeks=plan.weeks,
            model=await self.costs.of(plan.concepts, source),
        )


def usual_plan(request: RoadmapRequest, today: date) -> Plan:
    """For a goal of which nothing is known, fitted to the learner's time as a model is told to."""
    pace, weeks = request.hours_per_week, request.weeks_from(request.start_date or today)
    usual = USUAL_CONCEPTS * USUAL_HOURS
    hours = usual if weeks is None else min(usual, weeks * pace)
    concepts = max(1, round(hours / USUAL_HOURS))
    return Plan(
        goal=request.goal,
        feasible=True,
        stages=math.ceil(concepts / CONCEPTS_IN_STAGE),
        concepts=concepts,
        hours=hours,
        weeks=math.ceil(hours / pace),
    )
