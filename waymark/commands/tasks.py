"""``waymark tasks``: submit a goal, look at it, watch it, stop it, read its roadmap."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from waymark.commands.options import (
    DEFAULT_DATA_DIR,
    DataDirOption,
    DeadlineOption,
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
    TimeoutOption,
    UntilOption,
    UrlOption,
    WeeksOption,
    deadline_of,
    request_of,
)
from waymark.commands.plain import Command, group
from waymark.complaints import Complaint, say
from waymark.exit_codes import ExitCode

if TYPE_CHECKING:
    from waymark.documents import Documents
    from waymark.errors import Document

tasks = group("Submit goals, follow or cancel them, read their roadmaps.")

# What there is to do for a task that has ended already.
NEXT = {
    "succeeded": ("see its roadmap", "roadmap"),
    "failed": ("see why", "get"),
    "canceled": ("see it", "get"),
}


def _task_id(text: str) -> str:
    from uuid import UUID

    try:
        return str(UUID(text))
    except ValueError:
        raise Complaint(
            f"“{text}” is not a task id.",
            hint="it looks like 01a20a9f-2bbd-728b-87a2-3d216770b6f7; `submit` has printed it.",
            code=ExitCode.USAGE,
        ) from None


def _idempotency_key(text: str | None) -> str | None:
    if text is None or re.fullmatch(r"[ -~]{1,255}", text):
        return text
    raise Complaint(
        "the idempotency key must be 1 to 255 printable ASCII characters.",
        hint="without --idempotency-key a new one is made.",
        code=ExitCode.USAGE,
    )


TaskArgument = Annotated[
    str, typer.Argument(metavar="TASK_ID", callback=_task_id, help="The id of a task.")
]


@tasks.command(cls=Command)
def submit(
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
    idempotency_key: Annotated[
        str | None,
        typer.Option(
            "--idempotency-key",
            metavar="KEY",
            callback=_idempotency_key,
            help="Repeat it to get the same task, not a second one.",
        ),
    ] = None,
    wait: Annotated[
        bool | None,
        typer.Option("--wait/--detach", help="Default: wait on a terminal, detach elsewhere."),
    ] = None,
    live: Annotated[
        bool, typer.Option("--watch", help="Wait, and show each stage as it is planned.")
    ] = False,
    deadline: DeadlineOption = None,
    timeout: TimeoutOption = None,
    url: UrlOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Submit a goal. Ctrl-C while waiting leaves the task alone: it goes on."""
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
    place = Place(url, data_dir)
    seconds, waits = deadline_of(deadline), _waits(wait, live)
    with _api(place) as client:
        task = _submit(client, request, idempotency_key, seconds)
        if not waits:
            _print_detached(task, place, as_json)
            return
        task = (_follow_history if live else follow)(client, task, place, timeout)
        if as_json:
            _print_json(task)
        elif task["result"] is not None:
            print_result(client, task)
        raise_if_failed(task)


def _waits(wait: bool | None, live: bool) -> bool:
    if live and wait is False:
        raise Complaint(
            "--watch waits for the task, --detach does not.",
            hint="say one of them.",
            code=ExitCode.USAGE,
        )
    return live or (sys.stdout.isatty() if wait is None else wait)


def _submit(
    client: Documents, request: dict[str, Any], key: str | None, deadline: int | None
) -> Document:
    from uuid import uuid4

    from waymark.commands.api import one_task

    words = sys.argv[1:]
    if key is None:
        key = str(uuid4())
        after = words.index("submit") + 1
        words[after:after] = ["--idempotency-key", key]
    with one_task(key, f"`waymark {shlex.join(words)}`"):
        return client.submit(request, key, deadline_seconds=deadline)


