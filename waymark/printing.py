"""Tasks and roadmaps as people read them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from waymark.client import Document

WIDTH = 88
"""Longer lines are hard to read; off a terminal this also keeps the output the same everywhere."""

CONCEPT_MARKS = {"project": "▸", "review": "↻", "optional": "○"}


def print_roadmap(roadmap: Document) -> None:
    console = _stdout()
    console.print(Text(roadmap["title"], style="bold"))
    console.print(Text(roadmap["summary"]))
    console.print()
    console.print(Text(_in_one_line(roadmap), style="dim"))
    for number, stage in enumerate(roadmap["stages"], start=1):
        console.print()
        _print_stage(console, number, stage)
    for note in _notes(roadmap):
        console.print()
        console.print(note)


def print_task(task: Document) -> None:
    for name, value in _facts(task):
        print(f"{name:<11} {value}")


def event_line(event: Document) -> str:
    """One event on one line: when, what, and what it says."""
    data = "  ".join(f"{name}={value}" for name, value in event["data"].items())
    return f"{event['created_at']}  {event['seq']:>3}  {event['type']}  {data}".rstrip()


def _stdout() -> Console:
    console = Console(highlight=False, markup=False)
    if not console.is_terminal or console.width > WIDTH:
        console.width = WIDTH
    return console


def _in_one_line(roadmap: Document) -> str:
    pace = _number(roadmap["fit"]["hours_per_week"])
    return (
        f"{_hours(roadmap['total_hours'])} in {_weeks(roadmap['weeks'])} at {pace} h a week · "
        f"{_day(roadmap['start_date'])} to {_day(roadmap['end_date'])}"
    )


def _print_stage(console: Console, number: int, stage: Document) -> None:
    table = _columns()
    table.add_row(
        Text(f"{number}. {stage['name']}", style="bold"),
        Text(_span(stage), style="bold"),
        Text(_hours(stage["hours"]), style="bold"),
    )
    console.print(table)
    console.print(Padding(Text(stage["outcome"], style="dim"), (0, 0, 0, 3), expand=False))
    for module in stage["modules"]:
        console.print(Padding(_module(module), (0, 0, 0, 3), expand=False))
    if milestone := stage.get("milestone"):
        line = Text.assemble(("Milestone: ", "bold"), milestone["deliverable"])
        console.print(Padding(line, (0, 0, 0, 3), expand=False))


def _module(module: Document) -> Table:
    table = _columns()
    table.add_row(Text(module["name"], style="underline"), "", _hours(module["hours"]))
    for concept in module["concepts"]:
        mark = CONCEPT_MARKS.get(concept["kind"], "·")
        table.add_row(
            Padding(Text(f"{mark} {concept['name']}"), (0, 0, 0, 2)),
            Text(_span(concept), style="dim"),
            Text(_hours(concept["hours"]), style="dim"),
        )
    return table


def _columns() -> Table:
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(ratio=1)
    table.add_column(justify="right", width=12, no_wrap=True)
    table.add_column(justify="right", width=8, no_wrap=True)
    return table


def _notes(roadmap: Document) -> Iterator[Text]:
    """What the learner should know about the plan: how it fits, what was left out."""
    fit = roadmap["fit"]
    if not fit["feasible"] or fit.get("suggestion"):
        verdict = "fits" if fit["feasible"] else "does not fit the time you have"
        yield Text.assemble(("Fit: ", "bold"), f"the plan {verdict}. ", fit.get("suggestion") or "")
    if fit["dropped"]:
        names = ", ".join(f"{one['name']} ({one['reason']})" for one in fit["dropped"])
        yield Text.assemble(("Left out: ", "bold"), names)
    for warning in roadmap["warnings"]:
        yield Text.assemble(("Note: ", "bold"), warning)


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
