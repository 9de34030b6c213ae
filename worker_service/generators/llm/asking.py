"""Steps that ask the model: an answer depends on what it is told, and on which model it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from worker_service.generators.port import Job, Output, Reached, Step

from . import prompts
from .model import Model, Prompt, none


class Asking:
    """Makes jobs of prompts, for one model."""

    def __init__(self, model: Model, model_name: str) -> None:
        self.model = model
        self.model_name = model_name

    def job(
        self,
        name: str,
        shape: type[Output],
        prompt: Prompt,
        *,
        reached: Reached | None = None,
        check: Callable[[Output], Sequence[str]] = none,
    ) -> Job[Output]:
        return Job(
            step=Step(name=name, shape=shape, paid=True),
            inputs={
                "model": self.model_name,
                "prompts": prompts.VERSION,
                "material": prompt.material,
            },
            work=lambda call: self.model.ask(shape, prompt, call, check),
            reached=reached,
        )
