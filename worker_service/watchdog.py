"""Ends a process whose event loop is stuck: hung work must not look alive.

Leases then run out and others take over. Two guards, because one thread cannot see everything:
the heartbeat's thread asks when the loop turned last; where even that thread cannot run, because
somebody holds the interpreter's lock, the kernel's timer of used processor time ends the process.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
import traceback

import structlog

log = structlog.get_logger()

TURN = 0.5
"""Seconds between two signs of life of a loop that turns."""

FROZEN = 4 * TURN
"""Seconds of one pause that tell that the whole process stood still, not the loop alone."""

BURNT = 2.0
"""Times the patience, in processor time: several threads use it up at once."""

EXIT_CODE = 70
"""EX_SOFTWARE of sysexits.h."""


class Watchdog:
    """``run`` on the loop that is watched, ``watch`` on the loop of another thread."""

    def __init__(self, patience: float, thread: int) -> None:
        """``patience``: seconds. ``thread``: the ident of the watched loop's, for its stack."""
        self.patience = patience
        self.thread = thread
        self._turned_at = time.monotonic()

    async def run(self) -> None:
        try:
            while True:
                self._turned_at = time.monotonic()
                signal.setitimer(signal.ITIMER_PROF, BURNT * self.patience)
                await asyncio.sleep(TURN)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)

    async def watch(self) -> None:
        """Ends the process when the watched loop has stood for too long."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(TURN)
            now = time.monotonic()
            if now - before > FROZEN:  # stopped and continued, or its machine slept
                self._turned_at = now
            if now - self._turned_at > self.patience:
                log.critical("loop_stuck", seconds=now - self._turned_at, stack=self._stack())
                sys.stderr.flush()
                os._exit(EXIT_CODE)

    def _stack(self) -> str:
        frame = sys._current_frames().get(self.thread)
        return "".join(traceback.format_stack(frame)[-8:]) if frame else ""
