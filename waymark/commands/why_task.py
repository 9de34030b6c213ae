"""``waymark why``: what a task waits for, in one sentence."""

from __future__ import annotations

import typer

from waymark.commands.asking import ask, print_answer
from waymark.commands.options import DEFAULT_DATA_DIR, DataDirOption, JsonOption, Place, UrlOption
from waymark.commands.task_argument import TaskArgument


def why(
    task_id: TaskArgument,
    url: UrlOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Say in one sentence what a task waits for, by its locks, leases and who is alive."""
    from waymark.program import runnable
    from waymark.terminal import clean

    answer = ask(Place(url, data_dir), "GET", f"/v1/ops/tasks/{task_id}/why")
    if as_json:
        print_answer(answer)
    else:
        typer.echo(runnable(clean(answer.document["sentence"])))
