"""``waymark demo``: one roadmap, from nothing to nothing left running."""

from __future__ import annotations

from waymark.commands.options import (
    DEFAULT_DATA_DIR,
    DataDirOption,
    ExcludeOption,
    GoalArgument,
    HoursOption,
    KnownOption,
    LanguageOption,
    LevelOption,
    Place,
    StartOption,
    StudyDaysOption,
    UntilOption,
    WeeksOption,
    request_of,
)
from waymark.complaints import say


def demo(
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
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Start everything embedded, make one roadmap, print it, stop. Logs go to DIR/logs.

    A stack that runs on the data directory already is used, and left running.
    """
    from shared.settings import load_settings
    from waymark.commands.api import talk_to
    from waymark.commands.awaiting import follow, print_result, raise_if_failed
    from waymark.data_dir import DataDir
    from waymark.own_stack import running_stack

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
    place = Place(data_dir=data_dir)
    directory = DataDir(data_dir)
    runs_already = directory.is_in_use()
    stack = running_stack(directory, load_settings().drain, say)
    with stack as url, talk_to(url, place) as client:
        task = follow(client, client.submit(request), place, timeout=None)
        if task["result"] is not None:
            say("")
            print_result(client, task)
    raise_if_failed(task)
    say("")
    if not runs_already:
        say(f"Run it for good with {place.up()}.")
    say("All commands: `waymark --help`.")
