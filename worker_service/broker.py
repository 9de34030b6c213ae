"""Dramatiq, set up so that it cannot lose a message that PostgreSQL does not know better about."""

from __future__ import annotations

import redis
from dramatiq.brokers.redis import RedisBroker
from redis.backoff import NoBackoff
from redis.retry import Retry

from shared.messages import NAMESPACE
from shared.settings import Settings


def make_broker(settings: Settings) -> RedisBroker:
    """No Retries, no Results, no delays: those lose messages when Redis blinks.

    Maintenance, which returns a dead worker's messages, runs on every fetch instead of on one
    in a thousand; leases in PostgreSQL are the authority all the same.
    """
    client = redis.Redis.from_url(
        settings.require_redis(),
        socket_timeout=settings.redis_timeout,
        socket_connect_timeout=settings.redis_timeout,
        # Dramatiq's commands are not safe to repeat by themselves.
        retry=Retry(NoBackoff(), 0),
        health_check_interval=10,
    )
    return RedisBroker(  # type: ignore[no-untyped-call] # Dramatiq leaves it untyped
        client=client,
        namespace=NAMESPACE,
        middleware=[],
        maintenance_chance=1_000_000,
        heartbeat_timeout=30_000,
    )
