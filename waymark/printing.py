"""Tasks and roadmaps as people read them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from waymark.amounts import hours, number_of, progress_of, rounded, usage_of, weeks_of
from waymark.client import Document
from waymark.page import Page, Row
from waymark.terminal import clean

MOMENTS = (
    *("created_at", "deadline_at", "dispatched_at", "started_at"),
    *("cancel_requested_at", "finished_at"),
)
CONCEPT_MARKS = {"project": "▸", "review": "↻", "optional": "○"}


def print_roadmap(roadmap: Document) -> None:
    page = Page(list(_rows(roadmap)))
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
    facts = list(_facts(task))
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        print(clean(f"{name:<{width}}  {value}"))


def concepts_of(roadmap: Document) -> list[Document]:
    """Every concept, in the order of study."""
    return [
        concept
        for stage in roadmap["stages"]
        for module in stage["modules"]
        for concept in module["concepts"]
    ]


def _rows(roadmap: Document) -> Iterator[Row]:
    """Every row that ``_print_stage`` prints, to measure them."""
    for number, stage in enumerate(roadmap["stages"], start=1):
        yield _stage_row(number, stage)
        for module in stage["modules"]:
            yield _module_row(module)
            yield from map(_concept_row, module["concepts"])


def _print_stage(page: Page, number: int, stage: Document) -> None:
    page.row(*_stage_row(number, stage), style="bold", name_style="bold")
    page.text(stage["outcome"], style="dim", indent=3)
    for module in stage["modules"]:
        page.row(*_module_row(module), name_style="underline")
        for concept in module["concepts"]:
            page.row(*_concept_row(concept), style="dim", name_style="")
    if milestone := stage.get("milestone"):
        page.text(milestone["deliverable"], label="Milestone: ", indent=3)


def _stage_row(number: int, stage: Document) -> Row:
    return f"{number}. {stage['name']}", weeks_of(stage), hours(stage["hours"])


def _module_row(module: Document) -> Row:
    return f"   {module['name']}", "", hours(module["hours"])


def _concept_row(concept: Document) -> Row:
    mark = CONCEPT_MARKS.get(concept["kind"], "·")
    return f"     {mark} {concept['name']}", weeks_of(concept), hours(concept["hours"])


def _in_one_line(roadmap: Document) -> str:
    concepts = number_of(len(concepts_of(roadmap)), "concept")
    pace = rounded(roadmap["fit"]["hours_per_week"])
    return (
        f"{concepts} · {hours(roadmap['total_hours'])} in {number_of(roadmap['weeks'], 'week')} "
        f"at {pace} h a week · {_day(roadmap['start_date'])} to {_day(roadmap['end_date'])}"
    )


def _legend(roadmap: Document) -> str:
    """What the marks mean, of those that occur."""
    kinds = {concept["kind"] for concept in concepts_of(roadmap)}
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
    if progress := progress_of(task["progress"]):
        yield "progress", progress
    if usage := task["usage"]:
        yield "usage", usage_of(usage)
    for name in MOMENTS:
        if task[name]:
            yield name.removesuffix("_at").replace("_", " "), task[name]
    if result := task.get("result"):
        yield "roadmap", result["roadmap_id"]
    if error := task.get("error"):
        yield "error", f"{error['code']}: {error['detail']}"


def _day(iso: str) -> str:
    day = date.fromisoformat(iso)
    return f"{day.day} {day:%b %Y}"
