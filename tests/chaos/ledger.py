"""What the double of a model was asked for and paid, beside what PostgreSQL has kept."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.database import Database
from tests.factories import rows


@dataclass(frozen=True, slots=True)
class Paid:
    """One call. Answered in full, it is paid, whatever became of who asked."""

    key: str
    begun: float
    answered: bool

    @property
    def step(self) -> str:
        """``task:step:hash``, without what marks a second round of the same step."""
        return self.key.removesuffix(":repair")


def read(ledger: Path) -> list[Paid]:
    lines = ledger.read_text(encoding="utf-8").splitlines() if ledger.exists() else []
    entries: list[Mapping[str, Any]] = [json.loads(line) for line in lines]
    return [Paid(one["key"], one["begun"], one["answered"]) for one in entries]


def paid_again(calls: Sequence[Paid]) -> int:
    """How many answers were paid again."""
    answers = Counter(one.key for one in calls if one.answered)
    return sum(times - 1 for times in answers.values())


async def asked_after_kept(database: Database, calls: Sequence[Paid]) -> list[str]:
    """Steps that the model was asked for although their output was committed: none, ever."""
    kept = await rows(
        database,
        """
        SELECT task_id || ':' || step || ':' || left(encode(input_hash, 'hex'), 32) AS key,
               extract(epoch FROM finished_at)::float8 AS at
        FROM task_steps WHERE output IS NOT NULL
        """,
    )
    at = {one["key"]: one["at"] for one in kept}
    return [one.key for one in calls if one.begun > at.get(one.step, float("inf"))]
