"""To Redis, as an unmodified Dramatiq worker expects it: a whole batch in one round trip."""

from __future__ import annotations

import time
from collections.abc import Sequence

from dramatiq import Message
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from shared.database import retriable
from shared.errors import WaymarkError
from shared.messages import ACTOR, NAMESPACE, QUEUE, Doorbell
from shared.settings import Settings


class BrokerUnavailable(WaymarkError):
    """Redis did not answer, or not with a yes: nothing may be settled."""


def will_pass(error: Exception) -> bool:
    """Trouble of Redis or PostgreSQL that a loop waits out; anything else is a fault."""
    return isinstance(error, BrokerUnavailable) or retriable(error)


class Publisher:
    def __init__(self, client: Redis) -> None:
        self._publish = client.register_script(PUBLISH)

    async def publish(self, doorbells: Sequence[Doorbell]) -> list[bool]:
        """Hand over all doorbells. For each: True if new, False if Redis still holds it.

        Raises BrokerUnavailable; then some may have arrived all the same, and all may be sent
        again, because an id that is still there is not added twice.
        """
        if not doorbells:
            return []
        arguments = [part for bell in doorbells for part in (bell.message_id, encode(bell))]
        keys = [f"{NAMESPACE}:{QUEUE}", f"{NAMESPACE}:{QUEUE}.msgs"]
        try:
            replies = await self._publish(keys=keys, args=arguments)
        except (RedisError, OSError) as error:
            raise BrokerUnavailable(f"Redis: {error}") from error
        if len(replies) != len(doorbells):
            raise BrokerUnavailable(f"Redis answered for {len(replies)} of {len(doorbells)}")
        return [reply == 1 for reply in replies]


def connect(settings: Settings) -> Redis:
    """A client that gives up soon and never repeats a command by itself: our loops decide."""
    return Redis.from_url(
        settings.require_redis(),
        socket_timeout=settings.redis_timeout,
        socket_connect_timeout=settings.redis_timeout,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=10,
    )


def encode(doorbell: Doorbell) -> bytes:
    """The message as Dramatiq's own broker would store it; ids only, under 512 bytes."""
    return Message(
        queue_name=QUEUE,
        actor_name=ACTOR,
        args=(),
        kwargs=doorbell.as_kwargs(),
        options={"redis_message_id": doorbell.message_id},
        message_id=doorbell.message_id,
        message_timestamp=int(time.time() * 1000),
    ).encode()


# What Dramatiq's `enqueue` does (its brokers/redis/dispatch.lua), for many messages at once and
# only where the id is not there yet. Nothing runs in between; if a command fails half-way, the
# repeat adds what is missing, because an id counts as held only once its body is written. That
# stock workers take these messages is held by tests/contract/test_stock_worker.py.
PUBLISH = """
local added = {}
for i = 1, #ARGV, 2 do
    local held = redis.call('hexists', KEYS[2], ARGV[i])
    if held == 0 then
        redis.call('rpush', KEYS[1], ARGV[i])
        redis.call('hset', KEYS[2], ARGV[i], ARGV[i + 1])
    end
    added[#added + 1] = 1 - held
end
return added
"""
