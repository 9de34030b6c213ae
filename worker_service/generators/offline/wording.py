"""Every sentence of a plan that the catalog does not bring along."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import date

from shared.roadmap import RoadmapRequest

from . import amounts
from .amounts import schedule
from .catalog import Catalog, Concept, Goal, Requirement
from .matching import Match
from .planning import Selection

PHASES = {
    1: ("Essentials",),
    2: ("Foundations", "Application"),
    3: ("Foundations", "Core skills", "Application"),
    4: ("Foundations", "Core skills", "Application", "In depth"),
    5: ("Foundations", "Building blocks", "Core skills", "Application", "In depth"),
}

FORESIGHT = 2
"""Steps ahead at which a goal is still worth a mention; nobody learns loops for OAuth."""

DOMINANT = 0.6
"""A cluster with this share of a stage's hours names the stage alone."""


def summary(match: Match) -> str:
    """What the learner will be able to do; how long it takes is told by numbers of their own."""
    return " ".join(
        one.blurb if isinstance(one, Goal) else one.description for one in match.entries
    )


def suggestion(request: RoadmapRequest, hours: float, weeks: int) -> str | None:
    """What would make an unfeasible plan feasible: more hours a week, or more weeks."""
    if request.weeks is None or weeks <= request.weeks:
        return None
    pace = -(-hours * 2 // request.weeks) / 2
    more_weeks = schedule(weeks, request.hours_per_week)
    if pace > 80:
        return f"The goal needs {more_weeks}; no pace up to 80 hours a week is enough."
    return f"The goal needs {amounts.hours(pace)} a week, or {more_weeks}."


def why(catalog: Catalog, selection: Selection, order: Sequence[Concept]) -> dict[str, str]:
    """Per concept the way to a goal of the plan: what needs it, why, and where that leads.

    Of all that builds on it, the reason names what leads to a core target (else to a supporting
    one), by a hard edge if possible, and comes first in the order of study.
    """
    place = {one.id: index for index, one in enumerate(order)}
    followers: dict[str, list[tuple[Concept, Requirement]]] = {one.id: [] for one in order}
    for one in order:
        for edge in one.requires:
            if edge.id in followers:
                followers[edge.id].append((one, edge))
    leads_to: dict[str, str] = {}
    steps: dict[str, int] = {}
    reasons = {}
    for one in reversed(_prerequisites_first(order)):
        if one.id in selection.aim.core or not followers[one.id]:
            leads_to[one.id] = one.id
            steps[one.id] = 0
            relation = "A goal of" if one.id in selection.aim.core else "Rounds off"
            reasons[one.id] = f"{relation} this plan: {selection.aim.title}."
            continue
        follower, edge = min(
            followers[one.id],
            key=lambda link: (
                leads_to[link[0].id] not in selection.aim.core,
                not link[1].hard,
                place[link[0].id],
            ),
        )
        leads_to[one.id] = leads_to[follower.id]
        steps[one.id] = steps[follower.id] + 1
        near = 0 < steps[follower.id] <= FORESIGHT
        goal = catalog.concepts[leads_to[one.id]] if near else None
        reasons[one.id] = _because(follower, edge, goal)
    return reasons


def _because(follower: Concept, edge: Requirement, goal: Concept | None) -> str:
    need = "Needed for" if edge.hard else "Helps with"
    end = f" It leads to “{goal.name}”." if goal else ""
    return f"{need} “{follower.name}”, because {edge.reason}.{end}"


def _prerequisites_first(order: Sequence[Concept]) -> list[Concept]:
    """The order of study with soft prerequisites before their followers as well."""
    waiting = {one.id: one for one in order}
    found: dict[str, Concept] = {}

    def visit(one: Concept) -> None:
        if one.id not in found:
            for edge in one.requires:
                if edge.id in waiting:
                    visit(waiting[edge.id])
            found[one.id] = one

    for one in order:
        visit(one)
    return list(found.values())


def stage_names(catalog: Catalog, stages: Sequence[Sequence[Concept]]) -> list[str]:
    """Phase and themes: "Foundations: Python language". Themes by hours, at most two."""
    return [
        f"{phase}: {_themes(catalog, part)}"
        for phase, part in zip(PHASES[len(stages)], stages, strict=True)
    ]


def _themes(catalog: Catalog, part: Sequence[Concept]) -> str:
    shares = _shares(part)
    first, *others = shares
    if not others or shares[first] >= DOMINANT:
        return catalog.clusters[first].name
    return _pair(catalog.clusters[first].name, catalog.clusters[others[0]].name)


def _shares(part: Sequence[Concept]) -> dict[str, float]:
    """Share of the hours per cluster, the largest first."""
    hours: defaultdict[str, float] = defaultdict(float)
    for one in part:
        hours[one.cluster] += one.hours
    total = sum(hours.values())
    largest_first = sorted(hours, key=lambda cluster: -hours[cluster])
    return {cluster: hours[cluster] / total for cluster in largest_first}


def _pair(one: str, other: str) -> str:
    link = ", " if " and " in one or " and " in other else " and "
    return one + link + _inside(other)


def _inside(name: str) -> str:
    """A name in the middle of a phrase: "Command line" → "command line", "SQL" stays."""
    first = name.split()[0]
    return name if first in KEEPS_CAPITAL or first.isupper() else name[0].lower() + name[1:]


KEEPS_CAPITAL = {"Python", "Git", "PostgreSQL", "Docker", "FastAPI"}


def stage_description(catalog: Catalog, part: Sequence[Concept]) -> str:
    """What the stage is about, by its largest theme."""
    summaries = [catalog.clusters[cluster].summary for cluster in _shares(part)]
    return " ".join(summaries[:2])


def stage_outcome(part: Sequence[Concept]) -> str:
    """What the most demanding concept of the stage enables; the last one wins a tie."""
    hardest = max(enumerate(part), key=lambda one: (one[1].difficulty, one[1].hours, one[0]))[1]
    return f"You can {hardest.outcomes[0]}."


def module_names(catalog: Catalog, modules: Sequence[Sequence[Concept]]) -> Iterator[str]:
    """The clusters of each module; a name that occurs twice is told apart by its main concept."""
    plain = [_module_name(catalog, part) for part in modules]
    for name, part in zip(plain, modules, strict=True):
        if plain.count(name) == 1:
            yield name
        else:
            main = max(part, key=lambda one: one.hours)
            yield f"{catalog.clusters[main.cluster].name}: {main.name}"


def _module_name(catalog: Catalog, part: Sequence[Concept]) -> str:
    if len(part) == 1:
        return part[0].name
    first, *others = (catalog.clusters[cluster].name for cluster in _shares(part))
    return _pair(first, others[0]) if others else first


def module_description(catalog: Catalog, part: Sequence[Concept]) -> str:
    """The theme of a single-cluster module, or the names of what is inside."""
    clusters = {one.cluster for one in part}
    if len(clusters) == 1:
        return catalog.clusters[part[0].cluster].summary
    return f"{', '.join(one.name for one in part)}."


def outcomes(concept: Concept) -> tuple[str, ...]:
    """The catalog's verb phrases as full sentences."""
    return tuple(f"You can {one}." for one in concept.outcomes)


def late_start(start: date) -> str:
    """Why a plan cannot begin so near the end of the calendar."""
    return f"A plan that starts on {start} would end after the year 9999; choose an earlier start."
