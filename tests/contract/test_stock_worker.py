"""An unmodified Dramatiq worker takes what the relay publishes; no upgrade breaks it unseen."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis
from dramatiq import Message

from relay_service.envelope import encode
from relay_service.publisher import Publisher, Result, connect
from shared.messages import ACTOR, QUEUE, Doorbell
from shared.settings import Settings
from tests.conftest import Servers
from tests.eventually import eventually

STOCK_MODULE = """
import json, os, dramatiq, redis
from dramatiq.brokers.redis import RedisBroker

url = os.environ["REDIS_URL"]
broker = RedisBroker(url=url, namespace="waymark")
dramatiq.set_broker(broker)
seen = redis.Redis.from_url(url)

@dramatiq.actor(queue_name="roadmaps")
def generate_roadmap(**kwargs):
    seen.rpush("seen", json.dumps(kwargs))
"""


@contextmanager
def stock_worker(servers: Servers, folder: Path) -> Iterator[None]:
    (folder / "stock.py").write_text(STOCK_MODULE)
    process = subprocess.Popen(
        [sys.executable, "-m", "dramatiq", "stock", "--processes", "1", "--threads", "2"],
        cwd=folder,
        env=os.environ | {"REDIS_URL": servers.valkey.url, "PYTHONPATH": str(folder)},
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


async def test_a_stock_worker_runs_each_published_message_once_and_acknowledges_it(
    servers: Servers, settings: Settings, valkey: redis.Redis, tmp_path: Path
) -> None:
    doorbells = [Doorbell(uuid4(), number, uuid4()) for number in range(1, 51)]
    client = connect(settings)
    publisher = Publisher(client)
    messages = [(bell.message_id, encode(bell)) for bell in doorbells]
    assert (await publisher.publish(messages)).results == [Result.NEW] * 50
    assert (await publisher.publish(messages)).results == [Result.HELD] * 50
    await client.aclose()

    async def all_acknowledged() -> None:
        assert valkey.hlen("waymark:roadmaps.msgs") == 0

    with stock_worker(servers, tmp_path):
        await eventually(all_acknowledged)
    seen = [json.loads(one) for one in valkey.lrange("seen", 0, -1)]
    assert sorted(seen, key=str) == sorted((bell.as_kwargs() for bell in doorbells), key=str)
    assert valkey.exists("waymark:roadmaps", "waymark:roadmaps.XQ") == 0


@pytest.mark.parametrize("traceparent", [None, f"00-{'a' * 32}-{'b' * 16}-01", 'odd "\\ü\n'])
def test_our_encoder_writes_what_dramatiqs_own_does(traceparent: str | None) -> None:
    doorbell = Doorbell(uuid4(), 7, uuid4(), traceparent)
    ours = encode(doorbell)
    timestamp = json.loads(ours)["message_timestamp"]
    theirs: Message[Any] = Message(
        queue_name=QUEUE,
        actor_name=ACTOR,
        args=(),
        kwargs=doorbell.as_kwargs(),
        options={"redis_message_id": doorbell.message_id},
        message_id=doorbell.message_id,
        message_timestamp=timestamp,
    )
    assert ours == theirs.encode()
    assert b"\n" not in ours  # the publisher separates messages by it
