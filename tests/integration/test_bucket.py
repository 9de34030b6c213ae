"""The rate that workers share in a real Valkey."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
import redis
from pydantic import SecretStr
from redis.asyncio import Redis

from shared.errors import Transient
from tests.conftest import Servers
from tests.eventually import eventually
from worker_service.generators.llm.bucket import Bucket

KEY = SecretStr("sk-of-nobody")


@pytest.fixture
async def client(servers: Servers, valkey: redis.Redis) -> AsyncIterator[Redis]:
    async with Redis.from_url(servers.valkey.url) as client:
        yield client


async def test_a_tenth_of_a_minutes_calls_go_at_once_and_the_next_waits_its_turn(
    client: Redis,
) -> None:
    bucket = Bucket(client, 60, KEY)
    assert [await bucket.take() for _ in range(6)] == [0.0] * 6
    assert 0 < await bucket.take() <= 1.0


async def test_after_the_wait_there_is_a_token(client: Redis) -> None:
    bucket = Bucket(client, 600, KEY)
    for _ in range(60):
        await bucket.take()
    await asyncio.sleep(await bucket.take())
    assert await bucket.take() == 0.0


async def test_a_slow_rate_still_has_one_token(client: Redis) -> None:
    bucket = Bucket(client, 1, KEY)
    assert await bucket.take() == 0.0
    assert 0 < await bucket.take() <= 60


async def test_workers_with_one_key_share_its_rate_and_another_key_has_its_own(
    client: Redis, servers: Servers
) -> None:
    async with Redis.from_url(servers.valkey.url) as elsewhere:
        buckets = [Bucket(one, 100, KEY) for one in (client, elsewhere)]
        takes = await asyncio.gather(*(bucket.take() for bucket in buckets for _ in range(50)))
    taken = takes.count(0.0)
    assert 10 <= taken < 20, "ten at once, and what fell due meanwhile"
    assert await Bucket(client, 100, SecretStr("another")).take() == 0.0
    assert await Bucket(client, 100, None).take() == 0.0


async def test_a_refusal_takes_nothing(client: Redis) -> None:
    bucket = Bucket(client, 1, KEY)
    await bucket.take()
    waits = [await bucket.take() for _ in range(100)]
    assert waits == sorted(waits, reverse=True)


async def test_the_key_names_no_secret_and_ends_by_itself(
    client: Redis, valkey: redis.Redis
) -> None:
    await Bucket(client, 6000, KEY).take()

    async def forgotten() -> None:
        assert valkey.keys() == []

    ttl = valkey.pttl(Bucket(client, 6000, KEY).key)
    assert ttl == -2 or 0 < ttl <= 10
    assert KEY.get_secret_value() not in Bucket(client, 6000, KEY).key
    await eventually(forgotten)


async def test_a_clock_that_was_set_back_stops_nobody_for_long(
    client: Redis, valkey: redis.Redis
) -> None:
    bucket = Bucket(client, 600, KEY)
    seconds, microseconds = valkey.time()
    valkey.set(bucket.key, (seconds + 3600) * 1_000_000 + microseconds)
    wait = await bucket.take()
    assert 0 < wait <= 0.1
    await asyncio.sleep(wait)
    assert await bucket.take() == 0.0


async def test_without_redis_no_call_is_allowed_and_none_is_charged() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # taken, and nobody listens
        async with Redis(port=unused.getsockname()[1], socket_timeout=1) as away:
            with pytest.raises(Transient) as failed:
                await Bucket(away, 60, KEY).take()
    error = failed.value
    assert (error.code, error.charged, error.retry_after) == ("model_rate_unknown", False, 1)
