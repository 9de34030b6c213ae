"""What closes a stage: the project that exercises it best, and time to look back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from shared.roadmap import Level

from .catalog import Catalog, Concept, Project
from .fitting import scaled_hours, shares
from .planning import Selection

LARGER_THAN_USUAL = 1.5
"""A project may grow by this factor when there are hours for it."""

SHORTEST_PROJECT = 1.0
"""Hours in which something can be built; what is less is for looking back."""

MOST_SPARE_PROJECTS = 2
"""Further projects at the end of a plan that has hours to spare."""


@dataclass(frozen=True, slots=True)
class Closing:
    """A project to build or a review to do, after the concepts of its stage."""

    id: str
    kind: Literal["project", "review"]
    hours: float
    project: Project | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """A stage before it is put on the calendar; ``project`` is its milestone."""

    concepts: Sequence[Concept]
    project: Project | None
    closings: tuple[Closing, ...]
    buffer: float


def close(selection: Selection, stages: Sequence[Sequence[Concept]], level: Level) -> list[Part]:
    """Each stage with its milestone; the hours of projects, reviews and buffer shared out."""
    fitted = selection.fitted
    weights = [sum(fitted.hours[one.id] for one in stage) for stage in stages]
    projects = _milestones(selection, stages)
    spare = _spare(selection, projects, level)
    rows = zip(
        stages,
        projects,
        _building(fitted.projects, weights, projects),
        shares(fitted.reviews, weights),
        shares(fitted.buffer, weights),
        [()] * (len(stages) - 1) + [spare],
        strict=True,
    )
    return [
        Part(stage, project, (*_closings(stage, project, building, review, level), *more), buffer)
        for stage, project, building, review, buffer, more in rows
    ]


def _building(
    total: float, weights: Sequence[float], projects: Sequence[Project | None]
) -> list[float]:
    """Hours per stage; all for the last project where the others would get next to nothing."""
    each = shares(total, weights)
    if min(each) >= SHORTEST_PROJECT:
        return each
    last = max((place for place, one in enumerate(projects) if one), default=len(each) - 1)
    return [total if place == last else 0.0 for place in range(len(each))]


def _closings(
    stage: Sequence[Concept], project: Project | None, building: float, review: float, level: Level
) -> list[Closing]:
    """First a look back, then the project. Hours that the project cannot use are for the former."""
    most = scaled_hours(project.hours * LARGER_THAN_USUAL, level) if project else 0.0
    built = min(building, most) if building >= SHORTEST_PROJECT else 0.0
    looked_back = review + building - built
    closings = []
    if looked_back:
        closings.append(Closing(f"review-{stage[0].id}", "review", looked_back))
    if project and built:
        closings.append(Closing(f"project-{project.id}", "project", built, project))
    return closings


def _milestones(selection: Selection, stages: Sequence[Sequence[Concept]]) -> list[Project | None]:
    """Per stage the project that is possible by then and exercises most hours of it."""
    done = set(selection.has)
    found: list[Project | None] = []
    for stage in stages:
        done |= {one.id for one in stage}
        hours = {one.id: selection.fitted.hours[one.id] for one in stage}
        found.append(_best(selection.catalog, hours, done, found))
    return found


def _best(
    catalog: Catalog, hours: Mapping[str, float], done: set[str], used: Sequence[Project | None]
) -> Project | None:
    exercised = {
        project.id: sum(hours.get(one, 0.0) for one in catalog.ancestors(project.requires))
        for project in catalog.projects.values()
        if project not in used
        and done.issuperset(project.requires)
        and not hours.keys().isdisjoint(project.requires)
    }
    best = max(sorted(exercised), key=exercised.__getitem__, default=None)
    return catalog.projects[best] if best else None


def _spare(
    selection: Selection, used: Sequence[Project | None], level: Level
) -> tuple[Closing, ...]:
    """Further projects within the plan's concepts, while the hours to spare allow them."""
    left = selection.fitted.spare
    planned = selection.fitted.kinds.keys()
    found: list[Closing] = []
    for project in selection.catalog.projects.values():
        hours = scaled_hours(project.hours, level)
        within = planned >= set(project.requires)
        if within and project not in used and hours <= left and len(found) < MOST_SPARE_PROJECTS:
            found.append(Closing(f"project-{project.id}", "project", hours, project))
            left -= hours
    return tuple(found)
