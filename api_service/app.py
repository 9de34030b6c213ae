"""The application: its parts put together, and their life from start to end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI

from api_service import (
    estimate_routes,
    event_routes,
    health,
    ops_routes,
    pages,
    problems,
    process_routes,
    routes,
)
from api_service.body_limit import BodyLimit
from api_service.caller import ServiceSet
from api_service.capacity import Capacity
from api_service.changes import Changes
from api_service.doorbell import Doorbell
from api_service.estimating import Estimates
from api_service.frame import Frame
from api_service.model_costs import ModelCosts
from api_service.openapi import DescribedApi, operation_id
from api_service.overview import Overviews
from api_service.places import Places
from api_service.planner import Planner
from api_service.queries import TaskReads
from api_service.submission import Submissions
from api_service.timing import TimedDatabase
from shared.database import GOODBYE
from shared.settings import Settings


def create_app(settings: Settings) -> FastAPI:
    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        database = TimedDatabase(settings, "api")
        submissions = Submissions(database)
        doorbell = Doorbell(database)
        changes = Changes(database)
        planner = Planner()
        app.state.services = ServiceSet(
            database,
            submissions,
            doorbell,
            changes,
            Places(settings.api_streams),
            Capacity(database),
            TaskReads(database),
            Overviews(database),
            Estimates(planner, ModelCosts(database)),
        )
        loops = [
            asyncio.create_task(doorbell.run(), name="doorbell"),
            asyncio.create_task(changes.run(), name="changes"),
        ]
        yield
        for part in (doorbell, changes):
            part.stop()
        await submissions.close()
        await planner.close()
        _, late = await asyncio.wait(loops, timeout=GOODBYE)
        for loop in late:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        await doorbell.close()
        await database.close()

    app = DescribedApi(
        title="Waymark",
        summary="Learning roadmaps; an accepted task is never lost.",
        version="1",
        lifespan=lifespan,
        # The framework's pages load scripts from another origin.
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=operation_id,
        redirect_slashes=False,  # its redirects believe the Host header
    )
    # The last one that is added is the outermost.
    app.add_middleware(
        BodyLimit, max_bytes=settings.api_max_body, seconds=settings.api_read_timeout
    )
    app.add_middleware(Frame, settings=settings)
    for part in (routes, estimate_routes, event_routes, ops_routes, process_routes):
        app.include_router(part.router)
    app.include_router(pages.router)
    app.include_router(health.router)
    problems.install(app)
    return app
