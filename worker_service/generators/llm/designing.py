"""From what is wanted to a sound outline: one design, checked here, and two rounds to mend it."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from shared.errors import Permanent
from shared.roadmap import RoadmapRequest
from worker_service.generators.offline.catalog import Catalog
from worker_service.generators.port import Reached, StepFailed, Steps

from . import prompts, wording
from .asking import Asking
from .checks import Finding, findings, oversized
from .edits import apply
from .outline import Ids, Outline, outline_of
from .shapes import Design, Edits, Understanding

log = structlog.get_logger()

ROUNDS = {1: 33, 2: 36}
"""The rounds of edits there are, and the percent that each has reached."""


class NotDesigned(Permanent):
    """The model answered, and no plan came of it."""

    code = "model_bad_output"


@dataclass(frozen=True, slots=True)
class Draft:
    """An outline with what is wrong with it, and what the last edits could not do."""

    outline: Outline
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()

    @property
    def faults(self) -> tuple[int, int]:
        """Critical ones, then those worth mending: the smaller, the better."""
        mend = sum(one.severity == "mend" for one in self.findings)
        return sum(one.critical for one in self.findings), mend

    @property
    def is_sound(self) -> bool:
        return self.faults[0] == 0

    def is_worth_a_round(self, number: int) -> bool:
        """What a learner can live with is asked for once: a model that keeps it has its reason."""
        critical, mend = self.faults
        return critical > 0 or (mend > 0 and number == 1)


class Designing:
    """The design of one plan; ``shelf`` is the catalog if it knows what the plan is about."""

    def __init__(
        self,
        request: RoadmapRequest,
        understanding: Understanding,
        shelf: Catalog | None,
        asking: Asking,
        steps: Steps,
    ) -> None:
        self.request = request
        self.understanding = understanding
        self.shelf = shelf
        self.asking = asking
        self.steps = steps
        self.ids = Ids(shelf)

    async def outline(self) -> Outline:
        """The best outline that the model comes to. Raises StepFailed, or NotDesigned if the best
        is not sound: half a plan is no plan.
        """
        best = await self._mended(await self._first())
        if not best.is_sound:
            log.info("design_not_sound", findings=[one.code for one in best.findings])
            raise NotDesigned(wording.CONTRADICTION)
        return best.outline

    async def _first(self) -> Draft:
        prompt = prompts.design(self.request, self.understanding)
        reached = Reached(30, "plan designed")
        job = self.asking.job("design", Design, prompt, reached=reached, check=oversized)
        design = await self.steps.run(job)
        return self._draft(outline_of(design, self.ids))

    async def _mended(self, draft: Draft) -> Draft:
        """The best of all rounds, the latest of equals: an edit may do harm as well."""
        best = draft
        for number in ROUNDS:
            if not draft.is_worth_a_round(number):
                break
            try:
                edits = await self._edits(number, draft)
            except StepFailed:
                if best.is_sound:
                    break
                raise
            edited = apply(draft.outline, edits, self.ids)
            draft = self._draft(edited.outline, edited.notes)
            best = min(draft, best, key=lambda one: one.faults)
        return best

    async def _edits(self, number: int, draft: Draft) -> Edits:
        prompt = prompts.edit(
            self.request, self.understanding, draft.outline, draft.findings, draft.notes
        )
        reached = Reached(ROUNDS[number], "plan edited")
        return await self.steps.run(
            self.asking.job(f"edit:{number}", Edits, prompt, reached=reached)
        )

    def _draft(self, outline: Outline, notes: tuple[str, ...] = ()) -> Draft:
        found = findings(outline, self.request, self.understanding, self.shelf)
        return Draft(outline, found, notes)
