"""The only builders of tasks and messages, and the only questions that tests ask of the tables."""

from __future__ import annotations

from datetime import date
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, text
from uuid_utils.compat import uuid7

from api_service.new_task import NewTask
from api_service.schemas import TaskSubmission
from api_service.submission import Submissions
from relay_service.relay import Relay
from shared.database import Database
from shared.roadmap import (
    Concept,
    Fit,
    GeneratedBy,
    Level,
    Module,
    Roadmap,
    RoadmapRequest,
    Stage,
)
from tests.eventually import eventually
from worker_service.generators.port import Steps
from worker_service.leases import Leases


def new_task(goal: str = "Learn SQL", *, key: str | None = None, **body: Any) -> NewTask:
    submission = TaskSubmission(input=RoadmapRequest(goal=goal), **body)
    return NewTask.of(submission, tenant_id="default", key=key, traceparent=None)


async def accept(database: Database, goal: str = "Learn SQL", **body: Any) -> UUID:
    """A committed task with its outbox message, as the API makes them."""
    task_id: UUID = (await Submissions(database).submit(new_task(goal, **body))).task["id"]
    return task_id


async def fill(
    database: Database, count: int, *, tenant: str = "default", priority: int = 2
) -> list[UUID]:
    """Many committed tasks with their messages, each at a time of its own."""
    sql = """
        WITH task AS (
            INSERT INTO tasks (id, tenant_id, priority, request_hash, input)
            SELECT gen_random_uuid(), :tenant, :priority, '', '{"goal": "Learn SQL"}'
            FROM generate_series(1, :count)
            RETURNING id, tenant_id, priority
        )
        INSERT INTO outbox_messages (task_id, tenant_id, priority)
        SELECT id, tenant_id, priority FROM task RETURNING task_id
    """
    found = await rows(database, sql, count=count, tenant=tenant, priority=priority)
    return [one["task_id"] for one in found]


async def carry_all(relay: Relay) -> int:
    """Until there is nothing left to carry, or no room; how many messages it were."""
    carried = 0
    while claimed := await relay.run_once():
        carried += claimed
    return carried


async def orphan_message(database: Database) -> UUID:
    """An outbox message without a task, which no code of ours can write."""
    task_id = uuid7()
    async with database.begin() as session:
        await session.execute(
            text("INSERT INTO outbox_messages (task_id) VALUES (:id)"), {"id": task_id}
        )
    return task_id


def leases_of(database: Database, owner: str = "one", max_takeovers: int = 3) -> Leases:
    """Those of a worker, each for a minute."""
    return Leases(database, owner=owner, seconds=60, max_takeovers=max_takeovers)


async def row(database: Database, sql: str, **parameters: Any) -> RowMapping:
    async with database.begin() as session:
        return (await session.execute(text(sql), parameters)).mappings().one()


async def rows(database: Database, sql: str, **parameters: Any) -> list[RowMapping]:
    async with database.begin() as session:
        return list((await session.execute(text(sql), parameters)).mappings())


async def execute(database: Database, sql: str, **parameters: Any) -> None:
    async with database.begin() as session:
        await session.execute(text(sql), parameters)


async def task(database: Database, task_id: UUID) -> RowMapping:
    return await row(database, "SELECT * FROM tasks WHERE id = :id", id=task_id)


async def lock_is_waited_for(database: Database) -> None:
    """Until some session waits for a lock that another one holds."""

    async def waits() -> None:
        sql = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        assert await rows(database, sql)

    await eventually(waits)


async def event_types(database: Database, task_id: UUID) -> list[str]:
    """The task's history; also holds that it has no gap, and ends at the task's version."""
    found = await rows(
        database, "SELECT seq, type FROM task_events WHERE task_id = :id ORDER BY seq", id=task_id
    )
    assert [event["seq"] for event in found] == list(range(1, len(found) + 1))
    assert (await task(database, task_id))["version"] == len(found)
    return [event["type"] for event in found]


def small_roadmap(request: RoadmapRequest, *, today: date) -> Roadmap:
    """The smallest roadmap that is one."""
    concept = Concept(
        id="select",
        name="SELECT",
        description="Ask a table for rows.",
        why="a goal of this plan",
        difficulty=1,
        hours=1,
        week_from=1,
        week_to=1,
        outcomes=("write a query",),
    )
    module = Module(id="m-select", name="Queries", description="", hours=1, concepts=(concept,))
    stage = Stage(
        id="s-start",
        name="Start",
        description="",
        outcome="",
        hours=1,
        week_from=1,
        week_to=1,
        modules=(module,),
    )
    fit = Fit(
        hours_per_week=request.hours_per_week,
        requested_weeks=request.weeks,
        planned_hours=1,
        planned_weeks=1,
        feasible=True,
    )
    return Roadmap(
        title=request.goal,
        summary="",
        goal=request.goal,
        level=Level.BEGINNER,
        start_date=today,
        end_date=today,
        total_hours=1,
        weeks=1,
        stages=(stage,),
        fit=fit,
        generated_by=GeneratedBy(name="test", version="1"),
    )


class ScriptedGenerator:
    """Raises the given errors one after the other, then succeeds; counts its calls."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    async def generate(self, request: RoadmapRequest, *, today: date, steps: Steps) -> Roadmap:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return small_roadmap(request, today=today)
