"""How long a request waited for the database: told to its client in Server-Timing."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from shared.database import Database

_SPENT: ContextVar[list[float]] = ContextVar("database_seconds")


def start() -> list[float]:
    """Begin to count for this request; its first element grows, in seconds."""
    spent = [0.0]
    _SPENT.set(spent)
    return spent


@contextmanager
def timed() -> Iterator[None]:
    """Counts the block as time in the database: once, whatever in it counts as well."""
    spent = _SPENT.get(None) or [0.0]
    before, begun = spent[0], time.perf_counter()
    try:
        yield
    finally:
        spent[0] = before + time.perf_counter() - begun


class TimedDatabase(Database):
    """Counts while a connection is waited for, and used."""

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncSession]:
        with timed():
            async with super().begin() as session:
                yield session

    @asynccontextmanager
    async def autocommit(self) -> AsyncIterator[AsyncConnection]:
        with timed():
            async with super().autocommit() as connection:
                yield connection
