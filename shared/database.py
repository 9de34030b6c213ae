"""Connections to PostgreSQL: where they come from, how they are retried, how they end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import structlog
from sqlalchemy import ExceptionContext, event, text
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine

from shared.backoff import exponential
from shared.errors import StartupError
from shared.settings import Settings

log = structlog.get_logger()
Outcome = TypeVar("Outcome")

# SQLSTATEs after which the same statements may well succeed on a new connection: connection
# trouble, server starting or stopping, too many clients or too little disk, a demoted primary.
READ_ONLY = "25006"
RECOVERABLE = ("08", "57P01", "57P02", "57P03", "53", READ_ONLY)
CONFLICTS = ("40001", "40P01", "55P03")
"""Serialization failure, deadlock, lock timeout: the transaction may be tried again as it is."""

TIMED_OUT = "57014"
"""The server took too long over a statement: loops come back, a waiting client is told."""

GOODBYE = 2.0
"""Seconds for closing all connections."""


class Database:
    """An engine and its sessions. Create it inside the event loop that uses it."""

    def __init__(
        self, settings: Settings, role: str, session: Mapping[str, str] | None = None
    ) -> None:
        """``session``: further PostgreSQL settings of each connection."""
        self.settings = settings
        self.dsn = settings.require_database()
        self.connect = partial(_connect_driver, settings, self.dsn, role, session or {})
        self.engine = make_engine(settings, self.connect)
        self._autocommitting = self.engine.execution_options(isolation_level="AUTOCOMMIT")

    @contextlib.asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncSession]:
        """One transaction: committed when the block ends well, rolled back when it raises.

        Getting a connection is retried, because nothing has been said to the server yet.
        From the first statement on, every error reaches the caller, that of COMMIT above all:
        its outcome is unknown, and only the caller knows whether its work may be repeated.
        """
        async with AsyncSession(self.engine, expire_on_commit=False) as session:
            await self._retried(session.connection)
            yield session
            await session.commit()

    @contextlib.asynccontextmanager
    async def autocommit(self) -> AsyncIterator[AsyncConnection]:
        """A connection on which each statement is a transaction of its own: one round trip.

        The same rules as for ``begin``: an error of the statement reaches the caller.
        """
        connection = self._autocommitting.connect()
        await self._retried(connection.start)
        try:
            yield connection
        finally:
            await connection.close()

    async def fetch(self, statement: str, *parameters: object) -> Sequence[Any]:
        """The driver's own rows of one statement, and of each its own: for what is asked so often
        that SQLAlchemy's way there would cost more than PostgreSQL's answer. Documents are text.

        Any: a row of asyncpg, by name. Errors are those of asyncpg.
        """
        async with self.autocommit() as connection:
            raw = await connection.get_raw_connection()
            found: Sequence[Any] = await raw.driver_connection.fetch(statement, *parameters)  # type: ignore[union-attr] # it is there
            return found

    async def _retried(self, connect: Callable[[], Awaitable[object]]) -> None:
        deadline = time.monotonic() + self.settings.database_connect_timeout
        for tries in range(1, 4):
            try:
                await connect()
                return
            except (DBAPIError, OSError, asyncpg.PostgresError) as error:
                late = time.monotonic() >= deadline
                if late or tries == 3 or not connection_lost(error):
                    raise
                await asyncio.sleep(exponential(tries, 0.05, 1, random.random()))  # noqa: S311 - jitter

    async def listen_connection(self) -> asyncpg.Connection:
        """A connection of its own for LISTEN, outside the pool."""
        return await self.connect()

    async def close(self) -> None:
        """Say goodbye to the server; one that does not answer must not hold up our end."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE):
                await self.engine.dispose()


def make_engine(
    settings: Settings, connect: Callable[[], Awaitable[asyncpg.Connection]]
) -> AsyncEngine:
    # asyncpg reads the URL itself, so that sslmode, host lists and sockets work as in libpq.
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=lambda **_: connect(),
        pool_size=settings.database_pool,
        max_overflow=0,
        pool_use_lifo=True,  # the same few connections stay warm, with their prepared statements
        pool_timeout=settings.database_command_timeout,
        hide_parameters=True,  # an error's text ends in a log: what learners write does not
    )

    @event.listens_for(engine.sync_engine, "checkout")
    def _skip_the_dead(connection: Any, _record: object, _proxy: object) -> None:
        # A restarted server has closed its sockets: seen here for free, where a ping would
        # cost three round trips on each checkout.
        if connection.driver_connection.is_closed():
            raise DisconnectionError("the server closed this connection")

    @event.listens_for(engine.sync_engine, "handle_error")
    def _leave_the_demoted(context: ExceptionContext) -> None:
        # After a failover its sessions may stay open, and would refuse each write for ever.
        if sqlstate(context.original_exception) == READ_ONLY:
            context.is_disconnect = True

    return engine


async def _connect_driver(
    settings: Settings, dsn: str, role: str, session: Mapping[str, str]
) -> asyncpg.Connection:
    patience = f"{int(settings.database_command_timeout * 1000)}ms"
    return await asyncpg.connect(
        dsn,
        timeout=settings.database_connect_timeout,
        # The server gives up first and says why; the client is the fallback for a dead network.
        command_timeout=settings.database_command_timeout + 1,
        server_settings={
            "application_name": f"waymark-{role}",
            "timezone": "UTC",
            "statement_timeout": patience,
            "lock_timeout": f"{int(settings.database_lock_timeout * 1000)}ms",
            # A frozen process must not hold its locks, nor the vacuum horizon, for ever.
            "idle_in_transaction_session_timeout": patience,
            # No statement of ours is long enough to be worth compiling.
            "jit": "off",
            **session,
        },
    )


