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
from uuid import uuid4

import redis

from relay_service.publisher import Publisher, connect
from shared.messages import Doorbell
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
    assert await publisher.publish(doorbells) == [True] * 50
    assert await publisher.publish(doorbells) == [False] * 50
    await client.aclose()

    async def all_acknowledged() -> None:
        assert valkey.hlen("waymark:roadmaps.msgs") == 0

    with stock_worker(servers, tmp_path):
        await eventually(all_acknowledged)
    seen = [json.loads(one) for one in valkey.lrange("seen", 0, -1)]
    assert sorted(seen, key=str) == sorted((bell.as_kwargs() for bell in doorbells), key=str)
    assert valkey.exists("waymark:roadmaps", "waymark:roadmaps.XQ") == 0
