"""What a model takes for a roadmap: as it did here before, else as we assume."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass

import structlog
from sqlalchemy import RowMapping, text

from shared.database import Database, connection_lost, reason, retriable
from shared.views import ModelEstimate

log = structlog.get_logger()

FRESH = 60.0
"""Seconds for which what was read is good enough."""

MOST_STEPS = 2000
"""Steps that are looked at, the latest: those of some fifty roadmaps."""


@dataclass(frozen=True, slots=True)
class Usage:
    calls: float
    tokens_in: float
    tokens_out: float


@dataclass(frozen=True, slots=True)
class Sizes:
    """What understanding and design take ``once``, and each lesson again."""

    once: Usage
    lesson: Usage
    based_on: str

    def of(self, concepts: int) -> tuple[int, int, int]:
        """Calls, tokens in and tokens out of a roadmap with a lesson for each concept."""
        return (
            round(self.once.calls + concepts * self.lesson.calls),
            round(self.once.tokens_in + concepts * self.lesson.tokens_in),
            round(self.once.tokens_out + concepts * self.lesson.tokens_out),
        )


ASSUMED = Sizes(
    once=Usage(calls=3, tokens_in=6000, tokens_out=7000),
    lesson=Usage(calls=1, tokens_in=800, tokens_out=2200),
    based_on="assumed sizes, as the model has made no roadmap here yet",
)
"""Prompts with their shapes, one round of edits, lessons of 500 to 1200 words with a quiz."""


class ModelCosts:
    """Of the model that is set now; read at most every ``FRESH`` seconds."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.settings = database.settings
        self.model = database.settings.llm_model
        self._sizes = ASSUMED
        self._read_at = -math.inf
        self._reading = asyncio.Lock()

    async def of(self, concepts: int, plan: str) -> ModelEstimate | None:
        """None when no model makes the roadmaps. ``plan``: where the number is from."""
        if self.model is None:
            return None
        sizes = await self._current(self.model)
        calls, tokens_in, tokens_out = sizes.of(concepts)
        return ModelEstimate(
            name=self.model,
            calls=calls,
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            cost_usd=self._cost(tokens_in, tokens_out),
            based_on=f"{plan}; {sizes.based_on}",
        )

    def _cost(self, tokens_in: int, tokens_out: int) -> float | None:
        price_in, price_out = self.settings.llm_price_in, self.settings.llm_price_out
        if price_in is None or price_out is None:
            return None
        return round((tokens_in * price_in + tokens_out * price_out) / 1e6, 4)

    async def _current(self, model: str) -> Sizes:
        async with self._reading:
            if time.monotonic() - self._read_at >= FRESH:
                try:
                    self._sizes = await self._read(model)
                except Exception as error:
                    if not (connection_lost(error) or retriable(error)):
                        raise
                    log.info("model_costs_not_read", error=reason(error))
                self._read_at = time.monotonic()
        return self._sizes

    async def _read(self, model: str) -> Sizes:
        parameters = {"model": model, "most": MOST_STEPS}
        async with self.database.autocommit() as connection:
            taken = (await connection.execute(TAKEN, parameters)).mappings().one()
        return _sizes(taken) if taken["lessons"] else ASSUMED


def _sizes(taken: RowMapping) -> Sizes:
    roadmaps = taken["roadmaps"]
    these = "the last roadmap" if roadmaps == 1 else f"the last {roadmaps} roadmaps"
    return Sizes(
        once=_share(taken, "once", roadmaps),
        lesson=_share(taken, "lesson", taken["lessons"]),
        based_on=f"what {these} by this model took here",
    )


def _share(taken: RowMapping, part: str, number: int) -> Usage:
    calls, tokens_in, tokens_out = (
        (taken[f"{part}_{what}"] or 0) / number for what in ("calls", "tokens_in", "tokens_out")
    )
    return Usage(calls, tokens_in, tokens_out)


# Of all tenants: an average over them tells nothing about one. A lesson may have been asked for
# under several inputs, and is still one lesson.
TAKEN = text(
    """
    WITH latest AS (
        SELECT task_id, step, step LIKE 'lesson:%' AS lesson, calls, tokens_in, tokens_out
        FROM task_steps ORDER BY task_id DESC, step DESC LIMIT :most
    ), made AS (
        SELECT task_id FROM roadmaps
        WHERE task_id IN (SELECT task_id FROM latest WHERE calls > 0)
          AND document #>> '{generated_by,model}' = :model
    )
    SELECT count(DISTINCT task_id) AS roadmaps,
           count(DISTINCT (task_id, step)) FILTER (WHERE lesson) AS lessons,
           CAST(sum(calls) FILTER (WHERE lesson) AS float8) AS lesson_calls,
           CAST(sum(tokens_in) FILTER (WHERE lesson) AS float8) AS lesson_tokens_in,
           CAST(sum(tokens_out) FILTER (WHERE lesson) AS float8) AS lesson_tokens_out,
           CAST(sum(calls) FILTER (WHERE NOT lesson) AS float8) AS once_calls,
           CAST(sum(tokens_in) FILTER (WHERE NOT lesson) AS float8) AS once_tokens_in,
           CAST(sum(tokens_out) FILTER (WHERE NOT lesson) AS float8) AS once_tokens_out
    FROM latest JOIN made USING (task_id)
    WHERE calls > 0
    """
)
