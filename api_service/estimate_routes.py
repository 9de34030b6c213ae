"""The address of estimates: a submission that is looked at, and not made."""

from __future__ import annotations

from fastapi import APIRouter

from api_service.caller import Services
from api_service.documented import problems_of
from api_service.schemas import TaskSubmission
from api_service.strict import StrictRoute
from api_service.timeliness import untimely
from shared.views import Validation

router = APIRouter(prefix="/v1", route_class=StrictRoute)


@router.post(
    "/tasks:validate",
    summary="What a goal would come to",
    responses=problems_of("planner-unavailable"),
)
async def validate_task(body: TaskSubmission, services: Services) -> Validation:
    """The same body as for a submission, and the same problem if it breaks a rule. Nothing is
    written. `estimate` is null when the task would fail; `problem` then says why."""
    if refusal := untimely(body):
        raise refusal
    return await services.estimates.validation_of(body)
