"""``waymark plan``: what the offline planner makes of a goal, without servers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from waymark.commands.options import (
    ExcludeOption,
    GoalArgument,
    HoursOption,
    KnownOption,
    LanguageOption,
    LevelOption,
    StartOption,
    StudyDaysOption,
    UntilOption,
    WeeksOption,
    request_of,
)
from waymark.complaints import Complaint
from waymark.exit_codes import ExitCode

FIELD_OPTIONS = {
    "hours_per_week": "--hours",
    "start_date": "--start",
    "known_topics": "--known",
    "study_days": "--study-days",
}
"""Where the option of a field is not called like the field."""


def plan(
    goal: GoalArgument,
    level: LevelOption = None,
    hours: HoursOption = None,
    weeks: WeeksOption = None,
    until: UntilOption = None,
    start: StartOption = None,
    study_days: StudyDaysOption = None,
    known: KnownOption = None,
    exclude: ExcludeOption = None,
    language: LanguageOption = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show matching, closure, pruning and fit as well.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the roadmap as the API would.")
    ] = False,
) -> None:
    """Plan a goal at once, without servers: what a worker without a model would make of it."""
    from datetime import date

    from waymark import planner

    request = request_of(
        goal,
        level=level,
        hours=hours,
        weeks=weeks,
        until=until,
        start=start,
        study_days=study_days,
        known=known,
        exclude=exclude,
        language=language,
    )
    _check(request)
    answer = planner.plan(request, today=date.today())
    if error := answer.get("error"):
        raise Complaint(f"no plan: {error['code']}: {error['detail']}", code=ExitCode.TASK_FAILED)
    _print(answer, explain=explain, as_json=as_json)


def _check(request: Mapping[str, Any]) -> None:
    """Refuse what the API would refuse, by the name of the option."""
    from pydantic import ValidationError

    from shared.roadmap import RoadmapRequest

    try:
        RoadmapRequest.model_validate(request)
    except ValidationError as error:
        raise Complaint(
            "; ".join(map(_sentence, error.errors())) + ".",
            hint="`waymark plan --help` shows how to use it.",
            code=ExitCode.USAGE,
        ) from error


def _sentence(error: Mapping[str, Any]) -> str:
    message = error["msg"].removeprefix("Value error, ")
    if not error["loc"]:
        return str(message)
    field = str(error["loc"][0])
    said = "GOAL" if field == "goal" else FIELD_OPTIONS.get(field, f"--{field}")
    return f"{said}: {message}"


def _print(answer: Mapping[str, Any], *, explain: bool, as_json: bool) -> None:
    if as_json:
        import json

        shown = answer if explain else answer["roadmap"]
        typer.echo(json.dumps(shown, indent=2, ensure_ascii=False))
        return
    from waymark.explaining import print_explanation
    from waymark.printing import print_roadmap

    if explain:
        print_explanation(answer["explanation"], answer["roadmap"]["language"])
    print_roadmap(answer["roadmap"])
