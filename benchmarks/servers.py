"""Servers, databases and processes for measuring: durable as in production, gone afterwards."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from subprocess import Popen
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from shared import migrate
from shared.settings import PREFIX, Settings
from waymark.embedded import PostgresServer, ValkeyServer
from waymark.processes import spawn, stop

START = 30.0
"""Seconds within which a process has to be ready."""

DURABLE = ("fsync", "synchronous_commit", "full_page_writes")


class Place:
    """A migrated database and a Redis database of its own, and the processes that use both."""

    def __init__(self, database_url: str, redis_url: str, folder: Path) -> None:
        self.database_url = database_url
        self.redis_url = redis_url
        self.folder = folder

    def settings(self, **changed: object) -> Settings:
        """For code of ours that runs in this process."""
        urls = {"database_url": self.database_url, "redis_url": self.redis_url}
        return Settings.model_validate(urls | {"log_level": "error"} | changed)

    def environment(self, **changed: object) -> dict[str, str]:
        """For processes: nothing of what the shell may have set for Waymark."""
        urls = {"database_url": self.database_url, "redis_url": self.redis_url}
        kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        return kept | {
            f"{PREFIX}{name.upper()}": str(one) for name, one in (urls | changed).items()
        }

    def via(self, *, database_port: int, redis_port: int) -> Place:
        """The same place, through other ports."""
        return Place(
            _on_port(self.database_url, database_port),
            _on_port(self.redis_url, redis_port),
            self.folder,
        )

    async def connect(self) -> asyncpg.Connection:
        return await asyncpg.connect(self.database_url)

    @asynccontextmanager
    async def process(
        self, module: str, *arguments: str, **changed: object
    ) -> AsyncIterator[Popen[bytes]]:
        """A running ``python -m {module}`` that writes to ``WAYMARK_READY_FD`` once it is ready.

        It logs as in production, into a file.
        """
        readable, writable = os.pipe()
        log = self.folder / f"{module}.log"
        process = spawn(
            [sys.executable, "-m", module, *arguments],
            death_signal=signal.SIGKILL,
            log=log,
            env=self.environment(**changed, ready_fd=writable),
            pass_fds=[writable],
        )
        os.close(writable)
        try:
            if not await asyncio.to_thread(_hears, readable):
                raise RuntimeError(f"{module} did not start:\n{log.read_text()[-2000:]}")
            yield process
        finally:
            os.close(readable)
            await asyncio.to_thread(stop, process, (signal.SIGTERM, 10.0))


class Servers:
    """A PostgreSQL and a Valkey, on which places are made."""

    def __init__(self, postgres: PostgresServer, valkey: ValkeyServer, folder: Path) -> None:
        self.postgres = postgres
        self.valkey = valkey
        self.folder = folder
        self._places = 0

    async def place(self) -> Place:
        """An empty database beside the others, for what must not feel their dead rows."""
        self._places += 1
        name = f"place{self._places}"
        connection = await asyncpg.connect(self.postgres.url)
        try:
            for setting in DURABLE:
                assert await connection.fetchval(f"SHOW {setting}") == "on", setting
            await connection.execute(f"CREATE DATABASE {name}")
        finally:
            await connection.close()
        database_url = urlunsplit(urlsplit(self.postgres.url)._replace(path=f"/{name}"))
        redis_url = urlunsplit(urlsplit(self.valkey.url)._replace(path=f"/{self._places}"))
        await asyncio.to_thread(migrate.upgrade, database_url)
        return Place(database_url, redis_url, self.folder)


@contextmanager
def servers() -> Iterator[Servers]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        postgres, valkey = PostgresServer(folder / "p"), ValkeyServer(folder / "v")
        try:
            postgres.start()
            valkey.start()
            yield Servers(postgres, valkey, folder)
        finally:
            valkey.stop()
            postgres.remove()


def _hears(readable: int) -> bool:
    ready, _, _ = select.select([readable], [], [], START)
    return bool(ready and os.read(readable, 1))


def _on_port(url: str, port: int) -> str:
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user}@{host.partition(':')[0]}:{port}"))
