"""What Redis says when it is asked how it is: an answer, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from shared.messages import DEPLOYMENT_KEY, NAMESPACE, QUEUE, SLOTS_KEY
from shared.settings import Settings


@dataclass(frozen=True, slots=True)
class Answers:
    """``depth`` messages wait for ``slots`` slots of so many live workers."""

    depth: int
    workers: int
    slots: int
    deployment_id: str | None
    """Whose doorbells these are; None as long as no relay or worker has started."""


@dataclass(frozen=True, slots=True)
class Silent:
    """It does not answer, or nobody said where it is."""

    reason: str
    asked: bool = True


def ask_redis(settings: Settings) -> Answers | Silent:
    if settings.redis_url is None:
        return Silent("WAYMARK_REDIS_URL is not set", asked=False)
    try:
        with Redis.from_url(
            settings.require_redis(),
            socket_timeout=settings.redis_timeout,
            socket_connect_timeout=settings.redis_timeout,
            retry=Retry(NoBackoff(), 0),
        ) as client:
            return _look(client)
    except (RedisError, OSError, ValueError) as error:
        return Silent(str(error).rstrip(".") or type(error).__name__)


def _look(client: Redis) -> Answers:
    with client.pipeline(transaction=False) as pipeline:
        pipeline.llen(f"{NAMESPACE}:{QUEUE}")
        pipeline.get(DEPLOYMENT_KEY)
        pipeline.time()
        pipeline.zrange(SLOTS_KEY, 0, -1, withscores=True)
        depth, owner, (seconds, micros), workers = pipeline.execute()
    now = seconds * 1000 + micros // 1000
    slots = [int(member.partition(b" ")[0]) for member, gone_at in workers if gone_at >= now]
    return Answers(depth, len(slots), sum(slots), owner.decode() if owner else None)
