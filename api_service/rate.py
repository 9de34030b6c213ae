"""So many requests a minute from each caller, counted in this process alone."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import ClassVar

from limits import RateLimitItemPerMinute
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter

from api_service.problems import Problem

WINDOW = 60
"""Seconds."""

MOST_CALLERS = 50_000
"""Who is counted at once. Beyond, those who came first are forgotten, and begin anew."""


class Rate:
    """Headers as in draft-ietf-httpapi-ratelimit-headers: what is allowed, and what is left."""

    def __init__(self, per_minute: int) -> None:
        self.allowed = RateLimitItemPerMinute(per_minute)
        self.policy = f'"default";q={per_minute};w={WINDOW}'.encode()
        self.limiter = FixedWindowRateLimiter(Counts(wrap_exceptions=False))

    def hit(self, caller: str) -> tuple[bool, str, int]:
        """Count one request: whether it may go on, the RateLimit header, seconds to the next
        window."""
        allowed = self.limiter.hit(self.allowed, caller)
        ends_at, left = self.limiter.get_window_stats(self.allowed, caller)
        seconds = max(1, round(ends_at - time.time()))
        return allowed, f'"default";r={left};t={seconds}', seconds

    def refusal(self, seconds: int) -> Problem:
        return Problem(
            "rate-limited",
            f"You may send {self.allowed.amount} requests in {WINDOW} seconds.",
            headers={"Retry-After": str(seconds)},
        )


class Counts(Storage):
    """Callers in the order in which their windows end, for all windows are equally long.

    The library's own storage starts a thread for every few requests to forget callers.
    """

    STORAGE_SCHEME: ClassVar[list[str] | None] = ["waymark+memory"]  # type: ignore[misc] # as its siblings

    def __init__(self, *, wrap_exceptions: bool) -> None:
        super().__init__(None, wrap_exceptions=wrap_exceptions)
        self.counts: OrderedDict[str, tuple[int, float]] = OrderedDict()

    @property
    def base_exceptions(self) -> type[Exception]:
        return KeyError

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        now = time.time()
        count, ends_at = self.counts.get(key, (0, 0.0))
        if ends_at <= now:
            count, ends_at = 0, now + expiry
            self._forget(key, now)
        self.counts[key] = (count + amount, ends_at)
        return count + amount

    def get(self, key: str) -> int:
        count, ends_at = self.counts.get(key, (0, 0.0))
        return count if ends_at > time.time() else 0

    def get_expiry(self, key: str) -> float:
        return self.counts.get(key, (0, time.time()))[1]

    def check(self) -> bool:
        return True

    def reset(self) -> int:
        known = len(self.counts)
        self.counts.clear()
        return known

    def clear(self, key: str) -> None:
        self.counts.pop(key, None)

    def _forget(self, caller: str, now: float) -> None:
        """The one who begins anew, who did not come back, and whoever is one too many."""
        self.counts.pop(caller, None)
        while self.counts:
            _, ends_at = self.counts[next(iter(self.counts))]
            if ends_at > now and len(self.counts) < MOST_CALLERS:
                return
            self.counts.popitem(last=False)
