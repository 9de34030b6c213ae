"""Real servers for all tests: started and migrated once per process, emptied before each test."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest
import redis
from pydantic import SecretStr
from sqlalchemy import text

from shared import failpoints, migrate
from shared.database import Database
from shared.settings import Settings
from waymark.embedded import PostgresServer, ValkeyServer

TABLES = """
    tasks, outbox_messages, roadmaps, task_events, task_steps, dead_letters, operator_acts,
    processes
"""

EMPTY_DEPLOYMENT = """
    UPDATE deployment SET redis_incarnation = NULL, rearmings = 0,
        paused_at = NULL, paused_by = NULL, paused_reason = NULL,
        intake_paused_at = NULL, intake_paused_by = NULL, intake_paused_reason = NULL
"""


def pytest_configure() -> None:
    """In the background a shell lets nobody hear Ctrl-C; what tests start has to."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True, slots=True)
class Servers:
    """A PostgreSQL with our schema and a Valkey, for tests that start processes."""

    postgres: PostgresServer
    valkey: ValkeyServer

    def environment(self, **extra: str) -> dict[str, str]:
        urls = {
            "WAYMARK_DATABASE_URL": self.postgres.url,
            "WAYMARK_REDIS_URL": self.valkey.url,
        }
        return urls | extra


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    postgres = PostgresServer(tmp_path_factory.mktemp("postgres"))
    valkey = ValkeyServer(tmp_path_factory.mktemp("valkey"))
    try:
        postgres.start()
        valkey.start()
        migrate.upgrade(postgres.url)
        yield Servers(postgres, valkey)
    finally:
        valkey.stop()
        postgres.remove()


@pytest.fixture
def settings(servers: Servers) -> Settings:
    """Settings that point at the test servers; the pauses are short, the rules are the same."""
    return Settings(
        database_url=SecretStr(servers.postgres.url),
        redis_url=SecretStr(servers.valkey.url),
        startup_timeout=5,
        relay_poll=0.05,
        verify_step=0.01,
        relay_poll_listening=0.05,
        sweep_interval=0.1,
        memory_check=0.1,
        lookup_step=0.01,
        lookup_jitter=0.01,
        retry_base=0.05,
        lease=5,
        heartbeat=0.2,
        drain=5,
    )


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[Database]:
    """An empty database. Its deployment stays the same, its trust in Redis starts anew."""
    database = Database(settings, "test")
    await empty(database)
    yield database
    await database.close()


@pytest.fixture
async def deployment_id(database: Database) -> UUID:
    async with database.begin() as session:
        found: UUID = (await session.execute(text("SELECT id FROM deployment"))).scalar_one()
        return found


@pytest.fixture
def valkey(servers: Servers) -> Iterator[redis.Redis]:
    """An empty Valkey, through a plain client."""
    with redis.Redis.from_url(servers.valkey.url) as client:
        client.flushall()
        yield client


@pytest.fixture(autouse=True)
def _no_failpoints() -> Iterator[None]:
    yield
    failpoints.arm(Settings())


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def empty(database: Database) -> None:
    async with database.begin() as session:
        await session.execute(text(f"TRUNCATE {TABLES} RESTART IDENTITY CASCADE"))
        await session.execute(text(EMPTY_DEPLOYMENT))


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"
