"""The application: its parts put together, and their life from start to end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI

from api_service import health, problems, routes
from api_service.body_limit import BodyLimit
from api_service.caller import ServiceSet
from api_service.doorbell import Doorbell
from api_service.submission import Submissions
from shared.database import Database
from shared.settings import Settings


def create_app(settings: Settings) -> FastAPI:
    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        database = Database(settings, "api")
        submissions = Submissions(database)
        doorbell = Doorbell(database)
        app.state.services = ServiceSet(database, submissions, doorbell)
        ringing = asyncio.create_task(doorbell.run(), name="doorbell")
        yield
        await submissions.close()
        ringing.cancel()
        await asyncio.gather(ringing, return_exceptions=True)
        await doorbell.close()
        await database.close()

    app = FastAPI(
        title="Waymark",
        summary="Learning roadmaps; an accepted task is never lost.",
        version="1",
        lifespan=lifespan,
        # The framework's pages load scripts from another origin.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # its redirects believe the Host header
    )
    app.add_middleware(BodyLimit, max_bytes=settings.api_max_body)
    app.include_router(routes.router, responses=problems.DOCUMENTED)
    app.include_router(health.router)
    problems.install(app)
    return app
