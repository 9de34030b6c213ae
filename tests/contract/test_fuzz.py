"""Whatever a client sends, the API answers as its description says. ``make fuzz`` sends more."""

from __future__ import annotations

import asyncio
from pathlib import Path

from shared.database import Database
from tests.conftest import Servers
from tests.fuzz import STACK, fuzz
from tests.transcript import stack

WALKED = {200, 201, 202, 204, 400, 404, 405, 409, 412, 415, 422}
"""Statuses that a round must have met, or it has not come far."""


async def test_every_answer_is_one_that_the_description_promises(
    servers: Servers, database: Database, valkey: object, tmp_path: Path
) -> None:
    with stack(servers, tmp_path, STACK) as url:
        summary = await asyncio.to_thread(fuzz, url, examples=50, seed=1)
    report = "\n".join(summary.lines())
    assert summary.failures == {}, report
    assert summary.server_errors == 0, report
    assert set.union(*map(set, summary.statuses.values())) >= WALKED, report
