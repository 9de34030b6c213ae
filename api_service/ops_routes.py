"""What operators see, and what they do by hand. Each act is recorded with who did it, and why."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request, Response

from api_service import cursors, selection
from api_service.caller import Caller, Services
from api_service.ops_schemas import (
    ActPage,
    ActQuery,
    ActView,
    BulkOrder,
    Decision,
    IntakeResult,
    LetterGroup,
    LetterPage,
    LetterQuery,
    LetterStory,
    LetterView,
    MessagePage,
    MessageView,
    Order,
    OutboxQuery,
    Overview,
    PauseResult,
    Preview,
)
from api_service.problems import Problem
from api_service.selection import Kind, Selection
from shared import operating
from shared.lifecycle import Priority

router = APIRouter(prefix="/v1/ops", tags=["operators"])

Number = Annotated[int, Path(ge=1, le=2**63 - 1)]


@router.get("/overview", summary="All figures, and whether they add up")
async def get_overview(services: Services) -> Overview:
    """Counted in one snapshot, and at most every half second."""
    return await services.overviews.now()


# --- the outbox ---


@router.get("/outbox", summary="What waits for a worker, the oldest first")
async def list_messages(
    query: Annotated[OutboxQuery, Query()], services: Services, request: Request, response: Response
) -> MessagePage:
    rows = await operating.messages(
        services.database,
        tenant=query.tenant,
        priority=Priority[query.priority.upper()] if query.priority else None,
        state=query.state,
        task_id=query.task_id,
        beyond=_message_beyond(query.cursor),
        limit=query.limit + 1,
    )
    data = [
        MessageView.model_validate(dict(row) | {"priority": Priority(row["priority"]).name.lower()})
        for row in rows[: query.limit]
    ]
    cursor = None
    if len(rows) > query.limit:
        last = data[-1]
        cursor = cursors.encode({"at": last.available_at.isoformat(), "id": str(last.task_id)})
    _link(request, response, cursor)
    return MessagePage(data=data, has_more=cursor is not None, next_cursor=cursor)


@router.post("/outbox/pause", summary="Hold the relays back")
async def pause_outbox(order: Order, services: Services, caller: Caller) -> PauseResult:
    """Tasks are accepted, and wait. What is dispatched already still runs."""
    found = await operating.pause(services.database, order.actor or caller.name, order.reason)
    return PauseResult.model_validate(found)


@router.post("/outbox/resume", summary="Let the relays go on")
async def resume_outbox(order: Order, services: Services, caller: Caller) -> PauseResult:
    found = await operating.resume(services.database, order.actor or caller.name, order.reason)
    return PauseResult.model_validate(found)


@router.post("/intake/pause", summary="Accept no new tasks")
async def pause_intake(order: Order, services: Services, caller: Caller) -> IntakeResult:
    """Submissions are answered with 503 `intake-paused`; what was accepted goes on."""
    actor = order.actor or caller.name
    found = await operating.pause_intake(services.database, actor, order.reason)
    return IntakeResult.model_validate(found)


@router.post("/intake/resume", summary="Accept tasks again")
async def resume_intake(order: Order, services: Services, caller: Caller) -> IntakeResult:
    actor = order.actor or caller.name
    found = await operating.resume_intake(services.database, actor, order.reason)
    return IntakeResult.model_validate(found)


# --- dead letters ---


@router.get("/dead-letters", summary="What failed for good, by the error or one by one")
async def list_letters(
    query: Annotated[LetterQuery, Query()], services: Services, request: Request, response: Response
) -> LetterPage:
    wanted = query.as_filter()
    grouped = query.group_by == "fingerprint" or (query.group_by is None and not wanted.said())
    if grouped:
        if wanted.said() or query.cursor:
            raise Problem(
                "validation-failed", "Groups have no filter and no cursor: send group_by=none."
            )
        rows = await operating.groups(
            services.database, resolved=query.resolved, limit=query.limit + 1
        )
        groups = [LetterGroup.model_validate(dict(row)) for row in rows[: query.limit]]
        return LetterPage(data=groups, has_more=len(rows) > query.limit, next_cursor=None)
    rows = await operating.matching(
        services.database,
        wanted,
        resolved=query.resolved,
        beyond=_number_beyond(query.cursor) or 0,
        limit=query.limit + 1,
    )
    letters = [LetterView.model_validate(dict(row)) for row in rows[: query.limit]]
    cursor = cursors.encode({"id": letters[-1].id}) if len(rows) > query.limit else None
    _link(request, response, cursor)
    return LetterPage(data=letters, has_more=cursor is not None, next_cursor=cursor)


@router.get("/dead-letters/{number}", summary="One dead letter, its task, and what was done")
async def get_letter(number: Number, services: Services) -> LetterStory:
    found = await operating.story(services.database, None, number)
    if found is None:
        raise Problem("dead-letter-not-found", f"There is no dead letter {number}.")
    return LetterStory.model_validate(found)


@router.post("/dead-letters/{number}/replay", summary="Run its task again")
async def replay_letter(
    number: Number, order: Order, services: Services, caller: Caller
) -> Decision:
    """A task that has ended stays as it ended; a new one takes up its request."""
    return await _decide_on("replay", number, order, services, caller)


@router.post("/dead-letters/{number}/discard", summary="Close it; no task is touched")
async def discard_letter(
    number: Number, order: Order, services: Services, caller: Caller
) -> Decision:
    return await _decide_on("discard", number, order, services, caller)


@router.post("/dead-letters:replay", summary="Run the tasks of many again: look first, then act")
async def replay_letters(
    order: BulkOrder, services: Services, caller: Caller
) -> Preview | Decision:
    """With `dry_run`: what would be done, and a token. With the token: it is done, at a rate that
    the outbox keeps by itself; 409 when the set is not the one that was shown."""
    return await _bulk("replay", order, services, caller)


@router.post("/dead-letters:discard", summary="Close many: look first, then act")
async def discard_letters(
    order: BulkOrder, services: Services, caller: Caller
) -> Preview | Decision:
    return await _bulk("discard", order, services, caller)


# --- what was done ---


@router.get("/audit", summary="Acts of operators, the newest first")
async def list_acts(
    query: Annotated[ActQuery, Query()], services: Services, request: Request, response: Response
) -> ActPage:
    rows = await operating.acts(
        services.database,
        act=query.act,
        actor=query.actor,
        beyond=_number_beyond(query.cursor),
        limit=query.limit + 1,
    )
    data = [ActView.model_validate(dict(row)) for row in rows[: query.limit]]
    cursor = cursors.encode({"id": data[-1].id}) if len(rows) > query.limit else None
    _link(request, response, cursor)
    return ActPage(data=data, has_more=cursor is not None, next_cursor=cursor)


@router.get("/audit/{number}", summary="One act")
async def get_act(number: Number, services: Services) -> ActView:
    found = await operating.act_by_number(services.database, number)
    if found is None:
        raise Problem("not-found", f"There is no act {number}.")
    return ActView.model_validate(dict(found))


async def _decide_on(
    kind: Kind, number: int, order: Order, services: Services, caller: Caller
) -> Decision:
    found = await operating.named(services.database, [number], [])
    if not found:
        raise Problem("dead-letter-not-found", f"There is no dead letter {number}.")
    return await selection.decide(
        services.database,
        kind,
        [dict(one) for one in found if one["resolution"] is None],
        {"ids": [number]},
        actor=order.actor or caller.name,
        reason=order.reason,
    )


async def _bulk(
    kind: Kind, order: BulkOrder, services: Services, caller: Caller
) -> Preview | Decision:
    if order.dry_run:
        return await selection.look(services.database, Selection(kind, order.ids, order.filter))
    return await selection.act_on_preview(
        services.database,
        kind,
        order.preview_token or "",
        expected=order.expected_count or 0,
        actor=order.actor or caller.name,
        reason=order.reason or "",
        rate=order.rate_per_second,
    )


def _message_beyond(cursor: str | None) -> tuple[datetime, UUID] | None:
    if cursor is None:
        return None
    place: Mapping[str, Any] = cursors.decode(cursor, ("at", "id"))
    try:
        return datetime.fromisoformat(place["at"]), UUID(place["id"])
    except (TypeError, ValueError, AttributeError):
        raise cursors.not_ours() from None


def _number_beyond(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    number = cursors.decode(cursor, ("id",))["id"]
    if not isinstance(number, int) or not 0 <= number < 2**63:
        raise cursors.not_ours()
    return number


def _link(request: Request, response: Response, cursor: str | None) -> None:
    if cursor is not None:
        asked = [(name, value) for name, value in request.query_params.multi_items()]
        asked = [*((name, value) for name, value in asked if name != "cursor"), ("cursor", cursor)]
        response.headers["Link"] = f'<{request.url.path}?{urlencode(asked)}>; rel="next"'
