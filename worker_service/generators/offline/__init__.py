"""The offline generator: a roadmap from the catalog alone, the same one for the same request."""

from __future__ import annotations

import math
from datetime import date

from shared.roadmap import MOST_HOURS_A_WEEK, Fit, GeneratedBy, Roadmap, RoadmapRequest

from . import cutting, wording
from .calendar import Calendar, day_after
from .catalog import Catalog
from .content import contents_of, with_content
from .fitting import BUFFER, HAIR, PROJECTS
from .layout import Layout
from .matching import Match, match_goal
from .milestones import close
from .ordering import arrange
from .planning import Selection, select
from .reading import load_catalog
from .voices import voice_of

__all__ = ["design", "load_catalog", "plan"]

NAME = "offline"
VERSION = "3"


def plan(request: RoadmapRequest, *, today: date) -> Roadmap:
    """Plan the request. Pure: the same request, day and catalog give the same bytes.

    Raises GoalNotCovered when the catalog has no plan for the goal, and Permanent when nothing is
    left to learn.
    """
    catalog = load_catalog(request.language)
    match = match_goal(catalog, request.goal)
    designed = design(catalog, request, match, today=today)
    return with_content(designed, contents_of(catalog, designed))


def design(catalog: Catalog, request: RoadmapRequest, match: Match, *, today: date) -> Roadmap:
    """The whole plan but for the content of its concepts.

    Raises Permanent when nothing is left to learn, when there is less than a week for it, or when
    it would end after the year 9999.
    """
    selection = select(catalog, request, match, start=request.start_date or today)
    return laid_out(request, match, selection, today=today)


def laid_out(
    request: RoadmapRequest, match: Match, selection: Selection, *, today: date
) -> Roadmap:
    """Put what was selected in order, cut it into stages, and set it on the calendar."""
    start = request.start_date or today
    catalog, fitted = selection.catalog, selection.fitted
    order = arrange(catalog, fitted.hours)
    parts = close(selection, cutting.stages(order, fitted.hours), request.level)
    layout = Layout(selection, parts, wording.why(selection, order))
    stages = layout.stages(Calendar(start, request.hours_per_week, request.study_days))
    hours, weeks = sum(stage.hours for stage in stages), stages[-1].week_to
    return Roadmap(
        title=selection.aim.title,
        summary=wording.summary(catalog, match),
        goal=request.goal,
        level=request.level,
        language=request.language,
        start_date=start,
        end_date=day_after(start, weeks * 7 - 1),
        total_hours=hours,
        weeks=weeks,
        study_days=request.study_days,
        stages=stages,
        fit=_fit(request, selection, start, hours, weeks),
        warnings=selection.warnings,
        generated_by=GeneratedBy(name=NAME, version=VERSION, catalog_version=catalog.version),
    )


def _fit(
    request: RoadmapRequest, selection: Selection, start: date, hours: float, weeks: int
) -> Fit:
    asked = selection.weeks
    feasible = asked is None or hours <= asked * request.hours_per_week + HAIR
    return Fit(
        hours_per_week=request.hours_per_week,
        requested_weeks=asked,
        planned_hours=hours,
        planned_weeks=weeks,
        feasible=feasible,
        suggestion=None if feasible else _suggestion(request, selection, start),
        dropped=selection.dropped,
        lowered=selection.lowered,
        buffer_hours=selection.fitted.buffer,
    )


def _suggestion(request: RoadmapRequest, selection: Selection, start: date) -> str:
    """The pace, or the day, at which the same concepts fit with their projects and a buffer.

    The highest pace will do if the concepts alone fit at it.
    """
    asked, concepts = selection.weeks or 1, sum(selection.fitted.hours.values())
    needed = concepts * (1 + PROJECTS) * (1 + BUFFER)
    pace = min(math.ceil(needed / asked * 2) / 2, MOST_HOURS_A_WEEK)
    weeks = math.ceil(needed / request.hours_per_week)
    return voice_of(request.language).suggestion(
        pace if concepts <= asked * MOST_HOURS_A_WEEK else None,
        day_after(start, weeks * 7 - 1),
        request.hours_per_week,
    )
