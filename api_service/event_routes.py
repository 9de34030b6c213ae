"""The history of a task: page by page, or as it happens."""

from __future__ import annotations

import re
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from api_service import queries
from api_service.caller import Caller, Services
from api_service.documented import problems_of
from api_service.existing import existing
from api_service.problems import Problem
from api_service.schemas import task_view
from api_service.streaming import EventStream
from api_service.strict import StrictRoute
from shared.lifecycle import TaskStatus
from shared.views import EventPage, EventView

router = APIRouter(prefix="/v1", route_class=StrictRoute)

LAST_SEQ = 2**31 - 1
STREAM = "text/event-stream"
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"content": {STREAM: {"schema": {"type": "string"}}}},
}


class EventQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    after: int | None = Field(
        default=None, ge=0, le=LAST_SEQ, description="Only events after this seq."
    )
    limit: int = Field(default=100, ge=1, le=500, description="Of one page; a stream has no end.")


@router.get(
    "/tasks/{task_id}/events",
    summary="The history of a task",
    response_model=EventPage,
    responses=ANSWERS
    | problems_of("task-not-found", "task-deleted", "invalid-header", "too-many-streams"),
)
async def get_events(
    task_id: UUID,
    services: Services,
    caller: Caller,
    query: Annotated[EventQuery, Query()],
    accept: Annotated[
        str, Header(description=f"{STREAM} for a stream of server-sent events.")
    ] = "",
    last_event_id: Annotated[
        str | None, Header(description="The last id that was heard; wins over `after`.")
    ] = None,
) -> Response:
    """JSON pages; or a stream that starts with `task.snapshot`, then has each event as it is
    committed, and ends with `stream.end`. 204 for a stream of which nothing is left to tell."""
    after = query.after if last_event_id is None else _seq(last_event_id)
    if STREAM not in accept.lower():
        return await _page(services, caller, task_id, after or 0, query.limit)
    row = existing(task_id, await services.reads.task(caller.tenant_id, task_id))
    ended = TaskStatus(row["status"]).terminal
    if after is None:
        wait = await services.capacity.wait_for(row["position"])
        snapshot = task_view(row, estimated_wait=wait).model_dump_json()
        return EventStream(
            services, caller, task_id, after=row["version"], snapshot=snapshot, ended=ended
        )
    if ended and after >= row["version"]:
        return Response(status_code=204)
    if after > row["version"]:
        raise _ahead(after, row["version"], in_header=last_event_id is not None)
    return EventStream(services, caller, task_id, after=after, snapshot=None, ended=False)


def _ahead(after: int, last: int, *, in_header: bool) -> Problem:
    """A stream from there would pass over what is still to come."""
    detail = f"is {after}, but the last event of this task is {last}; send one that was heard"
    pointer = "/header/Last-Event-ID" if in_header else "/query/after"
    slug = "invalid-header" if in_header else "validation-failed"
    return Problem(slug, f"{pointer} {detail}.", errors=[{"pointer": pointer, "detail": detail}])


async def _page(
    services: Services, caller: Caller, task_id: UUID, after: int, limit: int
) -> Response:
    rows = await queries.events_after(
        services.database, caller.tenant_id, task_id, after=after, limit=limit + 1
    )
    existing(task_id, rows[0] if rows else None)
    found = [EventView.model_validate(dict(row)) for row in rows if row["seq"] is not None]
    page = EventPage(data=found[:limit], has_more=len(found) > limit)
    headers = {}
    if page.has_more:
        further = f"/v1/tasks/{task_id}/events?after={page.data[-1].seq}&limit={limit}"
        headers["Link"] = f'<{further}>; rel="next"'
    return Response(page.model_dump_json(), headers=headers, media_type="application/json")


def _seq(last_event_id: str) -> int:
    """Raises Problem: an id that is not ours would silently repeat, or pass over, what was."""
    if re.fullmatch(r"[0-9]{1,10}", last_event_id) and int(last_event_id) <= LAST_SEQ:
        return int(last_event_id)
    reason = {"pointer": "/header/Last-Event-ID", "detail": "must be the id of an event: a number"}
    raise Problem("invalid-header", f"Last-Event-ID {reason['detail']}.", errors=[reason])
