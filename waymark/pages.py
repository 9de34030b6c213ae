"""Lists that come in pages, read as one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from waymark import calls
from waymark.calls import Id
from waymark.errors import Document
from waymark.exchange import Give, Talk, exchange

LARGEST_PAGE = 100
PAGE = ("data", "has_more")


def all_events(task_id: Id, after: int, until: float | None = None) -> Talk[list[Document]]:
    """Those with a higher ``seq``, in order. ``until``: see ``Call``."""
    found: list[Document] = []
    while True:
        page = (yield from exchange(calls.events(task_id, after, until))).having(*PAGE)
        found += page["data"]
        if not page["has_more"] or not page["data"]:
            return found
        after = page["data"][-1]["seq"]


def all_tasks(filters: Mapping[str, Any], limit: int | None) -> Talk[None]:
    """Gives the tasks, newest first; at most ``limit``. A page is asked for when it is needed."""
    left, cursor = limit, None
    while left is None or left > 0:
        size = LARGEST_PAGE if left is None else min(left, LARGEST_PAGE)
        answer = yield from exchange(calls.tasks(filters, size, cursor))
        page = answer.having(*PAGE, "next_cursor")
        for task in page["data"]:
            yield Give(task)
        cursor = page["next_cursor"]
        if not page["has_more"] or cursor is None:
            return
        left = None if left is None else left - len(page["data"])
