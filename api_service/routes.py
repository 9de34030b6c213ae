"""The addresses under /v1. A route validates, calls, answers; what it promises is below it."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response

from api_service import queries
from api_service.caller import IdempotencyKey, Services, Tenant, Trace
from api_service.cancellation import cancel
from api_service.problems import Problem
from api_service.schemas import EventPage, EventView, RoadmapView, TaskSubmission, TaskView
from api_service.submission import NewTask

router = APIRouter(prefix="/v1")


@router.post("/tasks", status_code=202, summary="Submit a learning goal", response_model=TaskView)
async def submit_task(
    body: TaskSubmission, services: Services, tenant: Tenant, key: IdempotencyKey, trace: Trace
) -> Response:
    """The task is committed when the 202 arrives; from then on its id is never unknown."""
    new = NewTask.of(body, tenant_id=tenant, key=key, traceparent=trace)
    submission = await services.submissions.submit(new)
    services.doorbell.ring()
    task = TaskView.of(submission.task)
    headers = {"Location": task.links.self}
    if submission.replayed:
        headers["Idempotent-Replayed"] = "true"
    # Written out here: the framework would validate our own answer once more.
    return Response(task.model_dump_json(), 202, headers, media_type="application/json")


@router.get("/tasks/{task_id}", summary="Where a task stands")
async def get_task(task_id: UUID, services: Services, tenant: Tenant) -> TaskView:
    row = await queries.task_by_id(services.database, tenant, task_id)
    if row is None:
        raise Problem("task-not-found", f"There is no task {task_id}.")
    return TaskView.of(row)


@router.post(
    "/tasks/{task_id}/cancel",
    summary="Stop a task",
    response_model=TaskView,
    responses={202: {"description": "It runs; its worker will let go of it.", "model": TaskView}},
)
async def cancel_task(task_id: UUID, services: Services, tenant: Tenant) -> Response:
    """200: the task is canceled. 202: it runs, and will end as canceled. 409: it had ended."""
    cancellation = await cancel(services.database, tenant, task_id)
    task = TaskView.of(cancellation.task)
    status = 202 if cancellation.requested else 200
    headers = {"Location": task.links.self}
    return Response(task.model_dump_json(), status, headers, media_type="application/json")


@router.get("/tasks/{task_id}/events", summary="The history of a task")
async def get_events(
    task_id: UUID,
    services: Services,
    tenant: Tenant,
    after: Annotated[int, Query(ge=0, le=2**31 - 1, description="Only events after this seq.")] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> EventPage:
    rows = await queries.events_after(
        services.database, tenant, task_id, after=after, limit=limit + 1
    )
    if rows is None:
        raise Problem("task-not-found", f"There is no task {task_id}.")
    shown = [EventView.model_validate(dict(row)) for row in rows[:limit]]
    return EventPage(data=shown, has_more=len(rows) > limit)


@router.get("/roadmaps/{roadmap_id}", summary="A roadmap", response_model=RoadmapView)
async def get_roadmap(roadmap_id: UUID, services: Services, tenant: Tenant) -> dict[str, Any]:
    row = await queries.roadmap_by_id(services.database, tenant, roadmap_id)
    if row is None:
        raise Problem("roadmap-not-found", f"There is no roadmap {roadmap_id}.")
    identity = {name: row[name] for name in ("id", "task_id", "created_at")}
    document: dict[str, Any] = row["document"]
    return identity | document
