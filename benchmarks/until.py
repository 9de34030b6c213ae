"""Wait for a fact that only somebody else can bring about."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

PATIENCE = 300.0


async def until(holds: Callable[[], Awaitable[bool]], every: float = 0.1) -> None:
    """Ask every so many seconds. Raises TimeoutError when it takes longer than anything should."""
    async with asyncio.timeout(PATIENCE):
        while True:
            if await holds():
                return
            await asyncio.sleep(every)
