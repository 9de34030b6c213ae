"""Golden requests: what a teacher expects of each plan, and how the planner does.

``python -m tests.unit.golden`` prints the table: passed of all, and each miss with its reason.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import date
from functools import cache
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict

from shared.errors import Permanent
from shared.roadmap import Roadmap, RoadmapRequest
from worker_service.generators.offline import plan

FILE = Path(__file__).with_name("golden.yaml")
TODAY = date(2030, 1, 7)


class Golden(BaseModel):
    """Written before anybody looked at a plan; ``argued`` says why a miss is right after all."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    request: RoadmapRequest
    includes: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    before: tuple[tuple[str, str], ...] = ()
    hours: tuple[float, float]
    feasible: bool | None = None
    argued: str | None = None

    @property
    def name(self) -> str:
        """The request as one would say it, without what is usual."""
        said = self.request.model_dump(mode="json", exclude_defaults=True)
        details = [f"{key} {value}" for key, value in said.items() if key != "goal"]
        return ", ".join([self.request.goal, *details])


@cache
def golden_requests() -> tuple[Golden, ...]:
    return tuple(map(Golden.model_validate, yaml.safe_load(FILE.read_text(encoding="utf-8"))))


def misses(golden: Golden) -> list[str]:
    """What the plan lacks of the expectation; empty if nothing."""
    try:
        return list(_misses(golden, plan(golden.request, today=TODAY)))
    except Permanent as refused:
        return [f"is refused: {refused.code}"]


def _misses(golden: Golden, roadmap: Roadmap) -> Iterator[str]:
    order = [one.id for one in roadmap.concepts()]
    if lacking := [one for one in golden.includes if one not in order]:
        yield f"lacks {', '.join(lacking)}"
    if surplus := [one for one in golden.excludes if one in order]:
        yield f"has {', '.join(surplus)}"
    for first, later in golden.before:
        if first not in order or later not in order or order.index(first) > order.index(later):
            yield f"has {first} not before {later}"
    low, high = golden.hours
    if not low <= roadmap.total_hours <= high:
        yield f"takes {roadmap.total_hours:g} h, not {low:g} to {high:g}"
    if golden.feasible not in (None, roadmap.fit.feasible):
        yield f"is {'' if roadmap.fit.feasible else 'not '}feasible"


def main() -> int:
    passed = 0
    for golden in golden_requests():
        missed = misses(golden)
        passed += not missed
        for one in missed:
            print(f"{golden.name}: {one}")
        if missed:
            print(f"    {golden.argued or 'NOT ARGUED'}")
    print(f"{passed} of {len(golden_requests())} passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
