"""An unmodified Dramatiq worker whose actor does nothing at all."""

from __future__ import annotations

from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from benchmarks.stock_worker import serve

QUEUE = "bare"
BODIES = f"dramatiq:{QUEUE}.msgs"
"""What Redis holds of messages that are not acknowledged yet."""


def declare(redis_url: str) -> tuple[RedisBroker, dramatiq.Actor[[], Any]]:
    broker = RedisBroker(url=redis_url)  # type: ignore[no-untyped-call] # Dramatiq leaves it so

    @dramatiq.actor(broker=broker, queue_name=QUEUE)
    def nothing() -> None:
        pass

    return broker, nothing


if __name__ == "__main__":
    serve(declare)
