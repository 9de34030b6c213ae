"""``waymark tasks validate``: what a submission would come to, without making one."""

from __future__ import annotations

import typer

from waymark.commands.asking import ask, print_answer
from waymark.commands.options import (
    DEFAULT_DATA_DIR,
    DataDirOption,
    ExcludeOption,
    GoalArgument,
    HoursOption,
    JsonOption,
    KnownOption,
    LanguageOption,
    LevelOption,
    Place,
    StartOption,
    StudyDaysOption,
    UntilOption,
    UrlOption,
    WeeksOption,
    request_of,
)
from waymark.exit_codes import ExitCode


def validate(
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
    url: UrlOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Say what a goal would come to: stages, hours, cost. Nothing is submitted.

    Exits with 3 if a task with this goal would fail.
    """
    from waymark.task_lines import estimate_lines

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
    body = {"input": request}
    answer = ask(Place(url, data_dir), "POST", "/v1/tasks:validate", body=body, repeatable=True)
    if as_json:
        print_answer(answer)
    else:
        for line in estimate_lines(answer.document):
            typer.echo(line)
    if answer.document.get("problem"):
        raise typer.Exit(ExitCode.TASK_FAILED)
