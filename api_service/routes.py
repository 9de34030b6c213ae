"""The addresses of tasks. A route validates, calls, answers; what it promises is below it."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Request, Response

from api_service import attempts, batches, erasure, listing, queries, retrying
from api_service.caller import Caller, IdempotencyKey, Services, Tenant, Trace
from api_service.cancellation import cancel
from api_service.documented import SUBMITTING, problems_of
from api_service.existing import existing
from api_service.listing import TaskQuery, task_query
from api_service.looking import POLL_AFTER, Prefer, etag_of, look_of, versions_of
from api_service.new_task import NewTask
from api_service.problems import Problem
from api_service.schemas import BatchSubmission, TaskRetry, TaskSubmission, task_view
from api_service.strict import StrictRoute
from api_service.timeliness import untimely
from shared.views import AttemptList, BatchResult, RoadmapView, TaskPage, TaskView

router = APIRouter(prefix="/v1", route_class=StrictRoute)

IfNoneMatch = Annotated[
    str | None, Header(description="ETags that are known: 304 while the task has one of them.")
]
IfMatch = Annotated[
    str | None,
    Header(
        description="ETag of the task that is meant: 412 if it has moved on, unless it already is "
        "as wished."
    ),
]


# First, because it is asked most: the framework tries one after the other.
@router.get(
    "/tasks/{task_id}",
    summary="Where a task stands",
    response_model=TaskView,
    responses=problems_of("task-not-found", "task-deleted"),
)
async def get_task(
    task_id: UUID,
    request: Request,
    prefer: Prefer = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """With `Prefer: wait=N` the answer comes when the task has moved on from `If-None-Match`, or
    has ended, or after N seconds."""
    return await look_of(request, prefer).at(task_id, if_none_match)


@router.post(
    "/tasks",
    status_code=202,
    summary="Submit a learning goal",
    response_model=TaskView,
    responses=problems_of(*SUBMITTING),
)
async def submit_task(
    body: TaskSubmission,
    request: Request,
    key: IdempotencyKey,
    trace: Trace,
    prefer: Prefer = None,
) -> Response:
    """The task is committed when the answer arrives; from then on its id is never unknown. 201 if
    it ended while `Prefer: wait=N` held the answer back."""
    look = look_of(request, prefer)
    new = NewTask.of(body, tenant_id=look.caller.tenant_id, key=key, traceparent=trace)
    submission = await look.services.submissions.submit(new, untimely(body))
    look.services.doorbell.ring()
    return await look.accepted(submission)


@router.post(
    "/tasks:batch",
    status_code=202,
    summary="Submit up to 100 goals",
    responses=problems_of(*SUBMITTING, "batch-rejected"),
)
async def submit_batch(
    body: BatchSubmission,
    services: Services,
    caller: Caller,
    key: IdempotencyKey,
    trace: Trace,
    response: Response,
) -> BatchResult:
    """All that is accepted is committed in one transaction. What breaks a rule gets a problem of
    its own; with `atomic` it refuses all."""
    result, replayed = await batches.submit(
        services.submissions, body, tenant_id=caller.tenant_id, key=key, traceparent=trace
    )
    if replayed:
        response.headers["Idempotent-Replayed"] = "true"
    elif result.accepted:
        services.doorbell.ring()
    return result


@router.get(
    "/tasks",
    summary="The tasks, newest first",
    response_model=TaskPage,
    responses=problems_of("invalid-cursor"),
)
async def list_tasks(
    query: Annotated[TaskQuery, Depends(task_query)], services: Services, tenant: Tenant
) -> Response:
    page = await listing.page_of(services.database, tenant, query)
    document = TaskPage(
        data=[task_view(row) for row in page.rows],
        has_more=page.next_id is not None,
        next_cursor=page.next_cursor,
        total_estimate=page.total_estimate,
    )
    return _json(document.model_dump_json(), headers={"Link": listing.links(query, page)})


@router.post(
    "/tasks/{task_id}/cancel",
    summary="Stop a task",
    response_model=TaskView,
    responses=problems_of(
        "task-not-found", "task-deleted", "task-already-ended", "precondition-failed"
    ),
)
async def cancel_task(
    task_id: UUID, services: Services, tenant: Tenant, if_match: IfMatch = None
) -> Response:
    """200: the task is canceled. 202: it runs, and will end as canceled. 409: it had ended."""
    cancellation = await cancel(services.database, tenant, task_id, versions_of(if_match))
    task = task_view(cancellation.task)
    headers = {"Location": task.links.self, "ETag": etag_of(cancellation.task)}
    if cancellation.requested:
        headers["Retry-After"] = POLL_AFTER
    return _json(task.model_dump_json(), 202 if cancellation.requested else 200, headers)


@router.post(
    "/tasks/{task_id}/retry",
    status_code=202,
    summary="Run it again",
    response_model=TaskView,
    responses=problems_of(*SUBMITTING, "task-not-found", "task-not-ended"),
)
async def retry_task(
    task_id: UUID,
    request: Request,
    key: IdempotencyKey,
    trace: Trace,
    prefer: Prefer = None,
    body: TaskRetry | None = None,
) -> Response:
    """A new task with the same input, patched if asked. The old one stays as it ended."""
    look = look_of(request, prefer)
    submission = await retrying.retry(
        look.services.submissions,
        task_id,
        body or TaskRetry(),
        tenant_id=look.caller.tenant_id,
        key=key,
        traceparent=trace,
    )
    look.services.doorbell.ring()
    return await look.accepted(submission)


@router.delete(
    "/tasks/{task_id}",
    status_code=204,
    summary="Erase a task that has ended",
    responses=problems_of(
        "task-not-found", "task-deleted", "task-not-ended", "precondition-failed"
    ),
)
async def delete_task(
    task_id: UUID, services: Services, tenant: Tenant, if_match: IfMatch = None
) -> Response:
    """Input, result and history are erased; from then on the id answers 410."""
    await erasure.erase(services.database, tenant, task_id, versions_of(if_match))
    return Response(status_code=204)


@router.get(
    "/tasks/{task_id}/attempts",
    summary="The attempts of a task, with their steps",
    responses=problems_of("task-not-found", "task-deleted"),
)
async def get_attempts(task_id: UUID, services: Services, tenant: Tenant) -> AttemptList:
    rows = await queries.attempts_of(services.database, tenant, task_id)
    existing(task_id, rows[0] if rows else None)
    return attempts.attempts(rows)


@router.get(
    "/roadmaps/{roadmap_id}",
    summary="A roadmap",
    response_model=RoadmapView,
    responses=problems_of("roadmap-not-found", "task-deleted"),
)
async def get_roadmap(roadmap_id: UUID, services: Services, tenant: Tenant) -> dict[str, Any]:
    row = await queries.roadmap_by_id(services.database, tenant, roadmap_id)
    if row is None:
        raise Problem("roadmap-not-found", f"There is no roadmap {roadmap_id}.")
    if row["deleted_at"]:
        raise Problem("task-deleted", f"The task of roadmap {roadmap_id} was deleted.")
    identity = {name: row[name] for name in ("id", "task_id", "created_at")}
    document: dict[str, Any] = row["document"]
    return identity | document


def _json(document: str, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Written out by us: the framework would validate our own answer once more."""
    return Response(document, status, headers, media_type="application/json")
