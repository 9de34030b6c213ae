"""A stack of our own for the length of a ``with``: ``waymark up`` as a child."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from shared.errors import StartupError
from waymark.data_dir import DataDir
from waymark.processes import pick_port, spawn, stop

START_TIMEOUT = 120.0


@contextmanager
def running_stack(data_dir: DataDir, drain: float, say: Callable[[str], None]) -> Iterator[str]:
    """The URL of the stack that runs on ``data_dir``; one is started, and stopped, if none does."""
    if data_dir.is_in_use():
        say(f"Using the stack that runs on {data_dir.path}.")
        stack = data_dir.read_stack()
        if stack is None:
            raise StartupError(f"a stack on {data_dir.path} is starting or stopping: try again.")
        yield str(stack["api_url"])
        return
    log = data_dir.path / "logs" / "stack.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    say(f"Starting servers, api, relay and worker; their log is {log}.")
    signal.signal(signal.SIGTERM, _leave)  # so that `finally` runs, on every system
    process, ready = _start(data_dir.path, log)
    try:
        _wait_until_ready(process, ready, log)
        stack = data_dir.read_stack()
        if stack is None:
            raise StartupError(f"the stack did not stay up: see {log}.")
        yield str(stack["api_url"])
    finally:
        os.close(ready)
        # Twice: the roles drain one after the other, and a worker has the most to finish.
        stop(process, (signal.SIGTERM, 2 * drain + 30))


def _start(data_dir: Path, log: Path) -> tuple[subprocess.Popen[bytes], int]:
    ready, tell = os.pipe()
    command = [sys.executable, "-m", "waymark", "up"]
    try:
        process = spawn(
            [*command, "--port", str(pick_port()), "--data-dir", str(data_dir)],
            death_signal=signal.SIGTERM,
            log=log,
            env={**os.environ, "WAYMARK_READY_FD": str(tell)},
            pass_fds=[tell],
        )
    finally:
        os.close(tell)
    return process, ready


def _wait_until_ready(process: subprocess.Popen[bytes], ready: int, log: Path) -> None:
    readable, _, _ = select.select([ready], [], [], START_TIMEOUT)
    if not readable or not os.read(ready, 64).startswith(b"ready"):
        raise StartupError(f"the stack did not start. The end of {log}:\n{_complaints_in(log)}")


def _complaints_in(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    ours = [line for line in lines[-50:] if line.startswith(("waymark:", "hint:"))]
    return "\n".join(ours or lines[-10:])


def _leave(_number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + signal.SIGTERM)
