"""``waymark demo``: one roadmap, from nothing to nothing left running."""

from __future__ import annotations

from pathlib import Path

import typer

from waymark.commands.options import (
    DataDirOption,
    ExcludeOption,
    GoalArgument,
    HoursOption,
    KnownOption,
    LanguageOption,
    LevelOption,
    StartOption,
    WeeksOption,
    request_of,
)


def demo(
    goal: GoalArgument,
    level: LevelOption = None,
    hours: HoursOption = None,
    weeks: WeeksOption = None,
    start: StartOption = None,
    known: KnownOption = None,
    exclude: ExcludeOption = None,
    language: LanguageOption = None,
    data_dir: DataDirOption = Path(".waymark"),
) -> None:
    """Start everything embedded, make one roadmap, print it, stop. Logs go to DATA_DIR/logs.

    A stack that runs on the data directory already is used, and left running.
    """
    from shared.settings import load_settings
    from waymark.commands.api import talk_to
    from waymark.commands.tasks import follow, print_result, raise_if_failed
    from waymark.data_dir import DataDir
    from waymark.own_stack import running_stack

    request = request_of(
        goal,
        level=level,
        hours=hours,
        weeks=weeks,
        start=start,
        known=known,
        exclude=exclude,
        language=language,
    )
    stack = running_stack(
        DataDir(data_dir), load_settings().drain, lambda text: typer.echo(text, err=True)
    )
    with stack as url, talk_to(url) as client:
        task = follow(client, client.submit(request), timeout=None)
        if task["result"] is not None:
            typer.echo(err=True)
            print_result(client, task)
    raise_if_failed(task)
    typer.echo("\nRun it for good with `waymark up`; all commands: `waymark --help`.", err=True)
