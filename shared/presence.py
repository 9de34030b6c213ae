"""Says in PostgreSQL that this process lives, what it does, and hears what operators want of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Awaitable, Callable
from datetime import timedelta
from importlib.metadata import version
from typing import Any, Literal

import structlog
from sqlalchemy import text
from uuid_utils.compat import uuid7

from shared.database import GOODBYE, Database, reason

log = structlog.get_logger()

MISSED = 3
"""Times it may not be heard of before it counts as gone."""

SOON = 1.0
"""Seconds at most until an order that was heard shows in the report."""

Report = Callable[[], Awaitable[dict[str, Any]]]
"""What it tells about itself: JSON."""


def own_name() -> str:
    """Host and pid: a worker's leases carry the same as their owner."""
    return f"{socket.gethostname()}:{os.getpid()}"


class Presence:
    """For people's eyes: no lease and no lock rests on it, so trouble with it stops nothing."""

    def __init__(self, database: Database, role: Literal["relay", "worker"], report: Report):
        self.database = database
        self.draining = False
        """Whether an operator wants this process to take nothing more."""
        self._seconds = database.settings.presence
        self._report = report
        self._unheard = False
        self._who = {
            "id": uuid7(),
            "role": role,
            "name": own_name(),
            "version": version("waymark"),
            "gone_after": timedelta(seconds=MISSED * self._seconds),
        }

    async def run(self, stop: asyncio.Event, heed: Callable[[bool], None] = lambda _: None) -> None:
        """Until ``stop`` is set; ``heed`` hears whenever it is to drain, or not any more."""
        while not stop.is_set():
            pause = self._seconds
            draining = await self._said(self._tell())
            _heed_cancellation()
            if draining is not None and draining != self.draining:
                self.draining = draining
                log.info("drain_asked" if draining else "drain_over")
                heed(draining)
                pause = min(pause, SOON)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), pause)
        await self._said(asyncio.wait_for(self._leave(), GOODBYE))

    async def _said(self, saying: Awaitable[bool]) -> bool | None:
        try:
            answer = await saying
        except Exception as error:  # noqa: BLE001 - whatever it is, work goes on unseen
            _heed_cancellation()
            if not self._unheard:
                log.warning("presence_not_told", error=reason(error))
            self._unheard = True
            return None
        self._unheard = False
        return answer

    async def _tell(self) -> bool:
        report = json.dumps(await self._report())
        async with self.database.autocommit() as connection:
            found = await connection.execute(TELL, self._who | {"report": report})
            return bool(found.scalar_one())

    async def _leave(self) -> bool:
        async with self.database.autocommit() as connection:
            await connection.execute(LEAVE, {"id": self._who["id"]})
        return self.draining


def _heed_cancellation() -> None:
    """What was asked meanwhile may have swallowed it, as clients of Redis do at times, or made an
    error of its own out of it."""
    task = asyncio.current_task()
    if task and task.cancelling():
        raise asyncio.CancelledError


# Who comes by clears away those who were killed long ago.
TELL = text(
    """
    WITH swept AS (
        DELETE FROM processes WHERE seen_at < now() - interval '1 day' AND id <> :id
    )
    INSERT INTO processes AS process (id, role, name, version, gone_after, report)
    VALUES (:id, :role, :name, :version, :gone_after, CAST(CAST(:report AS text) AS jsonb))
    ON CONFLICT (id) DO UPDATE SET seen_at = now(), report = EXCLUDED.report
    RETURNING drain_requested_at IS NOT NULL
    """
)

LEAVE = text("DELETE FROM processes WHERE id = :id")
