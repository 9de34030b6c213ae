"""A whole worker process whose generator kills it for one goal, and is slow with all others."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from datetime import date

from shared.roadmap import Roadmap, RoadmapRequest
from tests.factories import small_roadmap
from worker_service import __main__ as worker
from worker_service.generators.port import RoadmapGenerator, Steps

POISON = "Poison"
SLOW = 0.5
"""Seconds, so that the others are under way when the poison strikes."""


class Poisoned:
    async def generate(self, request: RoadmapRequest, *, today: date, steps: Steps) -> Roadmap:
        await asyncio.sleep(SLOW)
        if request.goal == POISON:
            os.kill(os.getpid(), signal.SIGKILL)
        return small_roadmap(request, today=today)


def _choose(*_: object) -> RoadmapGenerator:
    return Poisoned()


if __name__ == "__main__":
    sys.exit(worker.main(_choose))
