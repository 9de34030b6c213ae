"""The one actor: from a Dramatiq message to a generation, on the event loop of this process."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, cast

import dramatiq
import structlog
from dramatiq.asyncio import EventLoopThread, set_event_loop_thread
from dramatiq.brokers.redis import RedisBroker

from shared.messages import ACTOR, QUEUE, Doorbell
from worker_service.generation import Generation

log = structlog.get_logger()


def declare_actor(broker: RedisBroker, generation: Generation) -> None:
    """Register ``generate_roadmap``. It never raises, so Dramatiq always acknowledges."""

    async def generate_roadmap(**kwargs: Any) -> None:
        try:
            doorbell = Doorbell.from_kwargs(kwargs)
        except ValueError as error:
            log.error("message_unreadable", error=str(error))
            return
        with structlog.contextvars.bound_contextvars(message_id=doorbell.message_id):
            try:
                await generation.answer(doorbell)
            except Exception:
                # The row is as it was; the lease runs out or the doorbell rings again.
                log.exception("generation_left", task_id=doorbell.task_id)

    dramatiq.actor(broker=broker, queue_name=QUEUE, actor_name=ACTOR)(generate_roadmap)


class MainLoop:
    """Dramatiq's way to async actors, led to the loop that already runs in the main thread.

    Its own thread wakes ten times a second for each running message and cannot own our engine.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop

    def run_coroutine(self, coro: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coro, self.loop).result()

    def install(self) -> None:
        set_event_loop_thread(cast(EventLoopThread, self))
