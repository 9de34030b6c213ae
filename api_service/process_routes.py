"""The relays, the workers and their queue; draining a worker; and what a task waits for."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from fastapi import APIRouter, Depends

from api_service import processes
from api_service.caller import Caller, Services
from api_service.documented import problems_of
from api_service.facts import facts_of
from api_service.ops_schemas import Order, PauseResult
from api_service.problems import Problem
from api_service.process_schemas import (
    Explanation,
    QueueList,
    RelayList,
    WorkerList,
    WorkerView,
)
from api_service.strict import StrictRoute
from api_service.why import why
from shared import operating
from shared.messages import QUEUE

router = APIRouter(prefix="/v1/ops", tags=["operators"], route_class=StrictRoute)


async def queue_name(name: str) -> None:
    """There is one queue; its name is part of the address, so that there may be more."""
    if name != QUEUE:
        raise Problem("not-found", f"There is no queue {name}; there is {QUEUE}.")


@router.get("/workers", summary="Who generates, what, and how fast")
async def list_workers(services: Services) -> WorkerList:
    """As they say themselves every few seconds. One that was killed is shown as gone for a day."""
    return WorkerList(data=await processes.workers(services.database))


@router.post(
    "/workers/{worker_id}/drain",
    summary="Let a worker take nothing more",
    responses=problems_of("process-not-found"),
)
async def drain_worker(
    worker_id: UUID, order: Order, services: Services, caller: Caller
) -> WorkerView:
    """It finishes what it has and stays alive. It hears of it within seconds; once its state is
    `drained`, nothing is lost by ending it."""
    return await _give_order("drain", worker_id, order, services, caller)


@router.post(
    "/workers/{worker_id}/undrain",
    summary="Let a drained worker go on",
    responses=problems_of("process-not-found"),
)
async def undrain_worker(
    worker_id: UUID, order: Order, services: Services, caller: Caller
) -> WorkerView:
    return await _give_order("undrain", worker_id, order, services, caller)


@router.get("/relays", summary="Who carries from PostgreSQL to Redis")
async def list_relays(services: Services) -> RelayList:
    return RelayList(data=await processes.relays(services.database))


@router.get("/queues", summary="How much waits, who works on it, and how long it may take")
async def list_queues(services: Services) -> QueueList:
    return QueueList(data=[await processes.queue(services.database, services.capacity)])


@router.post(
    "/queues/{name}/pause",
    summary="Hold the relays back",
    responses=problems_of("not-found"),
    dependencies=[Depends(queue_name)],
)
async def pause_queue(order: Order, services: Services, caller: Caller) -> PauseResult:
    """The same act as for the outbox: there is one queue."""
    found = await operating.pause(services.database, order.actor or caller.name, order.reason)
    return PauseResult.model_validate(found)


@router.post(
    "/queues/{name}/resume",
    summary="Let the relays go on",
    responses=problems_of("not-found"),
    dependencies=[Depends(queue_name)],
)
async def resume_queue(order: Order, services: Services, caller: Caller) -> PauseResult:
    found = await operating.resume(services.database, order.actor or caller.name, order.reason)
    return PauseResult.model_validate(found)


@router.get(
    "/tasks/{task_id}/why",
    summary="What a task waits for, in one sentence",
    responses=problems_of("task-not-found", "task-deleted"),
)
async def explain_task(task_id: UUID, services: Services) -> Explanation:
    """Concluded from its row, its message, their locks, leases, pauses, and who is alive."""
    facts = await facts_of(services.database, task_id)
    if facts is None:
        raise Problem("task-not-found", f"There is no task {task_id}.")
    if facts.deleted:
        raise Problem("task-deleted", f"Task {task_id} was deleted.")
    found = why(facts)
    return Explanation(
        task_id=task_id,
        status=facts.status,
        waits_for=found.waits_for,
        sentence=found.sentence,
        facts=facts.told(),
    )


async def _give_order(
    which: Literal["drain", "undrain"],
    worker_id: UUID,
    order: Order,
    services: Services,
    caller: Caller,
) -> WorkerView:
    worker = await processes.give_order(
        services.database,
        which,
        worker_id,
        actor=order.actor or caller.name,
        reason=order.reason,
    )
    if worker is None:
        raise Problem("process-not-found", f"There is no worker {worker_id}.")
    return worker
