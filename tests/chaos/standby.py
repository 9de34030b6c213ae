"""A second PostgreSQL that follows a first one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from waymark.embedded import PostgresServer
from waymark.postgres_home import find_home
from waymark.postgres_server import _postgres_binaries
from waymark.processes import pick_port, run
from waymark.server_start import Access


@contextmanager
def standby_of(primary: PostgresServer, data_dir: Path) -> Iterator[PostgresServer]:
    """A copy that streams what the primary commits, and can be promoted."""
    data_dir.mkdir()
    home = find_home(data_dir, _postgres_binaries())
    home.cluster.mkdir(mode=0o700)
    if home.account is not None:
        os.chown(home.cluster, home.account.uid, home.account.gid)
    Access(str(urlsplit(primary.url).password), pick_port()).save(data_dir / "postgres.json")
    home.note_location(data_dir)
    standby = PostgresServer(data_dir)
    try:
        command = [str(home.binaries / "pg_basebackup"), f"--dbname={primary.url}"]
        options = ["--write-recovery-conf", "--checkpoint=fast", "--no-sync"]
        run([*command, f"--pgdata={home.cluster}", *options], account=home.account)
        standby.start()
        yield standby
    finally:
        standby.remove()
