"""Clients that hang up: what is done for them alone is broken off."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

Outcome = TypeVar("Outcome")


async def unless_gone(work: Coroutine[Any, Any, Outcome], receive: Receive) -> Outcome | None:
    """What came of ``work``, of which the request must have been read; None if the client has gone.

    Any: what coroutines never have. Raises what ``work`` does.
    """
    working = asyncio.create_task(work)
    gone = asyncio.create_task(_gone(receive))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        return await working if working.done() else None
    finally:
        for task in (working, gone):
            task.cancel()
        await asyncio.gather(working, gone, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
