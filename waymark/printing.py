"""Tasks and roadmaps as people read them."""

from __future__ import annotations

from collections.abc import Iterator

from waymark.amounts import progress_of, usage_of
from waymark.errors import Document
from waymark.page import Page, Row
from waymark.speech import speech_of
from waymark.tables import print_facts

MOMENTS = (
    *("created_at", "not_before", "deadline_at", "dispatched_at", "started_at"),
    *("cancel_requested_at", "finished_at"),
)
CONCEPT_MARKS = {"project": "▸", "review": "↻", "optional": "○"}


def print_roadmap(roadmap: Document) -> None:
    _Printing(roadmap).print()


def print_task(task: Document) -> None:
    print_facts(dict(_facts(task)))


def concepts_of(roadmap: Document) -> list[Document]:
    """Every concept, in the order of study."""
    return [
        concept
        for stage in roadmap["stages"]
        for module in stage["modules"]
        for concept in module["concepts"]
    ]


class _Printing:
    """One roadmap in its own language."""

    def __init__(self, roadmap: Document) -> None:
        self._roadmap = roadmap
        self._speech = speech_of(roadmap.get("language", "en"))
        self._page = Page(list(self._rows()))

    def print(self) -> None:
        page, roadmap = self._page, self._roadmap
        page.text(roadmap["title"], style="bold")
        page.text(roadmap["summary"])
        page.gap()
        page.text(self._in_one_line(), style="dim")
        if legend := self._legend():
            page.text(legend, style="dim")
        for number, stage in enumerate(roadmap["stages"], start=1):
            page.gap()
            self._print_stage(number, stage)
        for label, note in self._notes():
            page.gap()
            page.text(note, label=label)

    def _rows(self) -> Iterator[Row]:
        """Every row that ``_print_stage`` prints, to measure them."""
        for number, stage in enumerate(self._roadmap["stages"], start=1):
            yield self._stage_row(number, stage)
            for module in stage["modules"]:
                yield self._module_row(module)
                yield from map(self._concept_row, module["concepts"])

    def _print_stage(self, number: int, stage: Document) -> None:
        page = self._page
        page.row(*self._stage_row(number, stage), style="bold", name_style="bold")
        page.text(stage["outcome"], style="dim", indent=3)
        for module in stage["modules"]:
            page.row(*self._module_row(module), name_style="underline")
            for concept in module["concepts"]:
                page.row(*self._concept_row(concept), style="dim", name_style="")
        if milestone := stage.get("milestone"):
            page.text(milestone["deliverable"], label=self._speech.milestone, indent=3)

    def _stage_row(self, number: int, stage: Document) -> Row:
        weeks, hours = self._speech.weeks_of(stage), self._speech.hours(stage["hours"])
        return f"{number}. {stage['name']}", weeks, hours

    def _module_row(self, module: Document) -> Row:
        return f"   {module['name']}", "", self._speech.hours(module["hours"])

    def _concept_row(self, concept: Document) -> Row:
        mark = CONCEPT_MARKS.get(concept["kind"], "·")
        weeks, hours = self._speech.weeks_of(concept), self._speech.hours(concept["hours"])
        return f"     {mark} {concept['name']}", weeks, hours

    def _in_one_line(self) -> str:
        line = self._speech.in_one_line(self._roadmap, len(concepts_of(self._roadmap)))
        buffer = self._roadmap["fit"].get("buffer_hours")
        return f"{line} · {self._speech.buffer(buffer)}" if buffer else line

    def _legend(self) -> str:
        """What the marks mean, of those that occur."""
        kinds = {concept["kind"] for concept in concepts_of(self._roadmap)}
        names = self._speech.kinds
        marks = CONCEPT_MARKS.items()
        return "  ".join(f"{mark} {names[kind]}" for kind, mark in marks if kind in kinds)

    def _notes(self) -> Iterator[tuple[str, str]]:
        """What the learner should know about the plan: how it fits, what was left out."""
        speech, fit = self._speech, self._roadmap["fit"]
        if not fit["feasible"] or fit.get("suggestion"):
            yield speech.fit, f"{speech.verdict(fit['feasible'])}{fit.get('suggestion') or ''}"
        for label, key in ((speech.left_out, "dropped"), (speech.less_deep, "lowered")):
            reasons: dict[str, list[str]] = {}
            for one in fit.get(key) or ():
                reasons.setdefault(one["reason"], []).append(one["name"])
            for reason, names in reasons.items():
                yield label, speech.because(names, reason)
        for warning in self._roadmap["warnings"]:
            yield speech.note, warning


def _facts(task: Document) -> Iterator[tuple[str, str]]:
    yield "task", task["id"]
    yield "goal", task["input"].get("goal", "")
    yield "status", task["status"]
    yield "stage", task["stage"]
    yield "attempts", str(task["attempts"])
    if (priority := task.get("priority")) not in (None, "normal"):
        yield "priority", priority
    if metadata := task.get("metadata"):
        yield "metadata", ", ".join(f"{key}={value}" for key, value in metadata.items())
    if parent := task.get("parent_id"):
        yield "retry of", parent
    if progress := progress_of(task["progress"]):
        yield "progress", progress
    if usage := task["usage"]:
        yield "usage", usage_of(usage)
    for name in MOMENTS:
        if task.get(name):
            yield name.removesuffix("_at").replace("_", " "), task[name]
    if result := task.get("result"):
        yield "roadmap", result["roadmap_id"]
    if error := task.get("error"):
        yield "error", f"{error['code']}: {error['detail']}"
