"""Run the whole stack: servers, migrations, roles; keep them alive; drain them in order.

Order of start: postgres and valkey, migrations, then api, relay and worker side by side.
Order of stop: api (nothing new comes in), relay, worker (what is held gets finished), valkey,
postgres.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from threading import Event

import structlog

from shared.errors import StartupError
from shared.settings import Settings
from waymark.data_dir import DataDir
from waymark.embedded import PostgresServer, ValkeyServer
from waymark.processes import port_is_free, stop_orphan
from waymark.upkeep import Kept, KeptRole, KeptServer, News

log = structlog.get_logger()

ROLES = ("api", "relay", "worker")
KILL_MARGIN = 5.0
"""A role ends its drain by itself; who overstays by this much is killed."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How many processes of each role. API number n listens on ``port`` + n - 1."""

    port: int
    api: int = 1
    relay: int = 1
    worker: int = 1

    @property
    def ports(self) -> list[int]:
        return [self.port + number for number in range(self.api)]


class Supervisor:
    """The caller holds the lock of ``data_dir``."""

    def __init__(
        self,
        data_dir: DataDir,
        settings: Settings,
        plan: Plan,
        *,
        migrate: Callable[[str, Event], None],
        announce: Callable[[str], None],
        command: Callable[[str], Sequence[str]] | None = None,
    ) -> None:
        self._data_dir = data_dir
        self._settings = settings
        self._plan = plan
        self._migrate = migrate
        self._announce = announce
        self._command = command or self._own_command
        self._news = News()
        self._servers: list[Kept] = []
        self._roles: list[Kept] = []
        self._signals: list[signal.Signals] = []
        self._migrating: asyncio.Future[None] | None = None
        self._enough = Event()
        self._asked_to_stop = asyncio.Event()
        self._announced = False

    @property
    def api_url(self) -> str:
        host = self._settings.api_host
        if host in ("0.0.0.0", "::", ""):  # noqa: S104 - all addresses, so also the local one
            host = "127.0.0.1"
        return f"http://{f'[{host}]' if ':' in host else host}:{self._plan.port}"

    async def run(self) -> int:
        """Until a signal or a failure of the first start; returns the exit code."""
        self._stop_leftovers()
        self._check_ports()
        self._hear_signals()
        work = asyncio.create_task(self._work())
        asked = asyncio.create_task(self._asked_to_stop.wait())
        try:
            await asyncio.wait({work, asked}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
        finally:
            work.cancel()
            asked.cancel()
            await asyncio.wait({work, asked})
            await self._drain()
        return 128 + signal.SIGINT if signal.SIGINT in self._signals else 0

    def _stop_leftovers(self) -> None:
        """End the roles of a run that crashed; the servers look after themselves."""
        stack = self._data_dir.read_stack() or {}
        for process in stack.get("processes", ()):
            if process["role"] in ROLES and isinstance(process["pid"], int):
                stop_orphan(process["pid"], self._mark(), (signal.SIGTERM, 2.0))
        self._data_dir.remove_stack()

    def _check_ports(self) -> None:
        for port in self._plan.ports:
            if port > 65535:
                raise StartupError(f"port {port} does not exist: choose a lower --port.")
            if not port_is_free(port, self._settings.api_host):
                raise StartupError(f"port {port} is in use: choose another with --port.")

    def _hear_signals(self) -> None:
        loop = asyncio.get_running_loop()
        self._news.listen()
        heard = [signal.SIGTERM, signal.SIGINT]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup means it
            heard.append(signal.SIGHUP)
        for number in heard:
            loop.add_signal_handler(number, self._on_signal, number)

    def _on_signal(self, number: signal.Signals) -> None:
        self._signals.append(number)
        self._asked_to_stop.set()
        if len(self._signals) == 1:
            log.info("stopping", signal=number.name, drain=self._settings.drain)
            return
        for kept in self._all():
            kept.kill()
        self._data_dir.remove_stack()
        os._exit(128 + number)

    async def _work(self) -> None:
        urls = await self._start_servers()
        await self._bring_up_to_date(urls["WAYMARK_DATABASE_URL"])
        self._roles = self._make_roles(urls)
        await _together([role.start() for role in self._roles])
        self._announced = True
        self._write_stack()
        self._announce(self.api_url)
        await _together([kept.keep() for kept in self._all()])

    async def _start_servers(self) -> dict[str, str]:
        """Embedded servers stand in for the URLs that are not set."""
        postgres, valkey = PostgresServer(self._data_dir.path), ValkeyServer(self._data_dir.path)
        database_url, redis_url = self._settings.database_url, self._settings.redis_url
        if redis_url is None:
            self._servers.append(self._keep_server("valkey", valkey))
        if database_url is None:
            self._servers.append(self._keep_server("postgres", postgres))
        await _together([server.start() for server in self._servers])
        return {
            "WAYMARK_DATABASE_URL": (
                postgres.url if database_url is None else database_url.get_secret_value()
            ),
            "WAYMARK_REDIS_URL": valkey.url if redis_url is None else redis_url.get_secret_value(),
        }

    async def _bring_up_to_date(self, database_url: str) -> None:
        """The thread goes on when we are canceled; the drain then waits for it."""
        work = asyncio.to_thread(self._migrate, database_url, self._enough)
        self._migrating = asyncio.ensure_future(work)
        await asyncio.shield(self._migrating)

    def _keep_server(self, role: str, server: PostgresServer | ValkeyServer) -> KeptServer:
        return KeptServer(role, self._news, self._write_stack, server=server)

    def _make_roles(self, urls: Mapping[str, str]) -> list[Kept]:
        self._urls = urls
        metrics_port = self._settings.metrics_port
        metrics_ports = count(metrics_port) if metrics_port is not None else None
        roles: list[Kept] = []
        for role in ROLES:
            for number in range(getattr(self._plan, role)):
                values = {**urls, "WAYMARK_API_PORT": str(self._plan.port + number)}
                if metrics_ports is not None:  # each process needs a port of its own
                    values["WAYMARK_METRICS_PORT"] = str(next(metrics_ports))
                roles.append(self._make_role(role, values))
        return roles

    def _make_role(self, role: str, values: Mapping[str, str]) -> KeptRole:
        return KeptRole(
            role,
            self._news,
            self._write_stack,
            argv=self._command(role),
            environment=_environment(values),
            # A role that cannot reach its servers gives up by itself, and says why.
            patience=self._settings.startup_timeout + 30,
            drain=self._settings.drain + KILL_MARGIN,
        )

    def _own_command(self, role: str) -> list[str]:
        return [sys.executable, "-X", self._mark(), "-m", f"{role}_service"]

    def _mark(self) -> str:
        """Python ignores this -X option; by it we know our own after a crash, on every system."""
        return f"waymark.stack={self._data_dir.path}"

    def _write_stack(self) -> None:
        if not self._announced:
            return
        stack = {
            "api_url": self.api_url,
            "database_url": self._urls["WAYMARK_DATABASE_URL"],
            "redis_url": self._urls["WAYMARK_REDIS_URL"],
            "processes": [kept.description() for kept in self._all()],
        }
        try:
            self._data_dir.write_stack(stack)
        except OSError as error:  # a full disk is no reason to stop the work
            log.error("stack_not_written", error=str(error))

    def _all(self) -> list[Kept]:
        return [*self._roles, *self._servers]

    async def _drain(self) -> None:
        self._enough.set()
        if self._migrating is not None:  # first: without servers it would only wait for them
            await asyncio.wait({self._migrating})
            self._migrating.exception()  # asked for, so that nobody reports it as forgotten
        for role in (*ROLES, "valkey", "postgres"):
            await asyncio.gather(*(kept.stop() for kept in self._all() if kept.role == role))
        self._data_dir.remove_stack()


def _environment(values: Mapping[str, str]) -> dict[str, str]:
    """Ours plus ``values``, and none of their ``_FILE`` variants: both at once is an error."""
    hidden = {f"{name}_FILE" for name in values}
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    return {**kept, **values}


async def _together(work: Sequence[Coroutine[object, object, None]]) -> None:
    """Side by side; the first failure cancels the others and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            for one in work:
                group.create_task(one)
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
