"""The database schema, as the command line sees it: bring it up to date, tell where it stands."""

from __future__ import annotations

import asyncio
import time

from shared.errors import StartupError


def bring_up_to_date(database_url: str, *, patience: float) -> None:
    """Run the missing migrations; waits ``patience`` seconds for a server that does not answer."""
    from shared.database import connection_lost
    from shared.migrate import upgrade

    deadline = time.monotonic() + patience
    while True:
        try:
            return upgrade(database_url)
        except Exception as error:
            if not connection_lost(error) or time.monotonic() > deadline:
                raise StartupError(
                    f"the database could not be brought up to date: {_first_line(error)}"
                ) from error
        time.sleep(0.5)


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
    except (OSError, asyncpg.PostgresError) as error:
        raise StartupError(f"the database does not answer: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
