"""To Redis, as an unmodified Dramatiq worker expects it: a whole batch in one round trip."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, cast
from uuid import UUID

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from shared.database import retriable
from shared.errors import WaymarkError
from shared.messages import INCARNATION_KEY, NAMESPACE, QUEUE, SLOTS_KEY
from shared.settings import Settings

QUEUE_KEY = f"{NAMESPACE}:{QUEUE}"
UNLIMITED = 2**31
TASK_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(?=:\d)")
"""How a message id of ours begins."""


class BrokerUnavailable(WaymarkError):
    """Redis did not answer, or not with a yes: nothing may be settled."""


class MemoryLost(BrokerUnavailable):
    """Redis is not the one that was trusted: it has forgotten, or another took its place."""


class Result(IntEnum):
    """What became of one message: the letter that the script answers."""

    NEW = ord("n")
    HELD = ord("h")
    NO_ROOM = ord("f")


@dataclass(frozen=True, slots=True)
class Published:
    results: list[Result]
    depth: int
    """Messages that wait in Redis now."""


def will_pass(error: Exception) -> bool:
    """Trouble of Redis or PostgreSQL that a loop waits out; anything else is a fault."""
    return isinstance(error, BrokerUnavailable) or retriable(error)


class Publisher:
    def __init__(self, client: Redis) -> None:
        self.client = client
        self.marker: bytes | None = None
        """The memory of Redis that may be published into; any, as long as none is known."""
        self._publish = client.register_script(PUBLISH)
        self._fill = client.register_script(FILL)

    async def publish(
        self, messages: Sequence[tuple[str, bytes]], window: int = UNLIMITED
    ) -> Published:
        """Hand over (id, body) pairs, as long as fewer than ``window`` wait in Redis.

        Raises BrokerUnavailable; then some may have arrived all the same, and all may be sent
        again, because an id that is still there is not added twice.
        """
        keys = [QUEUE_KEY, f"{QUEUE_KEY}.msgs", INCARNATION_KEY]
        ids, bodies = zip(*messages, strict=True)
        # Neither has a line feed in it; two arguments are packed many times faster than hundreds.
        arguments = [self.marker or b"", window, "\n".join(ids), b"\n".join(bodies)]
        depth, results = await self._ask(self._publish, keys, arguments)
        if len(results) != len(messages):
            raise BrokerUnavailable(f"Redis answered for {len(results)} of {len(messages)}")
        return Published([Result(one) for one in results], depth)

    async def fill(self) -> tuple[int, int]:
        """How many messages wait in Redis, and how many slots the live workers have."""
        depth, *members = await self._ask(self._fill, [QUEUE_KEY, SLOTS_KEY], [])
        return depth, sum(int(member.partition(b" ")[0]) for member in members)

    async def queued(self) -> list[UUID]:
        """The tasks whose messages wait in Redis' queue, the first ten thousand of them."""
        try:
            ids = cast(list[bytes], await self.client.lrange(QUEUE_KEY, 0, 9_999))
        except (RedisError, OSError) as error:
            raise BrokerUnavailable(f"Redis: {error}") from error
        found = (TASK_ID.match(one.decode(errors="replace")) for one in ids)
        return [UUID(match[0]) for match in found if match]

    async def _ask(self, script: Any, keys: list[str], arguments: list[Any]) -> list[Any]:
        try:
            found: list[Any] = await script(keys=keys, args=arguments)
        except ResponseError as error:
            if str(error).startswith("FORGOTTEN"):
                raise MemoryLost("Redis is not the one that was trusted") from error
            raise BrokerUnavailable(f"Redis: {error}") from error
        except (RedisError, OSError) as error:
            raise BrokerUnavailable(f"Redis: {error}") from error
        return found


def connect(settings: Settings) -> Redis:
    """A client that gives up soon and never repeats a command by itself: our loops decide."""
    return Redis.from_url(
        settings.require_redis(),
        socket_timeout=settings.redis_timeout,
        socket_connect_timeout=settings.redis_timeout,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=10,
    )


# What Dramatiq's `enqueue` does (its brokers/redis/dispatch.lua), for many messages at once, only
# where the id is not there yet, and only into the memory that is trusted. Nothing runs in between;
# if a command fails half-way, the repeat adds what is missing, because an id counts as held only
# once its body is written. That stock workers take these messages is held by
# tests/contract/test_stock_worker.py.
PUBLISH = """
if ARGV[1] ~= '' and redis.call('get', KEYS[3]) ~= ARGV[1] then
    return redis.error_reply('FORGOTTEN another memory')
end
local depth = redis.call('llen', KEYS[1])
local window = tonumber(ARGV[2])
local replies = {}
local next_body = string.gmatch(ARGV[4], '[^\\n]+')
for id in string.gmatch(ARGV[3], '[^\\n]+') do
    local body = next_body()
    if redis.call('hexists', KEYS[2], id) == 1 then
        replies[#replies + 1] = 'h'
    elseif depth >= window then
        replies[#replies + 1] = 'f'
    else
        redis.call('rpush', KEYS[1], id)
        redis.call('hset', KEYS[2], id, body)
        depth = depth + 1
        replies[#replies + 1] = 'n'
    end
end
return {depth, table.concat(replies)}
"""

FILL = """
local time = redis.call('time')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local live = redis.call('zrangebyscore', KEYS[2], now, '+inf')
return {redis.call('llen', KEYS[1]), unpack(live)}
"""