def connection_lost(error: BaseException) -> bool:
    """Whether a new connection may do better. After a lost COMMIT the outcome is unknown."""
    if isinstance(error, PoolTimeout | OSError | DisconnectionError):
        return True
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    return sqlstate(error).startswith(RECOVERABLE) or _closed_under_us(error)


def retriable(error: BaseException) -> bool:
    """Whether an idempotent unit of work may be run again from its start.

    Beside trouble that passes: a migration changed what a prepared statement returns.
    """
    original = error.orig if isinstance(error, DBAPIError) else error
    migrated = isinstance(original, AsyncAdapt_asyncpg_dbapi.InvalidCachedStatementError)
    return connection_lost(error) or migrated or sqlstate(error) in (*CONFLICTS, TIMED_OUT)


async def repeated(unit: Callable[[], Awaitable[Outcome]], within: float) -> Outcome:
    """Run a unit of work until it goes through, over lost connections, for ``within`` seconds.

    The unit has to be safe to repeat after a COMMIT of unknown outcome: its guard then matches
    nothing, or its key is there already.
    """
    deadline = time.monotonic() + within
    for tries in itertools.count(1):
        try:
            return await unit()
        except Exception as error:
            if not retriable(error) or time.monotonic() > deadline:
                raise
            log.warning("database_waits", tries=tries, error=reason(error))
        await asyncio.sleep(exponential(tries, 0.1, 2, random.random()))  # noqa: S311 - jitter
    raise AssertionError("unreachable")


def sqlstate(error: BaseException) -> str:
    """PostgreSQL's five-character code, or an empty string for other errors."""
    original = error.orig if isinstance(error, DBAPIError) else error
    return getattr(original, "sqlstate", None) or ""


def reason(error: BaseException) -> str:
    """What went wrong, in one line that is never empty."""
    original = error.orig if isinstance(error, DBAPIError) and error.orig else error
    said = str(original.__cause__ or original).strip()
    return said.partition("\n")[0] or type(original).__name__


def _closed_under_us(error: BaseException) -> bool:
    cause = error.orig.__cause__ if isinstance(error, DBAPIError) and error.orig else error
    unreadable_url = isinstance(cause, ValueError)  # asyncpg makes it an InterfaceError, too
    return isinstance(cause, asyncpg.InterfaceError | OSError) and not unreadable_url


# --- the first look at start ---


async def wait_for_database(database: Database, revision: str, *, beside: int = 0) -> UUID:
    """The deployment's id, once the database answers, its schema is new enough, and it has room
    for the connections of this process: the pool's, and ``beside`` it.

    Waits up to ``startup_timeout``; raises StartupError with a sentence that says what to do.
    """
    connections = database.settings.database_pool + beside
    deadline = time.monotonic() + database.settings.startup_timeout
    for tries in range(1, 1000):
        try:
            async with database.begin() as session:
                await _find_room(session, connections)
                return await _deployment_id(session, revision)
        except (ValueError, OverflowError) as error:  # so asyncpg says what it cannot read
            raise StartupError(f"WAYMARK_DATABASE_URL is not usable: {error}.") from error
        except (DBAPIError, OSError, asyncpg.PostgresError) as error:
            why = reason(error)
            if not connection_lost(error):
                raise StartupError(f"PostgreSQL at {place(database.dsn)} refused: {why}") from error
            if time.monotonic() > deadline:
                raise StartupError(
                    f"PostgreSQL at {place(database.dsn)} did not answer within "
                    f"{database.settings.startup_timeout:g} s ({why}). Is it running, and is "
                    "WAYMARK_DATABASE_URL right?"
                ) from error
        await asyncio.sleep(exponential(tries, 0.1, 1, random.random()))  # noqa: S311 - jitter
    raise AssertionError("unreachable")


async def _find_room(session: AsyncSession, connections: int) -> None:
    found = (await session.execute(ROOM)).one()
    if connections > found.allowed - found.used:
        raise StartupError(
            f"this process may need {connections} connections; PostgreSQL allows {found.allowed} "
            f"and others use {found.used}. Lower WAYMARK_DATABASE_POOL, run fewer processes, or "
            "raise max_connections."
        )


ROOM = text(
    """
    SELECT CAST(current_setting('max_connections') AS integer)
         - CAST(current_setting('superuser_reserved_connections') AS integer)
         - coalesce(CAST(current_setting('reserved_connections', true) AS integer), 0) AS allowed,
           (SELECT count(*) FROM pg_stat_activity
            WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()) AS used
    """
)


async def _deployment_id(session: AsyncSession, revision: str) -> UUID:
    found = await session.scalar(text("SELECT to_regclass('deployment') IS NOT NULL"))
    current = (
        await session.scalar(text("SELECT version_num FROM alembic_version")) if found else None
    )
    if current is None or current < revision:
        raise StartupError(
            f"the database schema is at {current or 'nothing'}, this release needs {revision}: "
            "run `waymark db upgrade` first."
        )
    identity: UUID = (await session.execute(text("SELECT id FROM deployment"))).scalar_one()
    return identity


def place(dsn: str) -> str:
    """Without the password; there may be several hosts."""
    parts = urlsplit(dsn)
    return f"{parts.netloc.rpartition('@')[2] or 'a local socket'}{parts.path}"
