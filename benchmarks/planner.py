"""The offline generator: how long a plan, a match and the catalog take, and what a plan costs.

Times are of a process of their own, each plan made for the first time in it: nothing is warm but
the catalog.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from functools import partial
from itertools import product
from statistics import median

from benchmarks.report import Figure, at_least, at_most, beside, for_orientation
from benchmarks.servers import Servers
from benchmarks.yardstick import in_turns, percentile, rate
from shared.errors import Permanent
from shared.roadmap import LANGUAGES, Level, Roadmap, RoadmapRequest
from worker_service.generators import offline
from worker_service.generators.offline.catalog import Catalog
from worker_service.generators.offline.matching import match_goal
from worker_service.generators.offline.reading import FOLDER, read_catalog

TODAY = date(2030, 1, 7)
PROCESSES = 5
"""Fresh ones, whose figures are compared; the median counts."""

TIMES = 2
"""How often a round plans all requests."""


async def measure(_servers: Servers, _long: bool) -> list[Figure]:
    runs = [_in_a_fresh_process() for _ in range(PROCESSES)]
    return [
        at_most(
            300,
            "reading the catalog",
            median(run["load"] for run in runs),
            "ms",
            "YAML, schema and checks, one language, fresh process",
        ),
        at_most(
            50,
            "a plan, p99",
            median(run["plan"] for run in runs),
            "ms",
            f"each goal at each level, open, in 8 and in 26 weeks, both languages; "
            f"{len(_requests())} requests, each made once",
        ),
        at_most(
            20,
            "matching a goal, p99",
            median(run["match"] for run in runs),
            "ms",
            "every alias of every goal, cut short by a letter, and with a letter too many",
        ),
        *await _beside_the_round_trip(),
    ]


async def _beside_the_round_trip() -> list[Figure]:
    requests = [request for request in _requests() if request.weeks is None]
    roadmaps = [one for request in requests if (one := _plan(request)) is not None]

    async def plan() -> int:
        for _ in range(TIMES):
            for request in requests:
                _plan(request)
        return TIMES * len(requests)

    async def write_and_read() -> int:
        for _ in range(TIMES):
            for roadmap in roadmaps:
                Roadmap.model_validate_json(roadmap.model_dump_json())
        return TIMES * len(roadmaps)

    rounds = await in_turns(
        {"plans": lambda: rate(plan), "round_trips": lambda: rate(write_and_read)}
    )
    plans = rounds.median("plans")
    return [
        at_least(
            0.1,
            "plans beside the JSON round trip",
            rounds.ratio("plans", "round_trips"),
            "×",
            "making a roadmap takes at most ten times what writing it as JSON and reading it back "
            "with validation takes, which every roadmap goes through anyway",
            seen=beside(plans, rounds.median("round_trips")),
        ),
        for_orientation("plans per second", plans, "/s", "open plans, one process, warm"),
    ]


def _plan(request: RoadmapRequest) -> Roadmap | None:
    try:
        return offline.plan(request, today=TODAY)
    except Permanent:  # nothing left to learn at this level
        return None


def _requests() -> list[RoadmapRequest]:
    return [
        RoadmapRequest(
            goal=goal.name, level=level, weeks=weeks, hours_per_week=6, language=language
        )
        for language in LANGUAGES
        for goal, level, weeks in product(
            offline.load_catalog().goals.values(), Level, (None, 8, 26)
        )
    ]


def _in_a_fresh_process() -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.planner"]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def _milliseconds() -> dict[str, float]:
    begun = time.perf_counter()
    catalog = read_catalog(FOLDER)
    load = time.perf_counter() - begun
    for language in LANGUAGES:
        _plan(RoadmapRequest(goal="git", language=language))  # reads the catalogs, indexes them
    _match(catalog, "git")
    plans = [_seconds(partial(_plan, request)) for request in _requests()]
    aliases = [alias for goal in catalog.goals.values() for alias in goal.aliases]
    texts = [text for one in aliases for text in (one, one[:-1], f"{one}x and more")]
    matches = [_seconds(partial(_match, catalog, text)) for text in texts]
    return {
        "load": load * 1000,
        "plan": percentile(plans, 99) * 1000,
        "match": percentile(matches, 99) * 1000,
    }


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _match(catalog: Catalog, text: str) -> None:
    with suppress(Permanent):
        match_goal(catalog, text)


if __name__ == "__main__":
    print(json.dumps(_milliseconds()))
