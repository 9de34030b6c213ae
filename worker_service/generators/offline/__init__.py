"""The offline generator: a roadmap from the catalog alone, the same one for the same request."""

from __future__ import annotations

from datetime import date

from shared import roadmap
from shared.roadmap import Fit, GeneratedBy, Roadmap, RoadmapRequest

from . import wording
from .catalog import Catalog, Concept, load_catalog
from .content import contents_of, with_content
from .layout import Step, build_stages, fill_weeks, last_day
from .matching import Match, match_goal
from .ordering import arrange
from .planning import Selection, select

__all__ = ["design", "load_catalog", "plan"]

NAME = "offline"
VERSION = "2"


def plan(request: RoadmapRequest, *, today: date) -> Roadmap:
    """Plan the request. Pure: the same request, day and catalog give the same bytes.

    Raises GoalNotCovered when the catalog has no plan for the goal, and Permanent when nothing is
    left to learn.
    """
    catalog = load_catalog()
    match = match_goal(catalog, request.goal)
    designed = design(catalog, request, match, today=today)
    return with_content(designed, contents_of(catalog, designed))


def design(catalog: Catalog, request: RoadmapRequest, match: Match, *, today: date) -> Roadmap:
    """The whole plan but for the content of its concepts.

    Raises Permanent when nothing is left to learn, or when it would end after the year 9999.
    """
    selection = select(catalog, request, match)
    order = arrange(catalog, {one: selection.hours[one] for one in selection.kinds})
    steps = _steps(catalog, request, selection, order)
    fit = _fit(request, selection, steps)
    start = request.start_date or today
    return Roadmap(
        title=selection.aim.title,
        summary=wording.summary(match),
        goal=request.goal,
        level=request.level,
        language=request.language,
        start_date=start,
        end_date=last_day(start, fit.planned_weeks),
        total_hours=fit.planned_hours,
        weeks=fit.planned_weeks,
        stages=build_stages(catalog, steps, selection.known),
        fit=fit,
        warnings=selection.warnings,
        generated_by=GeneratedBy(name=NAME, version=VERSION, catalog_version=catalog.version),
    )


def _steps(
    catalog: Catalog, request: RoadmapRequest, selection: Selection, order: list[Concept]
) -> list[Step]:
    spans = fill_weeks([selection.hours[one.id] for one in order], request.hours_per_week)
    reasons = wording.why(catalog, selection, order)
    return [
        Step(one, _shown(one, selection, reasons[one.id], span))
        for one, span in zip(order, spans, strict=True)
    ]


def _shown(
    concept: Concept, selection: Selection, why: str, span: tuple[int, int]
) -> roadmap.Concept:
    return roadmap.Concept(
        id=concept.id,
        name=concept.name,
        description=concept.description,
        why=why,
        kind=selection.kinds[concept.id],
        difficulty=concept.difficulty,
        hours=selection.hours[concept.id],
        week_from=span[0],
        week_to=span[1],
        prerequisites=tuple(
            roadmap.Prerequisite(concept_id=edge.id, strength=edge.strength)
            for edge in concept.requires
            if edge.id in selection.kinds
        ),
        outcomes=wording.outcomes(concept),
    )


def _fit(request: RoadmapRequest, selection: Selection, steps: list[Step]) -> Fit:
    hours = sum(step.shown.hours for step in steps)
    weeks = steps[-1].shown.week_to
    return Fit(
        hours_per_week=request.hours_per_week,
        requested_weeks=request.weeks,
        planned_hours=hours,
        planned_weeks=weeks,
        feasible=request.weeks is None or weeks <= request.weeks,
        suggestion=wording.suggestion(request, hours, weeks),
        dropped=selection.dropped,
    )
