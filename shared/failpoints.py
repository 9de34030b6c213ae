"""Named instants between two durable writes, where a test can strike. Nothing unless enabled."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import dataclass

from shared.errors import StartupError, Transient
from shared.settings import Settings

POINTS = {
    "api.committed": "after a submission's COMMIT, before its answer",
    "relay.claimed": "messages are locked, none is published",
    "relay.verified": "verdicts are known, nothing is published",
    "relay.published": "Redis has the messages, nothing is settled",
    "relay.settled": "the settlement is committed",
    "worker.generating": "the lease is held, no step has begun",
    "worker.step_begun": "a paid step is written down as begun",
    "worker.step_answered": "its output is there, and not kept yet",
    "worker.step_kept": "its output is committed",
    "worker.generated": "the roadmap is there, and not committed",
    "worker.failing": "the attempt has failed, which is not written yet",
    "worker.completed": "the outcome is committed, the message not acknowledged",
}

ACTIONS = ("kill", "stop", "sleep", "block", "raise")
"""``sleep`` lets the event loop turn, ``block`` does not."""


@dataclass(slots=True)
class _Armed:
    action: str
    amount: float
    passes: int
    """Passes left until it strikes; 0: it strikes each time."""


_armed: dict[str, _Armed] = {}


def arm(settings: Settings) -> None:
    """Read ``WAYMARK_FAILPOINTS``, e.g. ``relay.published=kill,worker.step_kept=kill@3``.

    With ``@3`` it strikes once, at the third pass. Raises StartupError on what it cannot read.
    """
    _armed.clear()
    for entry in filter(None, settings.failpoints.split(",")):
        name, _, action = entry.partition("=")
        _armed[name.strip()] = _read(name.strip(), action.strip(), entry)


def _read(name: str, said: str, entry: str) -> _Armed:
    action, _, passes = said.partition("@")
    action, _, amount = action.partition(":")
    if name not in POINTS:
        raise StartupError(
            f"WAYMARK_FAILPOINTS: there is no {name}; there are {', '.join(POINTS)}."
        )
    try:
        armed = _Armed(action, float(amount or 0), int(passes or 0))
    except ValueError:
        armed = None
    if armed is None or action not in ACTIONS:
        raise StartupError(
            f"WAYMARK_FAILPOINTS: {entry!r} is not name=kill|stop|sleep:N|block:N|raise, "
            "perhaps with @PASS."
        )
    return armed


async def failpoint(name: str) -> None:
    """Do what this point was armed with; normally nothing."""
    armed = _armed.get(name)
    if armed is None or not _strikes(name, armed):
        return
    match armed.action:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "sleep":
            await asyncio.sleep(armed.amount)
        case "block":
            time.sleep(armed.amount)  # noqa: ASYNC251 - that is what a test asked for
        case "raise":
            raise Transient(f"failpoint {name}")


def _strikes(name: str, armed: _Armed) -> bool:
    if armed.passes == 0:
        return True
    armed.passes -= 1
    if armed.passes:
        return False
    del _armed[name]
    return True
