"""The port that turns a request into a roadmap, and its adapters."""

from __future__ import annotations

import asyncio
from datetime import date
from typing import Protocol

from shared.roadmap import Roadmap, RoadmapRequest
from worker_service.generators import offline


class RoadmapGenerator(Protocol):
    async def generate(self, request: RoadmapRequest, *, today: date) -> Roadmap:
        """The roadmap, for a plan that starts on ``today`` unless the request says otherwise.

        Raises TaskError: Transient if another attempt may do better, Permanent if none can.
        """


class OfflineGenerator:
    """The catalog planner: deterministic, without network or key."""

    def __init__(self) -> None:
        offline.load_catalog()  # a broken catalog shows at start, not in a learner's task

    async def generate(self, request: RoadmapRequest, *, today: date) -> Roadmap:
        # Planning is computing: on the event loop it would hold up every heartbeat.
        return await asyncio.to_thread(offline.plan, request, today=today)


def choose() -> RoadmapGenerator:
    return OfflineGenerator()
