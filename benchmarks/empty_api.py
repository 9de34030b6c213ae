"""Our routes without us: with nothing behind them, and the submission once more the obvious way.

``python -m benchmarks.empty_api ANSWER``: served like ``python -m api_service``. ANSWER is a file
with what all routes answer, so that it is as large as ours.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated
from uuid import UUID

import uvicorn
from fastapi import Depends, FastAPI, Header, Request, Response
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from uuid_utils.compat import uuid7

from api_service import problems
from api_service.__main__ import AnnouncingServer
from api_service.body_limit import BodyLimit
from api_service.caller import IdempotencyKey, Tenant, Trace
from api_service.schemas import TaskSubmission
from shared.database import Database
from shared.models import OutboxMessage, Task
from shared.settings import Settings, load_settings
from shared.views import TaskView


async def engine(request: Request) -> AsyncEngine:
    found: AsyncEngine = request.app.state.engine
    return found


def create_app(settings: Settings, answer: TaskView) -> FastAPI:
    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        database = Database(settings, "api")
        app.state.engine = database.engine
        yield
        await database.close()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.add_middleware(
        BodyLimit, max_bytes=settings.api_max_body, seconds=settings.api_read_timeout
    )
    problems.install(app)

    @app.post("/v1/nothing", status_code=202)
    async def nothing(
        body: TaskSubmission,
        response: Response,
        engine: Annotated[AsyncEngine, Depends(engine)],
        tenant: Tenant,
        key: IdempotencyKey,
        trace: Trace,
    ) -> TaskView:
        response.headers["Location"] = answer.links.self
        return answer

    @app.get("/v1/nothing/{task_id}")
    async def look(
        task_id: UUID,
        tenant: Tenant,
        if_none_match: Annotated[str | None, Header()] = None,
    ) -> Response:
        headers = {"ETag": '"1.0"'}
        if if_none_match == '"1.0"':
            return Response(status_code=304, headers=headers)
        return Response(answer.model_dump_json(), 200, headers, media_type="application/json")

    @app.post("/v1/objects", status_code=202)
    async def objects(
        body: TaskSubmission,
        response: Response,
        engine: Annotated[AsyncEngine, Depends(engine)],
        tenant: Tenant,
        key: IdempotencyKey,
        trace: Trace,
    ) -> TaskView:
        async with AsyncSession(engine, expire_on_commit=False) as session, session.begin():
            task = Task(
                id=uuid7(),
                tenant_id=tenant,
                idempotency_key=key,
                request_hash=b"",
                input=body.input.model_dump(mode="json"),
                priority=body.rank,
                traceparent=trace,
            )
            session.add(task)
            session.add(OutboxMessage(task_id=task.id, tenant_id=tenant, priority=body.rank))
        response.headers["Location"] = answer.links.self
        return answer

    return app


def main(answer: str) -> None:
    settings = load_settings()
    view = TaskView.model_validate_json(Path(answer).read_bytes())
    config = uvicorn.Config(
        create_app(settings, view),
        loop="uvloop",
        http="httptools",
        log_config=None,
        access_log=False,
    )
    listener = socket.create_server((settings.api_host, settings.api_port), backlog=2048)
    AnnouncingServer(config, settings).run(sockets=[listener])


if __name__ == "__main__":
    main(sys.argv[1])
