"""How Alembic reaches the database: over asyncpg, like everything else here."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
from alembic import context
from sqlalchemy import Connection, NullPool, text
from sqlalchemy.ext.asyncio import create_async_engine

from shared.models import Base

MIGRATION_LOCK = 0x_776D_0001
"""Advisory lock: the second of two upgrades waits, then finds nothing left to do."""


async def _migrate() -> None:
    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=_connect, poolclass=NullPool
    )
    async with engine.connect() as connection:
        await connection.run_sync(_run)
    await engine.dispose()


async def _connect(**_: Any) -> asyncpg.Connection:
    return await asyncpg.connect(
        context.config.attributes["database_url"],
        timeout=10,
        # Waiting behind a long transaction would make everybody else wait behind us.
        server_settings={"application_name": "waymark-migrate", "lock_timeout": "5s"},
    )


def _run(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=Base.metadata, transactional_ddl=True)
    with context.begin_transaction():
        connection.execute(text("SET LOCAL lock_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
        connection.execute(text("SET LOCAL lock_timeout = '5s'"))
        context.run_migrations()
    connection.commit()


asyncio.run(_migrate())
