"""Named instants between two durable writes, where a test can strike. Nothing unless enabled."""

from __future__ import annotations

import asyncio
import os
import signal

from shared.errors import StartupError, Transient
from shared.settings import Settings

_armed: dict[str, str] = {}


def arm(settings: Settings) -> None:
    """Read ``WAYMARK_FAILPOINTS``, e.g. ``relay.published=kill,worker.generating=sleep:5``."""
    _armed.clear()
    for entry in filter(None, settings.failpoints.split(",")):
        name, _, action = entry.partition("=")
        if action.partition(":")[0] not in ("kill", "stop", "sleep", "raise"):
            raise StartupError(
                f"WAYMARK_FAILPOINTS: {entry!r} is not name=kill|stop|sleep:N|raise."
            )
        _armed[name.strip()] = action.strip()


async def failpoint(name: str) -> None:
    """Do what this point was armed with; normally nothing."""
    action, _, amount = _armed.get(name, "").partition(":")
    match action:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "sleep":
            await asyncio.sleep(float(amount))
        case "raise":
            raise Transient(f"failpoint {name}")
