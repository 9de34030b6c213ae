"""Each role as a real process: it starts, or says in one line why it cannot, and it stops."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import httpx2
import redis
from sqlalchemy import text

from relay_service.outbox import TRUST_LOCK
from shared.database import Database
from shared.messages import DEPLOYMENT_KEY
from shared.migrate import REVISION
from shared.settings import PREFIX
from tests.conftest import Servers
from tests.eventually import eventually
from tests.factories import task
from tests.wire import Wire
from waymark.processes import LOCALHOST, pick_port

ROLES = ("api", "relay", "worker")
NOBODY = "127.0.0.1:1"
"""A port that nobody listens on."""


@dataclass(slots=True)
class Role:
    """A running ``python -m X_service``."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @classmethod
    def start(cls, name: str, folder: Path, environment: dict[str, str]) -> Role:
        bare = {key: value for key, value in os.environ.items() if not key.startswith(PREFIX)}
        log = folder / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", f"{name}_service"],
                env=bare | environment,
                stdout=output,
                stderr=output,
            )
        return cls(name, process, log)

    def said(self) -> str:
        return self.log.read_text()

    async def logs(self, event: str) -> None:
        async def logged() -> None:
            assert self.process.poll() is None, self.said()
            assert f'"{event}"' in self.said(), self.said()

        await eventually(logged)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def refusals(
    folder: Path, environment: dict[str, str], roles: Sequence[str] = ROLES
) -> dict[str, str]:
    """Start the roles side by side; the one line that each of them says before it exits with 1."""
    with ExitStack() as running:
        started = [Role.start(name, folder, environment) for name in roles]
        for role in started:
            running.callback(role.kill)
        for role in started:
            assert role.process.wait(30) == 1, role.said()
    lines = {role.name: role.said().splitlines() for role in started}
    for name, said in lines.items():
        assert len(said) == 1, (name, said)
        assert said[0].startswith("waymark: cannot start: "), (name, said)
    return {name: said[0] for name, said in lines.items()}


def unused(servers: Servers, **extra: str) -> dict[str, str]:
    """The test servers' environment with a port for the API."""
    return servers.environment(WAYMARK_API_PORT=str(pick_port()), **extra)


# --- what keeps a role from starting ---


def test_without_a_database_url_each_role_asks_for_it(tmp_path: Path) -> None:
    for said in refusals(tmp_path, {"WAYMARK_REDIS_URL": "redis://localhost"}).values():
        assert "WAYMARK_DATABASE_URL is not set" in said
        assert "`waymark up`" in said


def test_without_a_redis_url_relay_and_worker_ask_for_it(servers: Servers, tmp_path: Path) -> None:
    environment = {"WAYMARK_DATABASE_URL": servers.postgres.url}
    for said in refusals(tmp_path, environment, ("relay", "worker")).values():
        assert "WAYMARK_REDIS_URL is not set" in said


def test_a_setting_that_is_not_usable_is_named(servers: Servers, tmp_path: Path) -> None:
    environment = unused(servers, WAYMARK_DATABASE_POOL="1")
    said = refusals(tmp_path, environment, ("worker",))["worker"]
    assert "WAYMARK_DATABASE_POOL is not usable" in said
    assert "greater than or equal to 2" in said


def test_a_database_url_that_cannot_be_read_is_named(servers: Servers, tmp_path: Path) -> None:
    url = "postgresql://waymark:s3cret@localhost:port/waymark"
    said = refusals(tmp_path, unused(servers, WAYMARK_DATABASE_URL=url), ("relay",))["relay"]
    assert "WAYMARK_DATABASE_URL is not usable" in said
    assert "s3cret" not in said


def test_a_database_that_is_not_there_is_waited_for_then_named(
    servers: Servers, tmp_path: Path
) -> None:
    url = f"postgresql://waymark:s3cret@{NOBODY}/waymark"
    environment = unused(servers, WAYMARK_DATABASE_URL=url, WAYMARK_STARTUP_TIMEOUT="1")
    began = time.monotonic()
    for said in refusals(tmp_path, environment).values():
        assert f"PostgreSQL at {NOBODY}/waymark did not answer within 1 s" in said
        assert "WAYMARK_DATABASE_URL" in said
        assert "s3cret" not in said
    assert time.monotonic() - began > 1


