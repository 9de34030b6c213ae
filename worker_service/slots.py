"""Tells the relays how many tasks this worker can run at once, as long as it lives."""

from __future__ import annotations

import asyncio
import contextlib

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.database import reason
from shared.messages import SLOTS_KEY

log = structlog.get_logger()

INTERVAL = 5.0
"""Seconds between two announcements."""
VALID = 15_000
"""Milliseconds; a worker that misses two announcements still counts."""


class Slots:
    def __init__(self, client: Redis, slots: int, owner: str) -> None:
        self.client = client
        self.member = f"{slots} {owner}"
        self.resting = False
        """Whether this worker takes nothing, though it lives. Relays hear of it within INTERVAL."""
        self._announce = client.register_script(ANNOUNCE)

    async def run(self, stop: asyncio.Event) -> None:
        """Announce until ``stop`` is set, then withdraw. A relay that hears nothing fills Redis
        as for fewer workers, so trouble with Redis is no trouble here."""
        while not stop.is_set():
            await (self.withdraw() if self.resting else self.announce())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), INTERVAL)
        await self.withdraw()

    async def announce(self) -> None:
        try:
            await self._announce(keys=[SLOTS_KEY], args=[VALID, self.member])
        except (RedisError, OSError) as error:
            log.debug("slots_not_announced", reason=reason(error))

    async def withdraw(self) -> None:
        try:
            await self.client.zrem(SLOTS_KEY, self.member)
        except (RedisError, OSError) as error:
            log.debug("slots_not_withdrawn", reason=reason(error))


# By Redis' own clock, which the relays read it by. Who is new clears away who is long gone.
ANNOUNCE = """
local time = redis.call('time')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if redis.call('zadd', KEYS[1], now + ARGV[1], ARGV[2]) == 1 then
    redis.call('zremrangebyscore', KEYS[1], '-inf', now)
end
"""
