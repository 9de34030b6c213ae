"""Which PostgreSQL and Redis a command asks, and what to say when they do not answer."""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from waymark.commands.options import DEFAULT_DATA_DIR
from waymark.complaints import Complaint
from waymark.exit_codes import ExitCode

if TYPE_CHECKING:
    from pydantic import SecretStr

    from shared.database import Database
    from shared.settings import Settings

T = TypeVar("T")

StackOption = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        help="Ask the stack that runs there. Default: WAYMARK_DATABASE_URL, else the one on "
        f"{DEFAULT_DATA_DIR}.",
    ),
]

OLDER_SCHEMA = ("42P01", "42703")
"""Undefined table, undefined column."""


def find_servers(named: Path | None, asking: str) -> Settings:
    """Settings that point at the servers: those of a directory that was named come first, then
    WAYMARK_DATABASE_URL and WAYMARK_REDIS_URL, then the usual place. ``asking``, for hints."""
    from shared.settings import load_settings

    settings = load_settings()
    if settings.database_url is not None and named is None:
        return settings
    data_dir = named or DEFAULT_DATA_DIR
    stack = _running_stack(data_dir)
    if stack is None:
        unset = "" if named else "WAYMARK_DATABASE_URL is not set, and "
        raise Complaint(
            f"{unset}no stack runs on {data_dir}.",
            hint=f"`waymark {asking} --data-dir DIR` asks about the stack that runs on DIR.",
        )
    urls = ("database_url", "redis_url")  # both: they belong together
    return settings.model_copy(update={name: _secret(stack.get(name)) for name in urls})


def _running_stack(data_dir: Path) -> dict[str, Any] | None:
    from waymark.data_dir import DataDir

    directory = DataDir(data_dir)
    stack = directory.read_stack()
    return stack if stack and directory.is_in_use() else None


def _secret(url: str | None) -> SecretStr | None:
    from pydantic import SecretStr

    return SecretStr(url) if url else None


def command(named: Path | None, *words: str) -> str:
    """A command that asks the same servers, in backquotes."""
    told = [] if named is None else ["--data-dir", str(named)]
    return f"`waymark {shlex.join([*words, *told])}`"


def ask(settings: Settings, question: Callable[[Database], Awaitable[T]]) -> T:
    """Run it with a database of its own; trouble with PostgreSQL ends as a complaint."""
    import asyncio

    from shared.database import Database

    async def run() -> T:
        database = Database(settings, "operator")
        try:
            return await question(database)
        finally:
            await database.close()

    with _complaining(settings.require_database()):
        return asyncio.run(run())


@contextmanager
def _complaining(database_url: str) -> Iterator[None]:
    import asyncpg
    from sqlalchemy.exc import DBAPIError

    from shared.database import connection_lost, sqlstate
    from shared.migrate import REVISION
    from waymark.schema import trouble

    try:
        yield
    except BrokenPipeError:  # of our own output, not of PostgreSQL
        raise
    # ValueError: so asyncpg says that it cannot read the URL
    except (DBAPIError, OSError, asyncpg.PostgresError, ValueError) as error:
        if connection_lost(error):
            raise Complaint(
                trouble(database_url, "does not answer", error),
                hint=reach_hint("outbox status"),
                code=ExitCode.UNREACHABLE,
            ) from error
        if sqlstate(error) in OLDER_SCHEMA:
            raise Complaint(
                f"the database's schema is older than {REVISION}, which this release needs.",
                hint="run `waymark db upgrade`, with the same --data-dir if you gave one.",
            ) from error
        raise Complaint(
            trouble(database_url, "refused", error), hint=reach_hint("outbox status")
        ) from error


def reach_hint(asking: str) -> str:
    return (
        f"is it running, and is WAYMARK_DATABASE_URL right? `waymark {asking} --data-dir DIR` "
        "asks about the stack that runs on DIR."
    )
