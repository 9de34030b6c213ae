"""Redis in trouble: it delays, and charges nothing; what it forgot is rung again."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import pytest
import redis
from pydantic import SecretStr
from structlog.testing import capture_logs

from relay_service.publisher import BrokerUnavailable, MemoryLost, Publisher, connect
from relay_service.relay import Relay
from relay_service.wakeup import Wakeup
from shared import logs
from shared.database import Database
from shared.settings import Settings
from tests.chaos.relays import (
    QUEUE,
    Lines,
    each_rings_once,
    nothing_was_charged,
    queued,
    relay_at_work,
    waiting,
    waits,
)
from tests.eventually import eventually
from tests.factories import fill
from tests.wire import Wire
from waymark.embedded import ValkeyServer

NOBODY = "127.0.0.1", 1
"""A place where no server listens."""


@contextmanager
def valkey_in(folder: Path) -> Iterator[ValkeyServer]:
    server = ValkeyServer(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A Valkey of the test's own, to be ill-treated."""
    with valkey_in(tmp_path / "valkey") as server:
        yield server


@pytest.fixture
def valkey(server: ValkeyServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url) as client:
        yield client


@pytest.fixture
def settings(settings: Settings, server: ValkeyServer) -> Settings:
    return settings.model_copy(update={"redis_url": SecretStr(server.url), "redis_timeout": 0.3})


@pytest.fixture
async def relay(
    settings: Settings, database: Database, deployment_id: UUID
) -> AsyncIterator[Relay]:
    """Without a sweeper: what it notices, it notices by itself."""
    client = connect(settings)
    yield Relay(settings, database, Publisher(client), Wakeup(database), deployment_id)
    await client.aclose()


async def accept_some(database: Database) -> list[UUID]:
    """In one transaction: the relay sees all of them or none."""
    return await fill(database, 5)


# --- trouble that passes ---

Fault = Callable[[ValkeyServer, redis.Redis], AbstractContextManager[None]]


@contextmanager
def read_only(_server: ValkeyServer, valkey: redis.Redis) -> Iterator[None]:
    """A demoted primary."""
    valkey.replicaof(*NOBODY)
    yield
    valkey.replicaof("NO", "ONE")


@contextmanager
def out_of_memory(_server: ValkeyServer, valkey: redis.Redis) -> Iterator[None]:
    valkey.config_set("maxmemory", 1)
    yield
    valkey.config_set("maxmemory", 0)


@contextmanager
def slow(_server: ValkeyServer, valkey: redis.Redis) -> Iterator[None]:
    """Scripts wait for longer than the relay does; what reads only is answered."""
    valkey.client_pause(600_000, all=False)
    yield
    valkey.client_unpause()


@contextmanager
def frozen(server: ValkeyServer, _valkey: redis.Redis) -> Iterator[None]:
    """Awake again, it finds all requests of the meantime, and runs them."""
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)
    yield
    os.kill(server.pid, signal.SIGCONT)


@pytest.mark.parametrize(
    ("fault", "because"),
    [
        (read_only, "read only replica"),
        (out_of_memory, "used memory > 'maxmemory'"),
        (slow, "Timeout"),
        (frozen, "Timeout"),
    ],
    ids=["read-only", "out of memory", "slow", "frozen"],
)
async def test_trouble_of_redis_is_waited_out_and_charges_nothing(
    settings: Settings,
    database: Database,
    deployment_id: UUID,
    server: ValkeyServer,
    valkey: redis.Redis,
    fault: Fault,
    because: str,
) -> None:
    async with relay_at_work(settings, deployment_id):
        before = await accept_some(database)
        await each_rings_once(valkey, database, before)
        with capture_logs() as lines, fault(server, valkey):
            meanwhile = await accept_some(database)
            await waits(lines, because)
            assert await waiting(database) == sorted(meanwhile)
        await each_rings_once(valkey, database, before + meanwhile)
    await nothing_was_charged(database, before + meanwhile)


async def test_a_redis_that_is_loading_is_waited_for(
    settings: Settings,
    database: Database,
    deployment_id: UUID,
    valkey: redis.Redis,
    tmp_path: Path,
) -> None:
    """It loads what another one sends, slowly, and none of that is ours."""
    async with relay_at_work(settings, deployment_id):
        before = await accept_some(database)
        await each_rings_once(valkey, database, before)
        with capture_logs() as lines, valkey_in(tmp_path / "other") as other:
            fill_for_a_slow_transfer(other)
            valkey.config_set("loading-process-events-interval-bytes", 1024)
            valkey.config_set("key-load-delay", 20_000)  # microseconds
            follow(valkey, other)
            meanwhile = await accept_some(database)
            await waits(lines, "loading")
            await eventually(lambda: is_loaded(valkey))
            valkey.replicaof("NO", "ONE")
        await each_rings_once(valkey, database, before + meanwhile)
    await nothing_was_charged(database, before + meanwhile)


def fill_for_a_slow_transfer(server: ValkeyServer) -> None:
    with redis.Redis.from_url(server.url) as client:
        client.mset({f"key {number}": os.urandom(2048) for number in range(40)})
        client.config_set("repl-diskless-sync-delay", 0)


async def is_loaded(valkey: redis.Redis) -> None:
    assert valkey.info("replication")["master_link_status"] == "up"


