"""How much may wait in Redis: enough that no worker idles, so little that PostgreSQL decides."""

from __future__ import annotations

from relay_service.publisher import Publisher
from shared import metrics
from shared.settings import Settings

PER_SLOT = 4
AT_LEAST = 64


class Window:
    """The backlog stays in PostgreSQL, where priority, fairness and cancellation hold."""

    def __init__(self, settings: Settings, publisher: Publisher) -> None:
        self.publisher = publisher
        self._fixed = settings.relay_window
        self._slots = 0
        self._depth = 0

    @property
    def size(self) -> int:
        return self._fixed or max(AT_LEAST, PER_SLOT * self._slots)

    async def room(self, waiting: int) -> int:
        """For how many of the ``waiting`` there is room now; Redis is asked only in doubt."""
        if waiting > self.size - self._depth:
            self._depth, self._slots = await self.publisher.fill()
            metrics.WINDOW.set(self.size)
            metrics.DEPTH.set(self._depth)
        room = self.size - self._depth
        # Filled up by a quarter at least: one at a time would cost a transaction each.
        return room if room >= min(waiting, self.size // 4) else 0

    def filled(self, depth: int) -> None:
        self._depth = depth
        metrics.DEPTH.set(depth)
