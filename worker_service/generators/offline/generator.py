"""The catalog planner behind the port: three free steps, none of which waits for anything."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import date
from functools import partial

from shared.roadmap import Roadmap, RoadmapRequest
from worker_service.generators.partials import partials
from worker_service.generators.port import Call, Job, Output, Reached, Step, Steps

from . import NAME, VERSION, design
from .catalog import Catalog
from .content import contents_of, with_content
from .matching import match_goal
from .reading import load_catalog
from .shapes import Contents, Understanding

UNDERSTAND = Step(name="understand", shape=Understanding)
DESIGN = Step(name="design", shape=Roadmap)
CONTENT = Step(name="content", shape=Contents)


class OfflineGenerator:
    """Deterministic, without network or key; step by step it gives what ``plan`` gives at once."""

    def __init__(self) -> None:
        load_catalog()  # a broken catalog shows at start, not in a learner's task

    async def generate(self, request: RoadmapRequest, *, today: date, steps: Steps) -> Roadmap:
        catalog = load_catalog(request.language)
        inputs = {
            "generator": NAME,
            "version": VERSION,
            "catalog_version": catalog.version,
            "request": request.model_dump(mode="json"),
            "today": today.isoformat(),
        }
        understanding = await steps.run(
            Job(
                step=UNDERSTAND,
                inputs=inputs,
                work=_in_thread(partial(_understand, catalog, request)),
                reached=Reached(10, "goal matched"),
            )
        )
        designed = await steps.run(
            Job(
                step=DESIGN,
                inputs=inputs,
                work=_in_thread(partial(_design, catalog, request, understanding, today)),
                reached=Reached(60, "plan made"),
                partials=partials,
            )
        )
        added = await steps.run(
            Job(
                step=CONTENT,
                inputs=inputs,
                work=_in_thread(partial(_add_content, catalog, designed)),
                reached=Reached(95, "content added"),
            )
        )
        return with_content(designed, added.concepts)


def _in_thread(compute: Callable[[], Output]) -> Callable[[Call], Awaitable[Output]]:
    # Planning is computing: on the event loop it would hold up every heartbeat.
    return lambda _call: asyncio.to_thread(compute)


def _understand(catalog: Catalog, request: RoadmapRequest) -> Understanding:
    return Understanding.of(catalog, match_goal(catalog, request.goal))


def _design(
    catalog: Catalog, request: RoadmapRequest, understanding: Understanding, today: date
) -> Roadmap:
    return design(catalog, request, understanding.match(catalog), today=today)


def _add_content(catalog: Catalog, designed: Roadmap) -> Contents:
    return Contents(concepts=contents_of(catalog, designed))
