"""Child processes that cannot outlive us, their finding again after a crash, and free ports."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

LOCALHOST = "127.0.0.1"
POLL = 0.02
LOG_LIMIT = 10 * 1024 * 1024

PR_SET_PDEATHSIG = 1
"""From <sys/prctl.h>: the signal that Linux sends to a process when its parent dies."""

# Below the ephemeral range of Linux (32768) and macOS (49152). Inside it, an outgoing connection
# could take the port of a server that restarts, and a client that knocks at the closed port of a
# stopped server could connect to itself.
PORTS = range(20_000, 32_000)

Step = tuple[signal.Signals, float]
"""A signal, and the seconds that a process gets to follow it."""


@dataclass(frozen=True, slots=True)
class Account:
    """An OS user that a child runs as."""

    name: str
    uid: int
    gid: int


def spawn(
    argv: Sequence[str],
    *,
    death_signal: signal.Signals,
    log: Path | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    account: Account | None = None,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a child that gets ``death_signal`` when we die, even by kill -9.

    It speaks to ``log``, or else to our stderr.

    Linux counts the *thread* that called this as the parent: call it from one that stays.
    """
    output = None if log is None else open_log(log)
    try:
        return subprocess.Popen(  # noqa: S603 - only our own commands, never a shell
            argv,
            stdin=subprocess.DEVNULL,
            stdout=2 if output is None else output,  # our stdout is for data
            stderr=output,
            cwd=cwd,
            env=env,
            pass_fds=pass_fds,
            # Ctrl-C in a terminal goes to the whole group: only the supervisor may hear it, or
            # PostgreSQL would be gone before the roles have finished what they hold.
            start_new_session=True,
            # Runs after the change of user, because that change clears the death signal.
            preexec_fn=_die_with_parent(death_signal),
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
    finally:
        if output is not None:
            os.close(output)


def run(argv: Sequence[str], *, account: Account | None = None, stdin: str = "") -> str:
    """Run a short command to its end; returns what it printed, raises if it failed."""
    done = subprocess.run(  # noqa: S603 - only our own commands, never a shell
        argv,
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=True,
        timeout=120,
        cwd="/",
        env=bare_environment(),
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )
    return done.stdout


def bare_environment() -> dict[str, str]:
    """For servers: no secrets, no PG* variable that changes them, no locale that may be missing."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}


def _die_with_parent(death_signal: signal.Signals) -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None  # nothing like it exists elsewhere; the next start stops what was left
    import ctypes

    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def vow() -> None:
        prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != parent:  # it died before the vow
            os.kill(os.getpid(), signal.SIGKILL)

    return vow


def open_log(path: Path) -> int:
    """Open a log to append to, readable by its owner only; one that grew large is set aside."""
    with suppress(FileNotFoundError):
        if path.stat().st_size > LOG_LIMIT:
            path.replace(path.with_name(f"{path.name}.1"))
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def stop(process: subprocess.Popen[bytes], *steps: Step) -> None:
    """Send one signal after the other, each with its time; SIGKILL ends the list."""
    for number, seconds in steps:
        if process.poll() is None:
            process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
            return
    process.kill()
    process.wait()


def stop_orphan(pid: int, argument: str, *steps: Step) -> None:
    """Stop a process that an earlier run left behind: ``pid``, if ``argument`` still is its own."""
    for number, seconds in (*steps, (signal.SIGKILL, 10.0)):
        if not runs_with(pid, argument):
            return
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + seconds
        while runs_with(pid, argument) and time.monotonic() < deadline:
            time.sleep(POLL)


def runs_with(pid: int, argument: str) -> bool:
    """Whether ``pid`` lives and was started with ``argument``: a number alone may be reused."""
    try:
        return os.fsencode(argument) in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        if Path("/proc/self/cmdline").exists():
            return False
    listed = subprocess.run(  # noqa: S603 - only our own commands, never a shell
        ["ps", "-ww", "-o", "command=", "-p", str(pid)],  # noqa: S607 - where ps lives differs
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    return argument in listed.stdout


def pick_port(preferred: int | None = None) -> int:
    """The preferred port of this machine if it is free, else any free one of ``PORTS``."""
    if preferred is not None and port_is_free(preferred):
        return preferred
    return next(port for port in random.sample(PORTS, k=len(PORTS)) if port_is_free(port))


def port_is_free(port: int, host: str = LOCALHOST) -> bool:
    """Whether a server could listen there now."""
    family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, proto) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
        try:
            probe.bind(address)
            probe.listen(1)
        except OSError:
            return False
    return True
