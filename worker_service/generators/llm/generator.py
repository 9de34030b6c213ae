"""Plans with a model: it finds the words and proposes the order; all that counts is computed."""

from __future__ import annotations

from datetime import date

import structlog

from shared.errors import GoalNotCovered, Permanent
from shared.roadmap import GeneratedBy, Roadmap, RoadmapRequest
from worker_service.generators.offline.catalog import Catalog
from worker_service.generators.offline.reading import load_catalog
from worker_service.generators.partials import partials
from worker_service.generators.port import (
    Call,
    Job,
    Reached,
    RoadmapGenerator,
    Step,
    StepFailed,
    Steps,
)

from . import prompts, wording
from .asking import Asking
from .designing import Designing, NotDesigned
from .filling import fill
from .model import Model
from .outline import Outline, shelf_for
from .schedule import schedule
from .shapes import Lesson, Understanding

log = structlog.get_logger()

NAME = "llm"
VERSION = "1"

SCHEDULE = Step(name="schedule", shape=Roadmap)
LESSONS = (40, 97)
"""Percent over which the lessons are written."""


class LlmGenerator:
    """Asks ``model``; what it cannot design is planned by ``fallback``, where that can.

    ``model_name`` is written into each roadmap; ``at_once`` lessons are asked for side by side.
    """

    def __init__(
        self, model: Model, fallback: RoadmapGenerator, *, model_name: str, at_once: int
    ) -> None:
        self.asking = Asking(model, model_name)
        self.fallback = fallback
        self.at_once = at_once
        self.catalog_version = load_catalog().version

    async def generate(self, request: RoadmapRequest, *, today: date, steps: Steps) -> Roadmap:
        catalog = load_catalog(request.language)
        shelf = shelf_for(catalog, request.goal)
        try:
            understanding = await self._understand(request, steps)
            outline = await Designing(request, understanding, shelf, self.asking, steps).outline()
        except (StepFailed, NotDesigned) as failed:
            return await self._without_model(request, today, steps, failed)
        start = request.start_date or today
        warnings = wording.kept_in_spite(outline, request, shelf)
        plan = await steps.run(self._schedule(request, understanding, outline, start, warnings))
        return await self._with_lessons(plan, catalog, shelf, steps)

    async def _understand(self, request: RoadmapRequest, steps: Steps) -> Understanding:
        prompt = prompts.understand(request)
        reached = Reached(5, "goal understood")
        job = self.asking.job("understand", Understanding, prompt, reached=reached)
        understanding = await steps.run(job)
        if not understanding.plannable:
            raise NotDesigned(wording.objection(understanding), code="goal_not_plannable")
        return understanding

    def _schedule(
        self,
        request: RoadmapRequest,
        understanding: Understanding,
        outline: Outline,
        start: date,
        warnings: list[str],
    ) -> Job[Roadmap]:
        by = GeneratedBy(
            name=NAME,
            version=VERSION,
            model=self.asking.model_name,
            catalog_version=self.catalog_version,
        )

        async def work(_call: Call) -> Roadmap:
            return schedule(
                outline, understanding, request, start=start, generated_by=by, warnings=warnings
            )

        return Job(
            step=SCHEDULE,
            inputs={
                "request": request.model_dump(mode="json"),
                "understanding": understanding.model_dump(mode="json"),
                "outline": outline.as_json(),
                "start": start.isoformat(),
                "generated_by": by.model_dump(mode="json"),
                "warnings": warnings,
            },
            work=work,
            reached=Reached(LESSONS[0], "weeks planned"),
            partials=partials,
        )

    async def _with_lessons(
        self, plan: Roadmap, catalog: Catalog, shelf: Catalog | None, steps: Steps
    ) -> Roadmap:
        concepts = list(plan.concepts())
        jobs = [
            self.asking.job(f"lesson:{one.id}", Lesson, prompts.lesson(plan, one))
            for one in concepts
        ]
        lessons = await steps.run_all(jobs, at_once=self.at_once, span=LESSONS, unit="lessons")
        by_id = {one.id: lesson for one, lesson in zip(concepts, lessons, strict=True)}
        return fill(plan, by_id, catalog, shelf)

    async def _without_model(
        self, request: RoadmapRequest, today: date, steps: Steps, failed: StepFailed | NotDesigned
    ) -> Roadmap:
        """The fallback's plan, with a warning. Raises the model's own error if it has none."""
        log.info("planned_without_model", code=failed.code)
        try:
            plan = await self.fallback.generate(request, today=today, steps=steps)
        except Permanent as refused:
            if refused.code != GoalNotCovered.code:
                raise
            nearest = refused.extra.get("nearest", [])
            detail = wording.planned_by_nobody(failed, nearest)
            extra = {**failed.extra, "nearest": nearest}
            raise Permanent(detail, code=failed.code, **extra) from failed
        warnings = (*plan.warnings, wording.planned_without_model(failed))
        return plan.model_copy(update={"warnings": warnings})
