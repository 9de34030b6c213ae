"""How long a request waited for the database, however its blocks lie within each other."""

from __future__ import annotations

import time

from api_service.timing import start, timed


def test_a_block_within_another_counts_once() -> None:
    spent, begun = start(), time.perf_counter()
    for _ in range(2):
        with timed(), timed():
            while time.perf_counter() - begun < 0.01:
                pass
    assert 0 < spent[0] <= time.perf_counter() - begun


def test_what_nobody_counts_is_timed_all_the_same() -> None:
    with timed():
        pass
