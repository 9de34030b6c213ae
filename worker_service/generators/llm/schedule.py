"""From an outline without critical findings to a roadmap: hours, weeks, totals, all ours."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import date

from shared.roadmap import (
    MOST_HOURS_A_WEEK,
    Concept,
    Fit,
    GeneratedBy,
    Module,
    Prerequisite,
    Roadmap,
    RoadmapRequest,
    Stage,
)
from worker_service.generators.offline.calendar import Calendar, Slot, day_after
from worker_service.generators.offline.voices import voice_of

from .outline import Outline, PlannedConcept, PlannedModule, PlannedStage
from .shapes import Understanding


def schedule(
    outline: Outline,
    understanding: Understanding,
    request: RoadmapRequest,
    *,
    start: date,
    generated_by: GeneratedBy,
    warnings: Sequence[str] = (),
) -> Roadmap:
    """The roadmap but for its content. The order of study is the outline's.

    Raises Permanent when the plan would end after the year 9999.
    """
    concepts = list(outline.concepts())
    hours = [half_hours(one.hours) for one in concepts]
    calendar = Calendar(start, request.hours_per_week, request.study_days)
    slots = list(map(calendar.take, hours))
    weeks = slots[-1].week_to
    shown = map(_concept, concepts, hours, slots)
    return Roadmap(
        title=understanding.title,
        summary=understanding.summary,
        goal=request.goal,
        level=request.level,
        language=request.language,
        start_date=start,
        end_date=day_after(start, weeks * 7 - 1),
        total_hours=sum(hours),
        weeks=weeks,
        study_days=request.study_days,
        stages=tuple(_stage(stage, shown) for stage in outline.stages),
        fit=_fit(request, start, sum(hours), weeks),
        warnings=tuple(warnings),
        generated_by=generated_by,
    )


def half_hours(hours: float) -> float:
    """To the nearest half hour, halves up, and at least one of them."""
    return max(0.5, math.floor(hours * 2 + 0.5) / 2)


def _stage(stage: PlannedStage, shown: Iterator[Concept]) -> Stage:
    modules = tuple(_module(module, shown) for module in stage.modules)
    return Stage(
        id=stage.id,
        name=stage.name,
        description=stage.description,
        outcome=stage.outcome,
        hours=sum(module.hours for module in modules),
        week_from=modules[0].concepts[0].week_from,
        week_to=modules[-1].concepts[-1].week_to,
        modules=modules,
        milestone=stage.milestone,
    )


def _module(module: PlannedModule, shown: Iterator[Concept]) -> Module:
    """Takes as many concepts from ``shown`` as it has."""
    concepts = tuple(next(shown) for _ in module.concepts)
    return Module(
        id=module.id,
        name=module.name,
        description=module.description,
        hours=sum(one.hours for one in concepts),
        concepts=concepts,
    )


def _concept(one: PlannedConcept, hours: float, slot: Slot) -> Concept:
    return Concept(
        id=one.id,
        name=one.name,
        description=one.description,
        why=one.why,
        kind=one.kind,
        difficulty=one.difficulty,
        hours=hours,
        week_from=slot.week_from,
        week_to=slot.week_to,
        starts_on=slot.starts_on,
        ends_on=slot.ends_on,
        prerequisites=tuple(Prerequisite(concept_id=need) for need in one.needs),
        outcomes=one.outcomes,
        content="missing",
    )


def _fit(request: RoadmapRequest, start: date, hours: float, weeks: int) -> Fit:
    asked = request.weeks_from(start)
    feasible = asked is None or weeks <= asked
    pace = math.ceil(hours / (asked or 1) * 2) / 2
    return Fit(
        hours_per_week=request.hours_per_week,
        requested_weeks=asked,
        planned_hours=hours,
        planned_weeks=weeks,
        feasible=feasible,
        suggestion=None
        if feasible
        else voice_of(request.language).suggestion(
            pace if pace <= MOST_HOURS_A_WEEK else None,
            day_after(start, weeks * 7 - 1),
            request.hours_per_week,
        ),
    )