def test_a_wrong_password_is_not_waited_for(servers: Servers, tmp_path: Path) -> None:
    parts = urlsplit(servers.postgres.url)
    place = f"{parts.hostname}:{parts.port}"
    url = f"postgresql://waymark:s3cret@{place}/waymark"
    environment = unused(servers, WAYMARK_DATABASE_URL=url, WAYMARK_STARTUP_TIMEOUT="25")
    began = time.monotonic()
    for said in refusals(tmp_path, environment).values():
        assert f"PostgreSQL at {place}/waymark refused: password authentication failed" in said
        assert "s3cret" not in said
    assert time.monotonic() - began < 20


def test_without_a_schema_each_role_says_how_to_make_one(servers: Servers, tmp_path: Path) -> None:
    url = servers.postgres.url.rpartition("/")[0] + "/postgres"
    for said in refusals(tmp_path, unused(servers, WAYMARK_DATABASE_URL=url)).values():
        assert f"is at nothing, this release needs {REVISION}" in said
        assert "`waymark db upgrade`" in said


def test_a_role_that_postgres_has_no_room_for_says_so_before_it_begins(
    servers: Servers, tmp_path: Path
) -> None:
    environment = servers.environment(WAYMARK_DATABASE_POOL="5000")
    for said in refusals(tmp_path, environment).values():
        assert "this process may need 5001 connections" in said
        assert "WAYMARK_DATABASE_POOL" in said
        assert "max_connections" in said


@contextmanager
def taken_port() -> Iterator[str]:
    with socket.create_server((LOCALHOST, 0)) as listener:
        yield str(listener.getsockname()[1])


def test_an_api_port_in_use_is_named(servers: Servers, tmp_path: Path) -> None:
    with taken_port() as port:
        environment = servers.environment(WAYMARK_API_PORT=port)
        said = refusals(tmp_path, environment, ("api",))["api"]
    assert f"cannot listen on 127.0.0.1:{port} (Address already in use" in said
    assert "WAYMARK_API_PORT" in said


def test_a_metrics_port_in_use_is_named(servers: Servers, tmp_path: Path) -> None:
    with taken_port() as port:
        environment = unused(servers, WAYMARK_METRICS_PORT=port)
        for said in refusals(tmp_path, environment, ("api", "relay")).values():
            assert f"cannot serve metrics on 127.0.0.1:{port} (Address already in use)" in said
            assert "WAYMARK_METRICS_PORT" in said


async def test_a_redis_of_another_deployment_is_refused(
    servers: Servers, deployment_id: UUID, tmp_path: Path
) -> None:
    url, other = servers.valkey.url.replace("/0", "/5"), str(uuid4())
    with redis.Redis.from_url(url) as client:
        client.set(DEPLOYMENT_KEY, other)
        try:
            environment = unused(servers, WAYMARK_REDIS_URL=url)
            said = await asyncio.to_thread(refusals, tmp_path, environment, ("relay", "worker"))
            assert client.get(DEPLOYMENT_KEY) == other.encode()
        finally:
            client.flushdb()
    for line in said.values():
        assert f"serves deployment {other}" in line
        assert f"the database is deployment {deployment_id}" in line
        assert DEPLOYMENT_KEY in line


def test_a_redis_that_may_evict_is_refused(
    servers: Servers, valkey: redis.Redis, tmp_path: Path
) -> None:
    valkey.config_set("maxmemory-policy", "allkeys-lru")
    try:
        said = refusals(tmp_path, unused(servers), ("relay", "worker"))
    finally:
        valkey.config_set("maxmemory-policy", "noeviction")
    for line in said.values():
        assert "maxmemory-policy allkeys-lru" in line
        assert "Set `maxmemory-policy noeviction`" in line


