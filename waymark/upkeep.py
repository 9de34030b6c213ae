"""One process kept alive: started, noticed when it dies, started again with back-off, drained."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import structlog

from shared.errors import StartupError
from waymark.embedded import Server
from waymark.processes import spawn

log = structlog.get_logger()

FIRST_TRIES = 3
PAUSE = 0.1
LONGEST_PAUSE = 5.0
CALM_AFTER = 30.0
"""Who lived this long has recovered: the next pause is the shortest again."""


class News:
    """Rings when a child may have died or spoken. One SIGCHLD handler for all, and no thread."""

    def __init__(self) -> None:
        self._bell = asyncio.Event()

    def listen(self) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self.ring)

    def ring(self) -> None:
        self._bell.set()
        self._bell = asyncio.Event()

    async def wait_until(self, true: Callable[[], bool]) -> None:
        while not true():
            with suppress(TimeoutError):  # a signal that got lost costs a second, no more
                async with asyncio.timeout(1):
                    await self._bell.wait()


class Kept(ABC):
    """A process that the supervisor keeps alive."""

    def __init__(self, role: str, news: News, changed: Callable[[], None]) -> None:
        self.role = role
        self.started_at: datetime | None = None
        self._news = news
        self._changed = changed
        self._born = 0.0

    @property
    @abstractmethod
    def pid(self) -> int | None:
        """The living process, or None."""

    @abstractmethod
    async def launch(self) -> str | None:
        """Start it and wait until it is ready; returns why it is not, if so."""

    @abstractmethod
    async def stop(self) -> None:
        """Let it finish what it holds, within its time."""

    @abstractmethod
    def kill(self) -> None:
        """End it at once."""

    async def start(self) -> None:
        """The very first start: who fails here three times is not going to work at all."""
        for tries in range(FIRST_TRIES):
            failure = await self.launch()
            if failure is None:
                return
            log.warning("process_not_ready", role=self.role, reason=failure)
            await asyncio.sleep(PAUSE * 2**tries)
        raise StartupError(
            f"the {self.role} did not become ready in {FIRST_TRIES} tries: {failure}. "
            "What it says itself is in the lines above."
        )

    async def keep(self) -> None:
        """For ever: when it dies, start it again."""
        pause = PAUSE
        while True:
            pid = self.pid
            await self._news.wait_until(lambda: self.pid is None)
            if time.monotonic() - self._born > CALM_AFTER:
                pause = PAUSE
            log.warning("process_died", role=self.role, child=pid, restart_in=pause)
            await asyncio.sleep(pause)
            self._born = time.monotonic()  # a start that fails has not lived long
            pause = min(pause * 2, LONGEST_PAUSE)
            failure = await self.launch()
            if failure is not None:
                log.error("process_not_ready", role=self.role, reason=failure)

    def description(self) -> dict[str, Any]:
        started = self.started_at.isoformat() if self.started_at else None
        return {"role": self.role, "pid": self.pid, "started_at": started}

    def _has_begun(self) -> None:
        self._born = time.monotonic()
        self.started_at = datetime.now(UTC)
        self._changed()


class KeptRole(Kept):
    """An api, relay or worker process."""

    def __init__(
        self,
        role: str,
        news: News,
        changed: Callable[[], None],
        *,
        argv: Sequence[str],
        environment: Mapping[str, str],
        patience: float,
        drain: float,
    ) -> None:
        super().__init__(role, news, changed)
        self._argv = argv
        self._environment = environment
        self._patience = patience
        self._drain = drain
        self._process: subprocess.Popen[bytes] | None = None
        self._ear: int | None = None

    @property
    def pid(self) -> int | None:
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    async def launch(self) -> str | None:
        self._hang_up()
        self._ear, tell = os.pipe()
        try:
            process = self._spawn(tell)
            async with asyncio.timeout(self._patience):
                if await self._says_ready(process, self._ear):
                    self._hang_up()
                    return None
                await self._news.wait_until(lambda: process.poll() is not None)
            return f"it ended with exit code {process.returncode}"
        except TimeoutError:
            process.kill()
            await self._news.wait_until(lambda: process.poll() is not None)
            return f"it said nothing for {self._patience:g} s"
        except OSError as error:
            return f"the system could not start it ({error})"

    def _hang_up(self) -> None:
        """Once it has spoken or ended: one that is stopped as it starts may still speak."""
        if self._ear is not None:
            os.close(self._ear)
            self._ear = None

    def _spawn(self, ready_fd: int) -> subprocess.Popen[bytes]:
        try:
            self._process = spawn(
                self._argv,
                death_signal=signal.SIGTERM,
                env={**self._environment, "WAYMARK_READY_FD": str(ready_fd)},
                pass_fds=[ready_fd],
            )
        finally:
            os.close(ready_fd)
        self._has_begun()
        return self._process

    async def _says_ready(self, process: subprocess.Popen[bytes], pipe: int) -> bool:
        """Whether it wrote its line; False when it closed the pipe or died instead."""
        said: list[bytes] = []
        loop = asyncio.get_running_loop()

        def listen() -> None:
            said.append(os.read(pipe, 64))
            loop.remove_reader(pipe)
            self._news.ring()

        loop.add_reader(pipe, listen)
        try:
            await self._news.wait_until(lambda: bool(said) or process.poll() is not None)
        finally:
            loop.remove_reader(pipe)
        return b"ready" in b"".join(said)

    async def stop(self) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(self._drain):
                await self._news.wait_until(lambda: process.poll() is not None)
        except TimeoutError:
            log.warning("process_killed", role=self.role, child=process.pid, waited=self._drain)
            process.kill()
            await self._news.wait_until(lambda: process.poll() is not None)
        self._hang_up()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()


class KeptServer(Kept):
    """An embedded server. Its start and stop block, so they happen in a thread.

    The threads of the loop's executor stay until the loop ends, as ``processes.spawn`` asks.
    """

    def __init__(
        self, role: str, news: News, changed: Callable[[], None], *, server: Server
    ) -> None:
        super().__init__(role, news, changed)
        self._server = server
        self._starting: asyncio.Future[None] | None = None

    @property
    def pid(self) -> int | None:
        return self._server.pid

    async def start(self) -> None:
        """Its own start knows which failures pass, so one try tells."""
        failure = await self.launch()
        if failure is not None:
            raise StartupError(failure)

    async def launch(self) -> str | None:
        self._starting = asyncio.ensure_future(asyncio.to_thread(self._server.start))
        try:
            # The thread goes on when we are canceled; stop() then waits for it.
            await asyncio.shield(self._starting)
        except StartupError as error:
            return str(error)
        self._has_begun()
        return None

    async def stop(self) -> None:
        if self._starting is not None:
            await asyncio.wait({self._starting})
            self._starting.exception()  # asked for, so that nobody reports it as forgotten
        await asyncio.to_thread(self._server.stop)

    def kill(self) -> None:
        self._server.kill()
