"""What operators see, and what they do by hand. Each act is recorded with who did it, and why."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Query, Request, Response

from api_service import ops_lists, selection
from api_service.caller import Caller, Services
from api_service.documented import problems_of
from api_service.ops_schemas import (
    LARGEST,
    ActPage,
    ActQuery,
    ActView,
    BulkOrder,
    Decision,
    IntakeResult,
    LetterPage,
    LetterQuery,
    LetterStory,
    MessagePage,
    Order,
    OutboxQuery,
    Overview,
    PauseResult,
    Preview,
)
from api_service.problems import Problem
from api_service.strict import StrictRoute
from shared import operating

router = APIRouter(prefix="/v1/ops", tags=["operators"], route_class=StrictRoute)

Number = Annotated[int, Path(ge=1, le=LARGEST)]


@router.get("/overview", summary="All figures, and whether they add up")
async def get_overview(services: Services) -> Overview:
    """Counted in one snapshot. However many ask, a tenth of the time at most goes into counting;
    `taken_at` says how old the figures are."""
    return await services.overviews.now()


# --- the outbox ---


@router.get(
    "/outbox",
    summary="What waits for a worker, the oldest first",
    responses=problems_of("invalid-cursor"),
)
async def list_messages(
    query: Annotated[OutboxQuery, Query()], services: Services, request: Request, response: Response
) -> MessagePage:
    page = await ops_lists.messages(services.database, query)
    _link(request, response, page.next_cursor)
    return page


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
    """Submissions are answered with 503 `intake-paused`; what was accepted goes on, and so do the
    acts of operators: a replay may still make a new task."""
    actor = order.actor or caller.name
    found = await operating.pause_intake(services.database, actor, order.reason)
    return IntakeResult.model_validate(found)


@router.post("/intake/resume", summary="Accept tasks again")
async def resume_intake(order: Order, services: Services, caller: Caller) -> IntakeResult:
    actor = order.actor or caller.name
    found = await operating.resume_intake(services.database, actor, order.reason)
    return IntakeResult.model_validate(found)


# --- dead letters ---


@router.get(
    "/dead-letters",
    summary="What failed for good, by the error or one by one",
    responses=problems_of("invalid-cursor"),
)
async def list_letters(
    query: Annotated[LetterQuery, Query()], services: Services, request: Request, response: Response
) -> LetterPage:
    page = await ops_lists.letters(services.database, query)
    _link(request, response, page.next_cursor)
    return page


@router.get(
    "/dead-letters/{number}",
    summary="One dead letter, its task, and what was done",
    responses=problems_of("dead-letter-not-found"),
)
async def get_letter(number: Number, services: Services) -> LetterStory:
    found = await operating.story(services.database, None, number)
    if found is None:
        raise Problem("dead-letter-not-found", f"There is no dead letter {number}.")
    return LetterStory.model_validate(found)


@router.post(
    "/dead-letters/{number}/replay",
    summary="Run its task again",
    responses=problems_of("dead-letter-not-found", "nothing-to-do"),
)
async def replay_letter(
    number: Number, order: Order, services: Services, caller: Caller
) -> Decision:
    """A task that has ended stays as it ended; a new one takes up its request."""
    actor = order.actor or caller.name
    done = await selection.decide_on(
        services.database, "replay", number, actor=actor, reason=order.reason
    )
    services.doorbell.ring()
    return done


@router.post(
    "/dead-letters/{number}/discard",
    summary="Close it; no task is touched",
    responses=problems_of("dead-letter-not-found", "nothing-to-do"),
)
async def discard_letter(
    number: Number, order: Order, services: Services, caller: Caller
) -> Decision:
    actor = order.actor or caller.name
    return await selection.decide_on(
        services.database, "discard", number, actor=actor, reason=order.reason
    )


@router.post(
    "/dead-letters:replay",
    summary="Run the tasks of many again: look first, then act",
    responses=problems_of("selection-changed", "nothing-to-do"),
)
async def replay_letters(
    order: BulkOrder, services: Services, caller: Caller
) -> Preview | Decision:
    """With `dry_run`: what would be done, and a token. With the token: it is done, at a rate that
    the outbox keeps by itself; 409 when the set is not the one that was shown."""
    actor = order.actor or caller.name
    done = await selection.fulfil(services.database, "replay", order, actor)
    services.doorbell.ring()
    return done


@router.post(
    "/dead-letters:discard",
    summary="Close many: look first, then act",
    responses=problems_of("selection-changed", "nothing-to-do"),
)
async def discard_letters(
    order: BulkOrder, services: Services, caller: Caller
) -> Preview | Decision:
    """With `dry_run`: which would be closed, and a token. With the token: they are; 409 when the
    set is not the one that was shown. No task is touched."""
    return await selection.fulfil(services.database, "discard", order, order.actor or caller.name)


# --- what was done ---


@router.get(
    "/audit",
    summary="Acts of operators, the newest first",
    responses=problems_of("invalid-cursor"),
)
async def list_acts(
    query: Annotated[ActQuery, Query()], services: Services, request: Request, response: Response
) -> ActPage:
    page = await ops_lists.acts(services.database, query)
    _link(request, response, page.next_cursor)
    return page


@router.get(
    "/audit/{number}",
    summary="One act",
    responses=problems_of("act-not-found"),
)
async def get_act(number: Number, services: Services) -> ActView:
    found = await operating.act_by_number(services.database, number)
    if found is None:
        raise Problem("act-not-found", f"There is no act {number}.")
    return ActView.model_validate(dict(found))


def _link(request: Request, response: Response, cursor: str | None) -> None:
    if cursor is not None:
        asked = [one for one in request.query_params.multi_items() if one[0] != "cursor"]
        query = urlencode([*asked, ("cursor", cursor)])
        response.headers["Link"] = f'<{request.url.path}?{query}>; rel="next"'
