"""What waits in the outbox right now, read so that it costs the same on every day."""

from __future__ import annotations

import time

import structlog

from relay_service import outbox
from relay_service.lanes import Lanes
from relay_service.outbox import Look
from relay_service.verification import Doubts
from shared import metrics
from shared.database import Database
from shared.settings import Settings

log = structlog.get_logger()


class Lookout:
    """Reads each lane from its low-water mark on; now and then from the very beginning, because
    a clock may step back and a message may be put in by hand."""

    def __init__(self, settings: Settings, database: Database, doubts: Doubts) -> None:
        self.settings = settings
        self.database = database
        self.doubts = doubts
        self.lanes = Lanes()
        self._full_look_at = 0.0
        self._rearmings = 0
        self._paused = False

    async def look(self) -> Look:
        """Until there is no lane left that was not looked into."""
        while True:
            look = await self._look_once()
            for lane in look.found:
                self.lanes.meet(lane)
            if look.rearmings != self._rearmings:
                self._rearmings, self._full_look_at = look.rearmings, 0.0
            elif not look.found:
                break
        ages = [backlog.age(look.snapshot.now) for backlog in look.backlogs.values()]
        metrics.OLDEST_PENDING.set(max(ages, default=0.0))
        self._note_pause(look.paused)
        return look

    async def _look_once(self) -> Look:
        now = time.monotonic()
        full = now >= self._full_look_at
        look = await outbox.look(
            self.database,
            self.lanes.floors(full=full),
            self.settings.relay_batch,
            self.doubts.resting(),
        )
        self.lanes.learn(look.backlogs, look.snapshot)
        if full:  # the longer it took, the longer until the next: a twentieth of the time at most
            took = time.monotonic() - now
            self._full_look_at = now + max(self.settings.relay_full_look, 20 * took)
        return look

    def _note_pause(self, paused: bool) -> None:
        if paused != self._paused:
            log.warning("relay_paused" if paused else "relay_resumed")
            metrics.PAUSED.set(paused)
        self._paused = paused
