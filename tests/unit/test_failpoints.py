"""Failpoints: nothing unless armed, and a misspelt one is refused by name."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from shared import failpoints
from shared.errors import StartupError, Transient
from shared.failpoints import POINTS, arm, failpoint
from shared.settings import Settings

ROOT = Path(__file__).parents[2]


def armed(text: str) -> None:
    arm(Settings(failpoints=text))


async def test_a_point_that_is_not_armed_does_nothing() -> None:
    armed("worker.generating=raise")
    await failpoint("worker.generated")


async def test_a_point_strikes_each_time() -> None:
    armed("worker.generating=raise")
    for _ in range(3):
        with pytest.raises(Transient, match=r"worker\.generating"):
            await failpoint("worker.generating")


async def test_a_point_may_strike_once_at_a_later_pass() -> None:
    armed("worker.step_kept=raise@3")
    await failpoint("worker.step_kept")
    await failpoint("worker.step_kept")
    with pytest.raises(Transient):
        await failpoint("worker.step_kept")
    await failpoint("worker.step_kept")


@pytest.mark.parametrize("action", ["sleep:0.05", "block:0.05"])
async def test_a_point_may_delay(action: str) -> None:
    armed(f"worker.generating={action}")
    begun = time.monotonic()
    await failpoint("worker.generating")
    assert time.monotonic() - begun >= 0.05


@pytest.mark.parametrize(
    "text",
    [
        "worker.nowhere=kill",
        "worker.generating",
        "worker.generating=explode",
        "worker.generating=sleep:long",
        "worker.generating=kill@soon",
    ],
)
def test_what_cannot_be_read_is_refused_by_name(text: str) -> None:
    with pytest.raises(StartupError, match="WAYMARK_FAILPOINTS"):
        armed(text)


def test_every_point_in_the_code_is_listed_and_every_listed_one_is_in_the_code() -> None:
    code = [path.read_text() for folder in ROOT.glob("*_service") for path in folder.rglob("*.py")]
    placed = set(re.findall(r'failpoint\("([\w.]+)"\)', "\n".join(code)))
    assert placed == set(POINTS)
    assert failpoints.ACTIONS == ("kill", "stop", "sleep", "block", "raise")
