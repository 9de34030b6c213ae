"""Real processes for the crash tests: one role each, with real signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

from tests.conftest import Servers
from tests.eventually import eventually_sync
from waymark.processes import LOCALHOST, pick_port

RoleName = Literal["api", "relay", "worker"]

BRISK = {
    "WAYMARK_LEASE": "2",
    "WAYMARK_HEARTBEAT": "0.4",
    "WAYMARK_SWEEP_INTERVAL": "0.3",
    "WAYMARK_MEMORY_CHECK": "0.3",
    "WAYMARK_RETRY_BASE": "0.1",
    "WAYMARK_DRAIN": "5",
}
"""The rules of production with shorter pauses."""


class Role:
    """A running ``python -m X_service`` and what it has logged."""

    def __init__(
        self, name: RoleName, environment: dict[str, str], log: Path, module: str | None = None
    ) -> None:
        self.name = name
        self.log = log
        with log.open("a") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module or f"{name}_service"],
                env=os.environ | BRISK | environment,
                stderr=stderr,
            )

    def lines(self) -> list[dict[str, Any]]:
        """The JSON lines of this process, whoever else writes to the same file."""
        found = (json.loads(line) for line in self.log.read_text().splitlines())
        return [line for line in found if line["pid"] == self.process.pid]

    def has_logged(self, event: str) -> bool:
        return any(line["event"] == event for line in self.lines())

    def wait_ready(self) -> None:
        def ready() -> None:
            assert self.process.poll() is None, self.log.read_text()
            assert self.has_logged(f"{self.name}_ready")

        eventually_sync(ready)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def terminate(self) -> int:
        """SIGTERM, and the exit code of an orderly end."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def wait_killed(self) -> None:
        """Until it dies by SIGKILL, as a failpoint makes it."""
        assert self.process.wait(30) == -signal.SIGKILL


class Crew:
    """Starts roles against the test servers; whoever is left at the end is killed."""

    def __init__(self, servers: Servers, folder: Path, stack: ExitStack) -> None:
        self.servers = servers
        self.log = folder / "log.jsonl"
        self.stack = stack
        self.port = pick_port()

    @property
    def url(self) -> str:
        return f"http://{LOCALHOST}:{self.port}"

    def start(self, name: RoleName, *, module: str | None = None, **settings: str) -> Role:
        """``module``: one that runs the role with a change for a test."""
        environment = {f"WAYMARK_{key.upper()}": value for key, value in settings.items()}
        environment["WAYMARK_API_PORT"] = str(self.port)
        role = Role(name, self.servers.environment(**environment), self.log, module)
        self.stack.callback(role.kill)
        role.wait_ready()
        return role


@contextmanager
def crew_of(servers: Servers, folder: Path) -> Iterator[Crew]:
    with ExitStack() as stack:
        yield Crew(servers, folder, stack)
