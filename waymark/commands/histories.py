"""``waymark tasks events`` and ``attempts``: what has become of a task so far."""

from __future__ import annotations

from typing import Annotated

import typer

from waymark.commands.asking import answer_to, api, ask, print_answer
from waymark.commands.options import (
    DEFAULT_DATA_DIR,
    DataDirOption,
    JsonOption,
    Place,
    UrlOption,
)
from waymark.commands.task_argument import TaskArgument
from waymark.complaints import say


def events(
    task_id: TaskArgument,
    after: Annotated[
        int, typer.Option("--after", min=0, metavar="SEQ", help="Only those with a higher number.")
    ] = 0,
    url: UrlOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the API's document, a page of 100 events.")
    ] = False,
) -> None:
    """Print the history of a task as it is now. `tasks watch` goes on with it."""
    from waymark import calls
    from waymark.history import event_line

    with api(Place(url, data_dir)) as client:
        if as_json:
            answer = answer_to(client, calls.events(task_id, after))
            print_answer(answer)
            page = answer.document
            if page["has_more"]:
                say(f"There are more: --after {page['data'][-1]['seq']} shows them.")
            return
        for event in client.events(task_id, after):
            typer.echo(event_line(event))


def attempts(
    task_id: TaskArgument,
    url: UrlOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Print each start of a task: which worker, how it ended, what it took."""
    from waymark.tables import Clock
    from waymark.task_lines import print_attempts

    answer = ask(Place(url, data_dir), "GET", f"/v1/tasks/{task_id}/attempts")
    if as_json:
        print_answer(answer)
        return
    print_attempts(answer.document["data"], Clock.of(answer.headers))
    if not answer.document["data"]:
        say("No worker has taken it yet.")