def follow(replica: redis.Redis, primary: ValkeyServer) -> None:
    place = urlsplit(primary.url)
    replica.config_set("masterauth", str(place.password))
    replica.replicaof("127.0.0.1", str(place.port))


async def test_an_answer_of_redis_that_is_lost_doubles_nothing(
    settings: Settings, database: Database, deployment_id: UUID, valkey: redis.Redis
) -> None:
    wire = Wire(settings.require_redis(), cue=b"EVALSHA", confirmed_by=b"nnnnn")
    await wire.open()
    through = settings.model_copy(update={"redis_url": SecretStr(wire.url)})
    async with relay_at_work(through, deployment_id):
        warm = await accept_some(database)
        await each_rings_once(valkey, database, warm)
        with capture_logs() as lines:
            wire.strikes.append("lose the reply")
            accepted = warm + await accept_some(database)
            await each_rings_once(valkey, database, accepted)
    await wire.close()
    assert [line["repeated"] for line in lines if line["event"] == logs.TASK_DISPATCHED] == [5]
    await nothing_was_charged(database, accepted)


# --- lost memory ---


async def test_a_redis_restarted_empty_gets_every_doorbell_again(
    settings: Settings,
    database: Database,
    deployment_id: UUID,
    server: ValkeyServer,
    valkey: redis.Redis,
) -> None:
    async with relay_at_work(settings, deployment_id):
        accepted = await accept_some(database)
        await each_rings_once(valkey, database, accepted)
        with capture_logs() as lines:
            server.kill()
            server.start()
            await each_rings_once(valkey, database, accepted)
    assert rearmed(lines) == [5]
    await nothing_was_charged(database, accepted)


async def test_a_redis_restarted_from_an_old_copy_gets_what_the_copy_lacks(
    settings: Settings,
    database: Database,
    deployment_id: UUID,
    server: ValkeyServer,
    valkey: redis.Redis,
) -> None:
    """The marker is in the copy; that it is another process is what tells."""
    async with relay_at_work(settings, deployment_id):
        copied = await accept_some(database)
        await each_rings_once(valkey, database, copied)
        valkey.save()
        lost = await accept_some(database)
        await each_rings_once(valkey, database, copied + lost)
        with capture_logs() as lines:
            server.kill()
            server.start()
            await each_rings_once(valkey, database, copied + lost)
    assert rearmed(lines) == [10]
    await nothing_was_charged(database, copied + lost)


async def test_a_stale_replica_that_takes_over_gets_what_it_had_missed(
    settings: Settings,
    database: Database,
    deployment_id: UUID,
    server: ValkeyServer,
    valkey: redis.Redis,
    tmp_path: Path,
) -> None:
    wire = Wire(settings.require_redis())
    await wire.open()
    through = settings.model_copy(update={"redis_url": SecretStr(wire.url)})
    with valkey_in(tmp_path / "replica") as other, redis.Redis.from_url(other.url) as replica:
        valkey.config_set("repl-diskless-sync-delay", 0)
        follow(replica, server)
        async with relay_at_work(through, deployment_id):
            replicated = await accept_some(database)
            await each_rings_once(valkey, database, replicated)
            await eventually(lambda: has(replica, replicated))
            replica.replicaof(*NOBODY)
            missed = await accept_some(database)
            await each_rings_once(valkey, database, replicated + missed)
            assert sorted(queued(replica)) == sorted(replicated)

            with capture_logs() as lines:
                replica.config_set("requirepass", str(urlsplit(server.url).password))
                replica.replicaof("NO", "ONE")
                wire.lead_to(other.url)
                await wire.cut()
                await each_rings_once(replica, database, replicated + missed)
        await wire.close()
    assert rearmed(lines) == [10]
    await nothing_was_charged(database, replicated + missed)


async def has(valkey: redis.Redis, published: list[UUID]) -> None:
    assert sorted(queued(valkey)) == sorted(published)


async def test_nothing_is_published_into_a_memory_that_nobody_trusts_yet(
    relay: Relay, database: Database, valkey: redis.Redis
) -> None:
    before = await accept_some(database)
    assert await relay.run_once() == 5
    valkey.flushall()
    since = await accept_some(database)

    with pytest.raises(MemoryLost):
        await relay.run_once()
    assert valkey.llen(QUEUE) == 0
    assert await waiting(database) == sorted(since)

    with capture_logs() as lines:
        assert await relay.run_once() == 10
    assert rearmed(lines) == [5]
    assert sorted(queued(valkey)) == sorted(before + since)
    await nothing_was_charged(database, before + since)


async def test_a_memory_cannot_be_trusted_while_it_cannot_be_marked(
    relay: Relay, database: Database, valkey: redis.Redis
) -> None:
    accepted = await accept_some(database)
    await relay.run_once()
    valkey.flushall()
    valkey.replicaof(*NOBODY)
    accepted += await fill(database, 1)
    for _ in range(3):
        with pytest.raises(BrokerUnavailable):
            await relay.run_once()
    assert len(await waiting(database)) == 1, "nothing is rung again yet"

    valkey.replicaof("NO", "ONE")
    assert await relay.run_once() == 6
    assert sorted(queued(valkey)) == sorted(accepted)


def rearmed(lines: Lines) -> list[int]:
    return [line["rearmed"] for line in lines if line["event"] == "redis_memory_is_new"]