def test_a_wrong_redis_password_is_not_waited_for(
    servers: Servers, valkey: redis.Redis, tmp_path: Path
) -> None:
    parts = urlsplit(servers.valkey.url)
    wrong = parts._replace(netloc=f":wrong@{parts.hostname}:{parts.port}").geturl()
    environment = unused(servers, WAYMARK_REDIS_URL=wrong)
    for line in refusals(tmp_path, environment, ("relay", "worker")).values():
        assert "refused WAYMARK_REDIS_URL's credentials" in line
        assert "wrong" not in line.lower().replace("wrongpass", "")


# --- what does not ---


async def test_without_redis_the_api_accepts_and_relay_and_worker_wait_for_it(
    servers: Servers, database: Database, valkey: redis.Redis, tmp_path: Path
) -> None:
    wire = Wire(servers.valkey.url)
    await wire.open()
    environment = unused(servers, WAYMARK_REDIS_URL=wire.url, WAYMARK_RELAY_POLL="0.1")
    port = urlsplit(wire.url).port or 0
    await wire.close()
    with ExitStack() as running:
        api, relay, worker = (Role.start(name, tmp_path, environment) for name in ROLES)
        for role in (api, relay, worker):
            running.callback(role.kill)
        await relay.logs("relay_waits")
        await worker.logs("worker_waits")
        await api.logs("api_ready")

        async with httpx2.AsyncClient() as client:
            answer = await client.post(
                f"http://{LOCALHOST}:{environment['WAYMARK_API_PORT']}/v1/tasks",
                json={"input": {"goal": "Become a backend developer with Python"}},
            )
        assert answer.status_code == 202
        assert '"relay_ready"' not in relay.said()
        assert '"worker_ready"' not in worker.said()

        await wire.open(port)
        await relay.logs("relay_ready")
        await worker.logs("worker_ready")

        async def succeeded() -> None:
            found = await task(database, UUID(answer.json()["id"]))
            assert found["status"] == "succeeded", found

        await eventually(succeeded)

        for role in (api, relay, worker):
            role.process.terminate()
        codes = [await asyncio.to_thread(role.process.wait, 30) for role in (api, relay, worker)]
        assert codes == [0, 0, 0]
    await wire.close()


async def test_ctrl_c_ends_a_role_with_zero_and_without_a_traceback(
    servers: Servers, valkey: redis.Redis, tmp_path: Path
) -> None:
    environment = unused(servers)
    with ExitStack() as running:
        roles = [Role.start(name, tmp_path, environment) for name in ROLES]
        for role in roles:
            running.callback(role.kill)
        for role in roles:
            await role.logs(f"{role.name}_ready")
            role.process.send_signal(signal.SIGINT)
        for role in roles:
            assert await asyncio.to_thread(role.process.wait, 30) == 0, role.said()
            assert "Traceback" not in role.said()


async def test_a_role_stopped_while_it_waits_for_redis_never_says_that_it_is_ready(
    servers: Servers, tmp_path: Path
) -> None:
    environment = unused(servers, WAYMARK_REDIS_URL=f"redis://{NOBODY}")
    with ExitStack() as running:
        roles = [Role.start(name, tmp_path, environment) for name in ("relay", "worker")]
        for role in roles:
            running.callback(role.kill)
        for role in roles:
            await role.logs(f"{role.name}_waits")
            role.process.terminate()
            assert await asyncio.to_thread(role.process.wait, 30) == 0, role.said()
            assert f"{role.name}_ready" not in role.said()


async def test_a_relay_that_finds_the_trust_lock_taken_waits_for_it(
    servers: Servers, database: Database, valkey: redis.Redis, tmp_path: Path
) -> None:
    """A slow or frozen relay may share it for seconds."""
    environment = unused(servers, WAYMARK_DATABASE_LOCK_TIMEOUT="0.1")
    async with database.begin() as session:
        lock = text("SELECT pg_advisory_xact_lock_shared(:lock)")
        await session.execute(lock, {"lock": TRUST_LOCK})
        relay = Role.start("relay", tmp_path, environment)
        with ExitStack() as running:
            running.callback(relay.kill)
            await relay.logs("relay_waits")
            await session.rollback()
            await relay.logs("relay_ready")
