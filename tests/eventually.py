"""Wait for a fact instead of sleeping as a guess."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable


async def eventually(check: Callable[[], Awaitable[None]], within: float = 30) -> None:
    """Repeat ``check`` until it stops raising AssertionError, at most ``within`` seconds."""
    deadline = time.monotonic() + within
    while True:
        try:
            return await check()
        except AssertionError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.02)


def eventually_sync(check: Callable[[], None], within: float = 30) -> None:
    """The same for tests that drive processes and have no event loop."""
    deadline = time.monotonic() + within
    while True:
        try:
            return check()
        except AssertionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
