"""Plans per second of the offline generator, beside writing and reading the same roadmaps."""

from __future__ import annotations

from datetime import date

from benchmarks.report import Figure, at_least, beside, for_orientation
from benchmarks.servers import Servers
from benchmarks.yardstick import in_turns, rate
from shared.roadmap import Level, Roadmap, RoadmapRequest
from worker_service.generators import offline

TODAY = date(2030, 1, 7)
TIMES = 5
"""How often a round plans all requests."""


async def measure(_servers: Servers, _long: bool) -> list[Figure]:
    goals = [goal.name for goal in offline.load_catalog().goals.values()]
    requests = [RoadmapRequest(goal=goal, level=level) for goal in goals for level in Level]
    roadmaps = [offline.plan(request, today=TODAY) for request in requests]

    async def plan() -> int:
        for _ in range(TIMES):
            for request in requests:
                offline.plan(request, today=TODAY)
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
        for_orientation(
            "plans per second",
            plans,
            "/s",
            f"each goal of the catalog at each level, {len(requests)} requests, one process",
        ),
    ]
