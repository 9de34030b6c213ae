"""``waymark tasks``: submit a goal, look at it, watch it, stop it, read its roadmap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from waymark.commands.asking import answer_to, api, ask, print_answer, print_line
from waymark.commands.awaiting import NEXT, detaching, present, raise_if_failed, way_of
from waymark.commands.keys import KeyOption, under_key
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
from waymark.commands.run_options import (
    MetadataOption,
    NotBeforeOption,
    PriorityOption,
    metadata_of,
)
from waymark.commands.task_argument import TaskArgument
from waymark.commands.times import ahead
from waymark.complaints import Complaint, say
from waymark.exit_codes import ExitCode

if TYPE_CHECKING:
    from waymark.calls import TaskOptions
    from waymark.errors import Document
    from waymark.exchange import Answer

tasks = group("Submit goals, follow or cancel them, read their roadmaps.")


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
    idempotency_key: KeyOption = None,
    wait: Annotated[
        bool | None,
        typer.Option("--wait/--detach", help="Default: wait on a terminal, detach elsewhere."),
    ] = None,
    live: Annotated[
        bool, typer.Option("--watch", help="Wait, and show each stage as it is planned.")
    ] = False,
    priority: PriorityOption = None,
    metadata: MetadataOption = None,
    not_before: NotBeforeOption = None,
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
    options: TaskOptions = {
        "priority": priority,
        "deadline_seconds": deadline_of(deadline),
        "not_before": ahead(not_before, "--not-before"),
        "metadata": metadata_of(metadata),
    }
    place, way = Place(url, data_dir), way_of(wait, timeout, watch=live)
    with api(place) as client:
        with under_key(idempotency_key, "submit") as key:
            task = client.submit(request, key, **options)
        present(client, task, place, way, timeout=timeout, as_json=as_json)


@tasks.command(cls=Command)
def get(
    task_id: TaskArgument,
    url: UrlOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Show where a task stands."""
    from waymark.printing import print_task

    answer = ask(Place(url, data_dir), "GET", f"/v1/tasks/{task_id}")
    if as_json:
        print_answer(answer)
    else:
        print_task(answer.document)


@tasks.command(cls=Command)
def cancel(
    task_id: TaskArgument,
    url: UrlOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Stop a task. One that runs ends as canceled within seconds; one that ended stays as it is."""
    place = Place(url, data_dir)
    answer = _cancel(task_id, place)
    if as_json:
        print_answer(answer)
    elif answer.document["status"] == "canceled":
        say("canceled.")
    else:
        follow_it = place.command("tasks", "watch", task_id)
        say(f"it runs; its worker lets go of it, follow it with {follow_it}.")


def _cancel(task_id: str, place: Place) -> Answer:
    from waymark import calls

    try:
        with api(place) as client:
            return answer_to(client, calls.cancel(task_id))
    except Complaint as complaint:
        if complaint.code is ExitCode.CONFLICT:
            complaint.hint = f"see how it ended with {place.command('tasks', 'get', task_id)}."
        raise


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
    from waymark import calls

    place = Place(url, data_dir)
    with api(place) as client:
        task = client.task(task_id)
        _raise_if_open(task, place)
        raise_if_failed(task)
        answer = answer_to(client, calls.roadmap(task["result"]["roadmap_id"]))
    if as_json:
        print_answer(answer)
    else:
        _print_roadmap(answer.document, lessons=lessons)


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
    with api(place) as client, detaching(task_id, place):
        for event in client.watch(task_id, timeout=timeout, seen=Dispatches().seen):
            if as_json:
                print_line(event)
            else:
                typer.echo(event_line(event))
        task = client.task(task_id)
        raise_if_failed(task)
        if not as_json:
            say(f"See the roadmap with {place.command('tasks', 'roadmap', task_id)}.")


def _print_roadmap(roadmap: Document, *, lessons: bool) -> None:
    from waymark.printing import print_roadmap

    print_roadmap(roadmap)
    if lessons:
        from waymark.lessons import print_lessons

        print_lessons(roadmap)


def _raise_if_open(task: Document, place: Place) -> None:
    if task["status"] not in NEXT:
        raise Complaint(
            f"task {task['id']} is still {task['status']}: it has no roadmap yet.",
            hint=f"follow it with {place.command('tasks', 'watch', task['id'])}.",
            code=ExitCode.TIMED_OUT,
        )
