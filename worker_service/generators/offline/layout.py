"""The shape of the plan: weeks, stages, modules and milestones of an ordered list of concepts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise

from shared import roadmap
from shared.errors import Permanent

from . import wording
from .catalog import Catalog, Concept, Project

STAGE_HOURS = (12, 40, 90, 160)
"""Upper limits of hours for one, two, three and four stages; beyond, there are five."""

CONCEPTS_PER_STAGE = 3
MODULE_SIZE = 8

SPLIT_CLUSTER = 0.35
SPLIT_DOMAIN = 0.05
"""Price of a stage border inside a cluster, or inside a domain, against balanced hours."""


@dataclass(frozen=True, slots=True)
class Step:
    """A concept at its place: in the words of the catalog, and as the learner will see it."""

    source: Concept
    shown: roadmap.Concept


def fill_weeks(hours: Sequence[float], per_week: float) -> list[tuple[int, int]]:
    """First and last week of each concept when every week is filled in order.

    A concept may span weeks. Its end may run over the week's budget by WEEK_TOLERANCE, rather than
    leave a few minutes for the next week.
    """
    spans = []
    week, used = 1, 0.0
    for amount in hours:
        if used >= per_week - 1e-9:
            week, used = week + 1, 0.0
        first, left = week, amount
        while used + left > per_week * roadmap.WEEK_TOLERANCE + 1e-9:
            left -= per_week - used
            week, used = week + 1, 0.0
        used += left
        spans.append((first, week))
    return spans


def last_day(start: date, weeks: int) -> date:
    """Raises Permanent when no calendar reaches so far."""
    try:
        return start + timedelta(days=weeks * 7 - 1)
    except OverflowError as error:
        raise Permanent(wording.late_start(start), code="start_date_too_late") from error


def build_stages(
    catalog: Catalog, steps: Sequence[Step], known: frozenset[str]
) -> tuple[roadmap.Stage, ...]:
    """Cut the plan into stages, each into modules, and give each the project that fits it best."""
    parts = _cut(steps)
    titles = wording.stage_names(catalog, [[step.source for step in part] for part in parts])
    modules = [_modules(part) for part in parts]
    names = wording.module_names(
        catalog, [[step.source for step in module] for part in modules for module in part]
    )
    done = set(known)
    used: set[str] = set()
    stages = []
    for title, part, chunks in zip(titles, parts, modules, strict=True):
        done |= {step.source.id for step in part}
        project = _project(catalog, part, done, used)
        used |= {project.id} if project else set()
        shown = tuple(_module(catalog, chunk, next(names)) for chunk in chunks)
        stages.append(_stage(catalog, title, part, shown, project))
    return tuple(stages)


def _stage(
    catalog: Catalog,
    title: str,
    part: Sequence[Step],
    modules: tuple[roadmap.Module, ...],
    project: Project | None,
) -> roadmap.Stage:
    sources = [step.source for step in part]
    core = [step.source for step in part if step.shown.kind == "core"]
    return roadmap.Stage(
        id=f"s-{sources[0].id}",  # the first concept names it: unique, and not by position
        name=title,
        description=wording.stage_description(catalog, sources),
        outcome=wording.stage_outcome(core or sources),
        hours=_hours(part),
        week_from=part[0].shown.week_from,
        week_to=part[-1].shown.week_to,
        modules=modules,
        milestone=_milestone(project) if project else None,
    )


def _milestone(project: Project) -> roadmap.Milestone:
    return roadmap.Milestone(
        title=project.title, deliverable=project.deliverable, acceptance=project.acceptance
    )


def _module(catalog: Catalog, part: Sequence[Step], name: str) -> roadmap.Module:
    return roadmap.Module(
        id=f"m-{part[0].source.id}",
        name=name,
        description=wording.module_description(catalog, [step.source for step in part]),
        hours=_hours(part),
        concepts=tuple(step.shown for step in part),
    )


def _hours(part: Sequence[Step]) -> float:
    return sum(step.shown.hours for step in part)


def _cut(steps: Sequence[Step]) -> list[Sequence[Step]]:
    """The cheapest contiguous cut: squared imbalance of hours plus the price of each border.

    Dynamic programming: ``best[j]`` is the cheapest cut of the first j steps into k stages.
    """
    total = _hours(steps)
    wanted = 1 + sum(total > limit for limit in STAGE_HOURS)
    count = max(1, min(wanted, len(steps) // CONCEPTS_PER_STAGE))
    even = total / count
    until = [0.0]
    for step in steps:
        until.append(until[-1] + step.shown.hours)
    best: dict[int, tuple[float, list[int]]] = {0: (0.0, [])}
    for _ in range(count):
        further: dict[int, tuple[float, list[int]]] = {}
        for start, (price, borders) in best.items():
            for end in range(start + 1, len(steps) + 1):
                uneven = ((until[end] - until[start]) / even - 1) ** 2
                reached = price + uneven + _border(steps, end)
                if end not in further or reached < further[end][0] - 1e-9:
                    further[end] = (reached, [*borders, end])
        best = further
    ends = best[len(steps)][1]
    return [steps[start:end] for start, end in pairwise([0, *ends])]


def _border(steps: Sequence[Step], end: int) -> float:
    if end == len(steps):
        return 0.0
    before, after = steps[end - 1].source, steps[end].source
    if before.cluster == after.cluster:
        return SPLIT_CLUSTER
    return SPLIT_DOMAIN if before.domain == after.domain else 0.0


def _modules(part: Sequence[Step]) -> list[Sequence[Step]]:
    """Runs of one cluster; a lone concept joins a neighbour, a long run is divided evenly."""
    runs: list[list[Step]] = []
    for step in part:
        if runs and runs[-1][-1].source.cluster == step.source.cluster:
            runs[-1].append(step)
        else:
            runs.append([step])
    while (lone := _lone(runs)) is not None:
        runs[lone : lone + 2] = [runs[lone] + runs[lone + 1]]
    return [piece for run in runs for piece in _pieces(run)]


def _lone(runs: list[list[Step]]) -> int | None:
    """Where two neighbouring runs should merge, or None: the smallest union that helps a loner."""
    pairs = [
        (not _same_domain(one, other), len(one) + len(other), index)
        for index, (one, other) in enumerate(pairwise(runs))
        if min(len(one), len(other)) == 1 and len(one) + len(other) <= MODULE_SIZE
    ]
    return min(pairs)[2] if pairs else None


def _same_domain(one: list[Step], other: list[Step]) -> bool:
    return one[-1].source.domain == other[0].source.domain


def _pieces(run: list[Step]) -> list[Sequence[Step]]:
    count = math.ceil(len(run) / MODULE_SIZE)
    borders = [round(len(run) * i / count) for i in range(count + 1)]
    return [run[start:end] for start, end in pairwise(borders)]


def _project(
    catalog: Catalog, part: Sequence[Step], done: set[str], used: set[str]
) -> Project | None:
    """The project that is possible now and exercises most hours of this stage."""
    hours = {step.source.id: step.shown.hours for step in part}
    exercised = {
        project.id: sum(hours.get(one, 0) for one in catalog.ancestors(frozenset(project.requires)))
        for project in catalog.projects.values()
        if project.id not in used
        and done.issuperset(project.requires)
        and not hours.keys().isdisjoint(project.requires)
    }
    best = max(sorted(exercised), key=exercised.__getitem__, default=None)
    return catalog.projects[best] if best else None
