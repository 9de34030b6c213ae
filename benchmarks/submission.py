"""Submissions per second, 64 at once, beside two ORM objects added to a session."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncSession

from api_service.schemas import NewRoadmapRequest, TaskSubmission
from api_service.submission import NewTask, submit
from benchmarks.yardstick import Comparison, Round, compare
from shared.database import Database
from shared.logs import set_up_logs
from shared.models import OutboxMessage, Task
from shared.settings import Settings

AT_ONCE = 64
EACH = 15


async def measure(settings: Settings) -> list[Comparison]:
    set_up_logs(settings, "benchmark")
    database = Database(settings, "benchmark")
    body = TaskSubmission(input=NewRoadmapRequest(goal="Learn SQL"))

    async def ours() -> None:
        await submit(database, NewTask.of(body, tenant_id="default", key=None, traceparent=None))

    async def with_objects() -> None:
        async with AsyncSession(database.engine) as session, session.begin():
            task_id = uuid4()
            document = body.input.model_dump(mode="json")
            session.add(Task(id=task_id, request_hash=b"", input=document))
            session.add(OutboxMessage(task_id=task_id))

    found = await compare("submissions", _many(ours), _many(with_objects))
    await database.close()
    return [found]


def _many(one: Callable[[], Awaitable[None]]) -> Round:
    async def client() -> None:
        for _ in range(EACH):
            await one()

    async def everybody() -> int:
        await asyncio.gather(*(client() for _ in range(AT_ONCE)))
        return AT_ONCE * EACH

    return everybody
