"""Connections that are held open: so many for each caller, and no more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class Places:
    """Of one process; streams and waits count alike."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken: Counter[str] = Counter()

    @contextmanager
    def take(self, caller: str) -> Iterator[bool]:
        """Whether there was a place; it is kept for the block."""
        if self.taken[caller] >= self.most:
            yield False
            return
        self.taken[caller] += 1
        try:
            yield True
        finally:
            self.taken[caller] -= 1
            if not self.taken[caller]:
                del self.taken[caller]
