"""``waymark tasks``: submit a goal, look at it, watch it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from waymark.commands.options import (
    DataDirOption,
    ExcludeOption,
    GoalArgument,
    HoursOption,
    JsonOption,
    KnownOption,
    LanguageOption,
    LevelOption,
    StartOption,
    TimeoutOption,
    UrlOption,
    WeeksOption,
    find_url,
    request_of,
)
from waymark.complaints import Complaint
from waymark.exit_codes import ExitCode

if TYPE_CHECKING:
    from waymark.client import Client, Document

tasks = typer.Typer(help="Submit goals and follow them.", no_args_is_help=True)

TaskArgument = Annotated[str, typer.Argument(metavar="ID", help="The id of a task.")]


@tasks.command()
def submit(
    goal: GoalArgument,
    level: LevelOption = None,
    hours: HoursOption = None,
    weeks: WeeksOption = None,
    start: StartOption = None,
    known: KnownOption = None,
    exclude: ExcludeOption = None,
    language: LanguageOption = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="Repeat it to get the same task, not a second one.")
    ] = None,
    wait: Annotated[
        bool | None,
        typer.Option("--wait/--detach", help="Default: wait on a terminal, detach elsewhere."),
    ] = None,
    timeout: TimeoutOption = None,
    url: UrlOption = None,
    data_dir: DataDirOption = Path(".waymark"),
    as_json: JsonOption = False,
) -> None:
    """Submit a goal. Ctrl-C while waiting leaves the task alone: it goes on."""
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
    with _api(url, data_dir) as client:
        task = client.submit(request, idempotency_key)
        if not (sys.stdout.isatty() if wait is None else wait):
            _print_detached(task, as_json)
            return
        task = follow(client, task, timeout)
        if as_json:
            _print_json(task)
        elif task["result"] is not None:
            print_result(client, task)
        raise_if_failed(task)


@tasks.command()
def get(
    task_id: TaskArgument,
    url: UrlOption = None,
    data_dir: DataDirOption = Path(".waymark"),
    as_json: JsonOption = False,
) -> None:
    """Show where a task stands."""
    from waymark.printing import print_task

    with _api(url, data_dir) as client:
        task = client.task(task_id)
    if as_json:
        _print_json(task)
    else:
        print_task(task)


@tasks.command()
def watch(
    task_id: TaskArgument,
    timeout: TimeoutOption = None,
    url: UrlOption = None,
    data_dir: DataDirOption = Path(".waymark"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document a line.")] = False,
) -> None:
    """Print the history of a task as it happens, until it has ended; exits with 3 if it failed."""
    from waymark.printing import event_line

    with _api(url, data_dir) as client, _detaching(task_id):
        for event in client.watch(task_id, timeout=timeout):
            typer.echo(json.dumps(event, ensure_ascii=False) if as_json else event_line(event))
        raise_if_failed(client.task(task_id))


def follow(client: Client, task: Document, timeout: float | None) -> Document:
    """Show progress until the task has ended."""
    from waymark.progress import Progress

    with _detaching(task["id"]), Progress() as progress:
        progress.seen(task)
        return client.wait(task["id"], timeout=timeout, seen=progress.seen)


def print_result(client: Client, task: Document) -> None:
    from waymark.printing import print_roadmap

    print_roadmap(client.roadmap(task["result"]["roadmap_id"]))


def raise_if_failed(task: Document) -> None:
    """A task that ended without a roadmap: why, and what may be tried instead."""
    if task["status"] == "succeeded":
        return
    error: dict[str, Any] = task.get("error") or {}
    sentence = f"the task {task['status']}"
    if error:
        sentence += f": {error['code']}: {error['detail']}"
    nearest: list[str] = error.get("nearest", [])
    if any(goal not in sentence for goal in nearest):
        sentence += "\nThe nearest goals:" + "".join(f"\n  {goal}" for goal in nearest)
    hint = "submit it again, perhaps with one of the nearest goals." if nearest else ""
    raise Complaint(sentence, hint=hint, code=ExitCode.TASK_FAILED)


@contextmanager
def _detaching(task_id: str) -> Iterator[None]:
    """Ctrl-C ends the watching, never the task."""
    try:
        yield
    except KeyboardInterrupt:
        raise Complaint(
            f"no longer watching; task {task_id} goes on.",
            hint=f"see it with `waymark tasks get {task_id}`.",
            code=ExitCode.INTERRUPTED,
        ) from None


def _api(url: str | None, data_dir: Path) -> AbstractContextManager[Client]:
    from waymark.commands.api import talk_to

    return talk_to(find_url(url, data_dir))


def _print_detached(task: Document, as_json: bool) -> None:
    if as_json:
        _print_json(task)
        return
    typer.echo(task["id"])
    typer.echo(f"{task['status']}; follow it with `waymark tasks watch {task['id']}`.", err=True)


def _print_json(document: Document) -> None:
    typer.echo(json.dumps(document, ensure_ascii=False))
