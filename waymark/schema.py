"""The database schema, as the command line sees it: bring it up to date, tell where it stands."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from threading import Event

from shared.errors import StartupError


def bring_up_to_date(
    database_url: str, *, patience: float, waiting: Callable[[str], None], enough: Event
) -> None:
    """Run the missing migrations; waits ``patience`` seconds for a server that does not answer.

    ``waiting`` is told once why it takes long; ``enough`` ends the wait from another thread.
    """
    from shared.database import connection_lost
    from shared.migrate import upgrade

    deadline = time.monotonic() + patience
    told = False
    while True:
        try:
            return upgrade(database_url)
        except Exception as error:
            if not connection_lost(error):
                raise StartupError(trouble(database_url, "refused", error)) from error
            if enough.is_set() or time.monotonic() > deadline:
                raise StartupError(trouble(database_url, "does not answer", error)) from error
            if not told:
                waiting(trouble(database_url, "does not answer", error))
                told = True
        enough.wait(0.5)


def current_revision(database_url: str) -> str | None:
    """The revision that the database is at; None when it has no schema of ours."""
    import asyncpg

    async def ask() -> str | None:
        connection = await asyncpg.connect(database_url, timeout=10)
        try:
            if await connection.fetchval("SELECT to_regclass('alembic_version') IS NULL"):
                return None
            revision: str | None = await connection.fetchval(
                "SELECT version_num FROM alembic_version"
            )
            return revision
        finally:
            await connection.close()

    try:
        return asyncio.run(ask())
    except OSError as error:
        raise StartupError(trouble(database_url, "does not answer", error)) from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        raise StartupError(trouble(database_url, "refused", error)) from error


def trouble(database_url: str, what: str, error: Exception) -> str:
    """A sentence about the server, without its password."""
    from shared.database import place, reason

    return f"PostgreSQL at {place(database_url)} {what} ({reason(error).rstrip('.')})."
