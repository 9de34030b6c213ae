"""The port between a task and what makes its roadmap: named steps, whose outputs are kept."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Generic, Protocol, TypeVar

from pydantic import BaseModel

from shared.errors import Permanent, TaskError
from shared.roadmap import Roadmap, RoadmapRequest

Output = TypeVar("Output", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Usage:
    """What calls of a model took: how many, their tokens, and USD as far as prices are known."""

    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.calls + other.calls,
            self.tokens_in + other.tokens_in,
            self.tokens_out + other.tokens_out,
            self.cost + other.cost,
        )


@dataclass(slots=True)
class Call:
    """One run of a step. Report what it took as soon as it is known: it is kept in any case."""

    key: str
    """``task:step:hash``, the same when the step is run again: a provider may recognise it."""
    usage: Usage = Usage()
    left: float = math.inf
    """USD that it may cost. What runs beside it has the same left, and may overshoot with it."""

    def took(self, usage: Usage) -> None:
        self.usage += usage

    def afford(self) -> None:
        """Look before each call of a model. Raises Permanent when the task's money is spent."""
        if self.usage.cost >= self.left:
            raise Permanent("The budget of this task is spent.", code="budget_spent")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(Generic[Output]):
    """``version`` grows when the meaning of the output changes: old outputs are then not read."""

    name: str
    shape: type[Output]
    version: int = 1
    paid: bool = False
    """Whether running it costs money: then it is counted before it begins."""


@dataclass(frozen=True, slots=True)
class Reached:
    """Progress once a step is done: percent of the whole, and a few words for people."""

    percent: int
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Job(Generic[Output]):
    """A step with what it depends on. Same step, version and inputs: same output, read not run."""

    step: Step[Output]
    inputs: Mapping[str, Any]
    """All that the output depends on, as JSON can hold it."""
    work: Callable[[Call], Awaitable[Output]]
    reached: Reached | None = None
    partials: Callable[[Output], Sequence[Mapping[str, Any]]] = field(default=lambda _output: ())
    """What can be shown of the roadmap now: each becomes an event ``roadmap.partial``."""


class StepFailed(Permanent):
    """A step cannot be had in this task: its error is permanent, or its tries are spent.

    A generator may do without it; one that cannot lets it pass, and the task ends with ``error``.
    """

    def __init__(self, step: str, error: TaskError) -> None:
        super().__init__(error.detail, code=error.code, **{"step": step, **error.extra})
        self.step = step
        self.error = error


class Steps(Protocol):
    """Runs steps and keeps their outputs, so that none is paid twice.

    Whatever else a step raises ends or interrupts the attempt; generators let it pass.
    """

    async def run(self, job: Job[Output]) -> Output:
        """The output, kept or fresh. Raises StepFailed if it cannot be had."""

    async def run_all(
        self, jobs: Sequence[Job[Output]], *, at_once: int, span: tuple[int, int], unit: str
    ) -> list[Output | StepFailed]:
        """Outputs in the order of the jobs, at most ``at_once`` being run at a time.

        All that has begun is finished before anything is raised. Progress moves over ``span``
        percent, and is told as "3 of 40 ``unit``".
        """


class RoadmapGenerator(Protocol):
    async def generate(self, request: RoadmapRequest, *, today: date, steps: Steps) -> Roadmap:
        """The roadmap, for a plan that starts on ``today`` unless the request says otherwise.

        Raises TaskError: Transient if another attempt may do better, Permanent if none can.
        """