@tasks.command(cls=Command)
def get(
    task_id: TaskArgument,
    url: UrlOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Show where a task stands."""
    from waymark.printing import print_task

    with _api(Place(url, data_dir)) as client:
        task = client.task(task_id)
    if as_json:
        _print_json(task)
    else:
        print_task(task)


@tasks.command(cls=Command)
def cancel(
    task_id: TaskArgument,
    url: UrlOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Stop a task. One that runs ends as canceled within seconds; one that ended stays as it is."""
    place = Place(url, data_dir)
    with _api(place) as client:
        task = _cancel(client, task_id, place)
    if as_json:
        _print_json(task)
    elif task["status"] == "canceled":
        say("canceled.")
    else:
        follow_it = place.command("tasks", "watch", task_id)
        say(f"it runs; its worker lets go of it, follow it with {follow_it}.")


def _cancel(client: Documents, task_id: str, place: Place) -> Document:
    from waymark.errors import Conflict

    try:
        return client.cancel(task_id)
    except Conflict as error:
        if error.code != "task-already-ended":
            raise
        raise Complaint(
            str(error),
            hint=f"see how it ended with {place.command('tasks', 'get', task_id)}.",
            code=ExitCode.CONFLICT,
        ) from error


@tasks.command(cls=Command)
def roadmap(
    task_id: TaskArgument,
    lessons: Annotated[
        bool,
        typer.Option("--lessons", help="Also each concept's lesson, practice, resources and quiz."),
    ] = False,
    url: UrlOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Print the roadmap of a task. Exits with 3 if the task failed."""
    place = Place(url, data_dir)
    with _api(place) as client:
        task = client.task(task_id)
        _raise_if_open(task, place)
        raise_if_failed(task)
        document = client.roadmap(task["result"]["roadmap_id"])
    if as_json:
        _print_json(document)
    else:
        _print_roadmap(document, lessons=lessons)


@tasks.command(cls=Command)
def watch(
    task_id: TaskArgument,
    timeout: TimeoutOption = None,
    url: UrlOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document a line.")] = False,
) -> None:
    """Print the history of a task as it happens. Exits with 3 if the task fails."""
    from waymark.history import event_line
    from waymark.progress import Dispatches

    place = Place(url, data_dir)
    with _api(place) as client, _detaching(task_id, place):
        for event in client.watch(task_id, timeout=timeout, seen=Dispatches().seen):
            typer.echo(json.dumps(event, ensure_ascii=False) if as_json else event_line(event))
        task = client.task(task_id)
        raise_if_failed(task)
        if not as_json:
            say(f"See the roadmap with {place.command('tasks', 'roadmap', task_id)}.")


def follow(client: Documents, task: Document, place: Place, timeout: float | None) -> Document:
    """Show progress until the task has ended."""
    from waymark.progress import Progress

    with _detaching(task["id"], place), Progress() as progress:
        progress.seen(task)
        task = client.wait(task["id"], timeout=timeout, seen=progress.seen)
        progress.ended(task)
        return task


def _follow_history(
    client: Documents, task: Document, place: Place, timeout: float | None
) -> Document:
    """The same, and what its history tells a learner."""
    from waymark.following import Following

    with _detaching(task["id"], place), Following() as following:
        following.seen(task)
        for event in client.watch(task["id"], timeout=timeout, seen=following.seen):
            following.heard(event)
        task = client.task(task["id"])
        following.ended(task)
        return task


def print_result(client: Documents, task: Document) -> None:
    _print_roadmap(client.roadmap(task["result"]["roadmap_id"]))


def _print_roadmap(roadmap: Document, *, lessons: bool = False) -> None:
    from waymark.printing import print_roadmap

    print_roadmap(roadmap)
    if lessons:
        from waymark.lessons import print_lessons

        print_lessons(roadmap)


def raise_if_failed(task: Document) -> None:
    """A task that ended without a roadmap: why, and what may be tried instead."""
    if task["status"] == "succeeded":
        return
    error: dict[str, Any] = task.get("error") or {}
    sentence = "the task was canceled" if task["status"] == "canceled" else "the task failed"
    if error:
        sentence += f": {error['code']}: {error['detail']}"
    nearest: list[str] = error.get("nearest", [])
    hint = ""
    if any(goal not in sentence for goal in nearest):  # else the sentence gives the advice itself
        sentence += "\nThe nearest goals:" + "".join(f"\n  {goal}" for goal in nearest)
        hint = "submit it again, perhaps with one of the nearest goals."
    raise Complaint(sentence, hint=hint, code=ExitCode.TASK_FAILED)


def _raise_if_open(task: Document, place: Place) -> None:
    if task["status"] not in NEXT:
        raise Complaint(
            f"task {task['id']} is still {task['status']}: it has no roadmap yet.",
            hint=f"follow it with {place.command('tasks', 'watch', task['id'])}.",
            code=ExitCode.TIMED_OUT,
        )


@contextmanager
def _detaching(task_id: str, place: Place) -> Iterator[None]:
    """Ctrl-C ends the watching, never the task."""
    try:
        yield
    except KeyboardInterrupt:
        raise Complaint(
            f"no longer watching; task {task_id} goes on.",
            hint=f"see it with {place.command('tasks', 'get', task_id)}.",
            code=ExitCode.INTERRUPTED,
        ) from None


def _api(place: Place) -> AbstractContextManager[Documents]:
    from waymark.commands.api import talk_to

    return talk_to(place.find_url(), place)


def _print_detached(task: Document, place: Place, as_json: bool) -> None:
    if as_json:
        _print_json(task)
        return
    typer.echo(task["id"])
    what, command = NEXT.get(task["status"], ("follow it", "watch"))
    say(f"{task['status']}; {what} with {place.command('tasks', command, task['id'])}.")


def _print_json(document: Document) -> None:
    typer.echo(json.dumps(document, ensure_ascii=False))
