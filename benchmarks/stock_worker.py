"""An unmodified Dramatiq worker: its broker, its consumer, its settings, none of ours."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker

from shared.process import announce_ready
from shared.settings import load_settings

STARTED = "stock:started"
"""List of when each actor started, in order."""


def declare(redis_url: str) -> tuple[RedisBroker, dramatiq.Actor[[], Any]]:
    broker = RedisBroker(url=redis_url)  # type: ignore[no-untyped-call] # Dramatiq leaves it so
    answers = redis.Redis.from_url(redis_url)

    @dramatiq.actor(broker=broker, queue_name="stock")
    def note_the_time() -> None:
        answers.rpush(STARTED, repr(time.time()))

    return broker, note_the_time


def serve(declare: Callable[[str], tuple[RedisBroker, object]]) -> None:
    """Run what ``declare`` makes of the URL of Redis, with Dramatiq's own worker, for ever."""
    settings = load_settings()
    broker, _ = declare(settings.require_redis())
    dramatiq.Worker(broker).start()
    announce_ready(settings)
    threading.Event().wait()


if __name__ == "__main__":
    serve(declare)
