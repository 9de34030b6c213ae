"""A task for people who watch it: its stages as they are planned, and what goes wrong meanwhile."""

from __future__ import annotations

from rich.cells import cell_len

from waymark.amounts import hours, number_of, progress_of, weeks_of
from waymark.errors import Document
from waymark.history import requeued_line
from waymark.progress import Progress, generating

NAMES = 36
"""Columns for the name of a stage: most fit, and what is right of them stands in line."""


class Following(Progress):
    """Progress that is told by the history where it can be. ``heard`` goes before ``seen``."""

    STAGES_SEEN: tuple[str, ...] | None = ("accepted", "dispatched")

    def __init__(self) -> None:
        super().__init__()
        self._stages: dict[str, str] = {}
        """What was said of each stage of the roadmap, by its id."""

    def heard(self, event: Document) -> None:
        """One event of the task, in order. What people need not know is passed over."""
        line = self._line(event)
        if line:
            self.tell(line)

    def _line(self, event: Document) -> str | None:
        data = event["data"]
        match event["type"]:
            case "roadmap.partial":
                return self._stage_line(data)
            case "task.requeued":
                return requeued_line(event)
            case "step.failed":
                return f"{data['step']} failed: {data['code']}: {data['detail']}"
            case "step.completed" if not self.is_live and "progress" in data:
                return progress_of(data["progress"])
            case "task.started" if not self.is_live:
                return generating(data["attempt"])
        return None

    def _stage_line(self, stage: Document) -> str | None:
        """None if nothing is new: another attempt may tell the same again."""
        facts = [weeks_of(stage), hours(stage["hours"])]
        facts.append(number_of(len(stage["concepts"]), "concept"))
        gap = " " * (NAMES - cell_len(stage["name"]))
        line = f"{stage['name']}{gap}  {' · '.join(facts)}"
        if self._stages.get(stage["id"]) == line:
            return None
        self._stages[stage["id"]] = line
        return f"{[*self._stages].index(stage['id']) + 1:>3}. {line}"
