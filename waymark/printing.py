"""Tasks and roadmaps as people read them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from waymark.client import Document

WIDTH = 88
"""Longer lines are hard to read on a terminal; elsewhere there is no edge to wrap at."""

CONCEPT_MARKS = {"project": "▸", "review": "↻", "optional": "○"}


def print_roadmap(roadmap: Document) -> None:
    page = _Page(roadmap)
    page.text(roadmap["title"], style="bold")
    page.text(roadmap["summary"])
    page.gap()
    page.text(_in_one_line(roadmap), style="dim")
    if legend := _legend(roadmap):
        page.text(legend, style="dim")
    for number, stage in enumerate(roadmap["stages"], start=1):
        page.gap()
        _print_stage(page, number, stage)
    for label, note in _notes(roadmap):
        page.gap()
        page.text(note, label=label)


def print_task(task: Document) -> None:
    for name, value in _facts(task):
        print(f"{name:<11} {value}")


def event_line(event: Document) -> str:
    """One event on one line: when, what, and what it says."""
    data = "  ".join(f"{name}={value}" for name, value in event["data"].items())
    return f"{event['created_at']}  {event['seq']:>3}  {event['type']}  {data}".rstrip()


class _Page:
    """Lines with two columns at the right, which stand at the same place all the way down."""

    def __init__(self, roadmap: Document) -> None:
        self._console = Console(highlight=False, markup=False)
        rows = list(_rows(roadmap))
        self._spans = max(len(span) for _, span, _ in rows)
        self._hours = max(len(hours) for _, _, hours in rows)
        self._names = max(cell_len(name) for name, _, _ in rows)
        self._width: int | None = None
        if self._console.is_terminal:
            self._width = min(self._console.width, WIDTH)
            room = self._width - self._spans - self._hours - 4
            self._names = max(min(self._names, room), 20)

    def gap(self) -> None:
        self._console.print()

    def row(self, name: str, span: str, hours: str, *, style: str = "", name_style: str) -> None:
        """The name, folded if it is too long, and what belongs to the right of it."""
        first, *rest = self._folded(name, self._names)
        line = _styled(first, name_style).append(" " * (self._names - cell_len(first)))
        line.append(f"  {span:>{self._spans}}  {hours:>{self._hours}}", style)
        for one in (line, *(_styled(more, name_style) for more in rest)):
            self._print(one)

    def text(self, text: str, *, style: str = "", label: str = "", indent: int = 0) -> None:
        for number, line in enumerate(self._folded(" " * indent + label + text, self._width)):
            shown = Text(line, style)
            if number == 0:
                shown.stylize("bold", indent, indent + len(label))
            self._print(shown)

    def _folded(self, text: str, width: int | None) -> list[str]:
        """On a terminal the lines that fit, the later ones a little further in."""
        if self._width is None or width is None or cell_len(text) <= width:
            return [text]
        words = text.lstrip()
        indent = " " * (len(text) - len(words))
        hang = "  " if indent else ""
        room = width - len(indent) - len(hang)
        lines = [line.plain.rstrip() for line in Text(words).wrap(self._console, room)]
        return [f"{indent}{hang if number else ''}{line}" for number, line in enumerate(lines)]

    def _print(self, line: Text) -> None:
        line.rstrip()
        self._console.print(line, soft_wrap=True)


def _styled(text: str, style: str) -> Text:
    """The words only: nobody underlines an indent."""
    shown = Text(text)
    shown.stylize(style, len(text) - len(text.lstrip()))
    return shown


def _rows(roadmap: Document) -> Iterator[tuple[str, str, str]]:
    """Every row that ``_print_stage`` prints, to measure them."""
    for number, stage in enumerate(roadmap["stages"], start=1):
        yield _stage_row(number, stage)
        for module in stage["modules"]:
            yield _module_row(module)
            yield from map(_concept_row, module["concepts"])


def _print_stage(page: _Page, number: int, stage: Document) -> None:
    page.row(*_stage_row(number, stage), style="bold", name_style="bold")
    page.text(stage["outcome"], style="dim", indent=3)
    for module in stage["modules"]:
        page.row(*_module_row(module), name_style="underline")
        for concept in module["concepts"]:
            page.row(*_concept_row(concept), style="dim", name_style="")
    if milestone := stage.get("milestone"):
        page.text(milestone["deliverable"], label="Milestone: ", indent=3)


def _stage_row(number: int, stage: Document) -> tuple[str, str, str]:
    return f"{number}. {stage['name']}", _span(stage), _hours(stage["hours"])


def _module_row(module: Document) -> tuple[str, str, str]:
    return f"   {module['name']}", "", _hours(module["hours"])


def _concept_row(concept: Document) -> tuple[str, str, str]:
    mark = CONCEPT_MARKS.get(concept["kind"], "·")
    return f"     {mark} {concept['name']}", _span(concept), _hours(concept["hours"])


def _concepts(roadmap: Document) -> list[Document]:
    return [
        concept
        for stage in roadmap["stages"]
        for module in stage["modules"]
        for concept in module["concepts"]
    ]


def _in_one_line(roadmap: Document) -> str:
    number = len(_concepts(roadmap))
    concepts = "1 concept" if number == 1 else f"{number} concepts"
    pace = _number(roadmap["fit"]["hours_per_week"])
    return (
        f"{concepts} · {_hours(roadmap['total_hours'])} in {_weeks(roadmap['weeks'])} "
        f"at {pace} h a week · {_day(roadmap['start_date'])} to {_day(roadmap['end_date'])}"
    )


def _legend(roadmap: Document) -> str:
    """What the marks mean, of those that occur."""
    kinds = {concept["kind"] for concept in _concepts(roadmap)}
    return "  ".join(f"{mark} {kind}" for kind, mark in CONCEPT_MARKS.items() if kind in kinds)


def _notes(roadmap: Document) -> Iterator[tuple[str, str]]:
    """What the learner should know about the plan: how it fits, what was left out."""
    fit = roadmap["fit"]
    if not fit["feasible"] or fit.get("suggestion"):
        verdict = "fits" if fit["feasible"] else "does not fit the time you have"
        yield "Fit: ", f"the plan {verdict}. {fit.get('suggestion') or ''}"
    reasons: dict[str, list[str]] = {}
    for one in fit["dropped"]:
        reasons.setdefault(one["reason"], []).append(one["name"])
    for reason, names in reasons.items():
        yield "Left out: ", f"{', '.join(names)}. {reason}"
    for warning in roadmap["warnings"]:
        yield "Note: ", warning


def _facts(task: Document) -> Iterator[tuple[str, str]]:
    yield "task", task["id"]
    yield "goal", task["input"].get("goal", "")
    yield "status", task["status"]
    yield "stage", task["stage"]
    yield "attempts", str(task["attempts"])
    for name in ("created_at", "dispatched_at", "started_at", "finished_at"):
        if task.get(name):
            yield name.removesuffix("_at"), task[name]
    if result := task.get("result"):
        yield "roadmap", result["roadmap_id"]
    if error := task.get("error"):
        yield "error", f"{error['code']}: {error['detail']}"


def _span(part: dict[str, Any]) -> str:
    first, last = part["week_from"], part["week_to"]
    return f"week {first}" if first == last else f"weeks {first}–{last}"


def _hours(hours: float) -> str:
    return f"{_number(hours)} h"


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _weeks(weeks: int) -> str:
    return "1 week" if weeks == 1 else f"{weeks} weeks"


def _day(iso: str) -> str:
    day = date.fromisoformat(iso)
    return f"{day.day} {day:%b %Y}"
