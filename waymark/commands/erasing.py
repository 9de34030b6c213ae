"""``waymark tasks delete``: erase a task that has ended."""

from __future__ import annotations

from typing import Annotated

import typer

from waymark.commands.asking import ask
from waymark.commands.consent import agreed
from waymark.commands.options import DEFAULT_DATA_DIR, DataDirOption, Place, UrlOption
from waymark.commands.task_argument import TaskArgument
from waymark.complaints import Complaint, say
from waymark.exit_codes import ExitCode


def delete(
    task_id: TaskArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    url: UrlOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
) -> None:
    """Erase a task that has ended: its request and its roadmap. That cannot be undone."""
    from waymark.errors import Deleted

    place = Place(url, data_dir)
    if not agreed(f"Erase task {task_id} and its roadmap?", yes):
        return
    try:
        ask(place, "DELETE", f"/v1/tasks/{task_id}")
    except Complaint as complaint:
        if isinstance(complaint.__cause__, Deleted):
            say("it was erased before.")
            return
        if complaint.code is ExitCode.CONFLICT:
            complaint.hint = f"{place.command('tasks', 'cancel', task_id)} cancels it."
        raise
    say("erased.")
