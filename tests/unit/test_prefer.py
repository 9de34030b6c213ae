"""How long a caller would wait: what the Prefer header may look like (RFC 7240)."""

from __future__ import annotations

import pytest

from api_service.prefer import LONGEST, wait_of


@pytest.mark.parametrize(
    "prefer",
    [
        "wait=7",
        "Wait=7",
        'wait="7"',
        " wait = 7 ",
        "wait=7; strictly",
        "respond-async, wait=7",
        "wait=7,respond-async",
        "wait=7, wait=9",
        'note="a, b", wait=7',
        'note="a \\", wait=9", wait=7',
    ],
)
def test_the_first_wait_that_can_be_read_counts(prefer: str) -> None:
    assert wait_of(prefer) == 7


@pytest.mark.parametrize("seconds", [LONGEST, LONGEST + 1, 999_999_999])
def test_nobody_waits_longer_than_the_longest(seconds: int) -> None:
    assert wait_of(f"wait={seconds}") == LONGEST


@pytest.mark.parametrize(
    "prefer",
    [
        None,
        "",
        "respond-async",
        "wait",
        "wait=",
        "wait=0",
        "wait=-1",
        "wait=1.5",
        "wait=soon",
        "wait=٣",
        'wait="7',
        "wait=9999999999",
        "await=7",
        "respond-async; wait=7",
        'note="a, wait=7"',
        'note="never closed, wait=7',
    ],
)
def test_what_is_no_wait_is_passed_over(prefer: str | None) -> None:
    assert wait_of(prefer) is None


def test_an_endless_header_is_read_in_no_time() -> None:
    assert wait_of('"' * 30_001 + "\\" * 30_001 + "wait=7") is None
