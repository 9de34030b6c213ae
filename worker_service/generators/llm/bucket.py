"""The rate of calls with one key, shared by all workers through Redis."""

from __future__ import annotations

import hashlib

from pydantic import SecretStr
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.errors import Transient
from shared.messages import NAMESPACE

MINUTE = 60_000_000
"""In microseconds, the unit of the script."""


class Bucket:
    """Holds a tenth of a minute's calls, at least one, and fills evenly."""

    def __init__(self, client: Redis, per_minute: int, credential: SecretStr | None) -> None:
        self.key = f"{NAMESPACE}:calls:{_fingerprint(credential)}"
        self._interval = MINUTE / per_minute
        self._burst = max(1, per_minute // 10)
        self._take = client.register_script(TAKE)

    async def take(self) -> float:
        """0.0 if a token was taken, else the seconds until there may be one.

        Raises Transient when Redis cannot be asked: what is not known to be allowed is not done.
        """
        try:
            wait = await self._take(keys=[self.key], args=[self._interval, self._burst])
        except (RedisError, OSError) as error:
            raise Transient(
                "The rate of calls to the model could not be checked. The task is tried again.",
                code="model_rate_unknown",
                charged=False,
                retry_after=1,
            ) from error
        return int(wait) / 1_000_000


def _fingerprint(credential: SecretStr | None) -> str:
    if credential is None:
        return "none"
    return hashlib.sha256(credential.get_secret_value().encode()).hexdigest()[:12]


# The key holds when the bucket will be full again, by Redis' own clock ("generic cell rate
# algorithm"): one number is the whole bucket, and the key ends when it says nothing any more.
# Never more than a whole bucket ahead: else a clock that was set back would stop all calls.
# One microsecond is forgiven: so coarse are floats of this size.
TAKE = """
local time = redis.call('time')
local now = time[1] * 1000000 + time[2]
local interval = tonumber(ARGV[1])
local whole = interval * tonumber(ARGV[2])
local full = tonumber(redis.call('get', KEYS[1]) or now)
full = math.min(math.max(full, now), now + whole)
local wait = math.max(0, math.ceil(full + interval - now - whole - 1))
if wait == 0 then
    full = full + interval
end
redis.call('set', KEYS[1], string.format('%.3f', full), 'px', math.ceil((full - now) / 1000))
return wait
"""
