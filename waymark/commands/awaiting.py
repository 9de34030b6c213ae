"""What a command does with a task that it got: await it and show what came of it, or leave it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import typer

from waymark.commands.asking import print_line
from waymark.commands.options import Place
from waymark.complaints import Complaint, say
from waymark.exit_codes import ExitCode

if TYPE_CHECKING:
    from waymark.documents import Documents
    from waymark.errors import Document
    from waymark.following import Following

Way = Literal["detach", "wait", "watch", "stages"]

# What there is to do for a task that has ended already.
NEXT = {
    "succeeded": ("see its roadmap", "roadmap"),
    "failed": ("see why", "get"),
    "canceled": ("see it", "get"),
}


def way_of(wait: bool | None, timeout: float | None, *, watch: bool = False) -> Way:
    """By what was said; without a word, people see the stages and programs go on. Who says how
    long to wait wants to wait."""
    if timeout is not None and wait is False:
        raise Complaint(
            "--timeout is for who waits, --detach does not.",
            hint="say one of them.",
            code=ExitCode.USAGE,
        )
    if watch and wait is False:
        raise Complaint(
            "--watch waits for the task, --detach does not.",
            hint="say one of them.",
            code=ExitCode.USAGE,
        )
    if watch:
        return "watch"
    if wait is None:
        if sys.stdout.isatty():
            return "stages"
        return "detach" if timeout is None else "wait"
    return "wait" if wait else "detach"


def present(
    client: Documents,
    task: Document,
    place: Place,
    way: Way,
    *,
    timeout: float | None,
    as_json: bool,
) -> None:
    """Raises Complaint if the task was awaited, and has no roadmap."""
    if way == "detach":
        _print_detached(task, place, as_json)
        return
    task = _awaited(client, task, place, way, timeout)
    if as_json:
        print_line(task)
    elif task["result"] is not None:
        print_result(client, task)
    raise_if_failed(task)


def follow(client: Documents, task: Document, place: Place, timeout: float | None) -> Document:
    """Show progress until the task has ended."""
    from waymark.progress import Progress

    with detaching(task["id"], place), Progress() as progress:
        progress.seen(task)
        task = client.wait(task["id"], timeout=timeout, seen=progress.seen)
        progress.ended(task)
        return task


def print_result(client: Documents, task: Document) -> None:
    from waymark.printing import print_roadmap

    print_roadmap(client.roadmap(task["result"]["roadmap_id"]))


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


@contextmanager
def detaching(task_id: str, place: Place) -> Iterator[None]:
    """Ctrl-C ends the watching, never the task."""
    try:
        yield
    except KeyboardInterrupt:
        raise Complaint(
            f"no longer watching; task {task_id} goes on.",
            hint=f"see it with {place.command('tasks', 'get', task_id)}.",
            code=ExitCode.INTERRUPTED,
        ) from None


def _awaited(
    client: Documents, task: Document, place: Place, way: Way, timeout: float | None
) -> Document:
    if way == "wait":
        return follow(client, task, place, timeout)
    from waymark.following import Following
    from waymark.stages import Stages

    following = Following() if way == "watch" else Stages()
    return _follow_history(client, task, place, timeout, following)


def _follow_history(
    client: Documents, task: Document, place: Place, timeout: float | None, following: Following
) -> Document:
    """Show progress, and what its history tells a learner."""
    with detaching(task["id"], place), following:
        following.seen(task)
        for event in client.watch(task["id"], timeout=timeout, seen=following.seen):
            following.heard(event)
        task = client.task(task["id"])
        following.ended(task)
        return task


def _print_detached(task: Document, place: Place, as_json: bool) -> None:
    try:
        print_line(task) if as_json else typer.echo(task["id"])
    except OSError as error:
        sentence = f"task {task['id']} is accepted, but stdout takes nothing: {error}."
        raise Complaint(sentence) from error
    if as_json:
        return
    what, command = NEXT.get(task["status"], ("follow it", "watch"))
    say(f"{task['status']}; {what} with {place.command('tasks', command, task['id'])}.")
