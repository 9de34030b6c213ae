"""``waymark tasks retry``: run an ended task again, perhaps with another input."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from waymark.commands.asking import api
from waymark.commands.awaiting import present, way_of
from waymark.commands.keys import KeyOption, under_key
from waymark.commands.options import (
    DEFAULT_DATA_DIR,
    DataDirOption,
    DeadlineOption,
    ExcludeOption,
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
from waymark.commands.run_options import (
    MetadataOption,
    NotBeforeOption,
    PriorityOption,
    metadata_of,
)
from waymark.commands.task_argument import TaskArgument
from waymark.commands.times import ahead


def retry(
    task_id: TaskArgument,
    goal: Annotated[
        str | None, typer.Option("--goal", metavar="GOAL", help="Another goal.")
    ] = None,
    level: LevelOption = None,
    hours: HoursOption = None,
    weeks: WeeksOption = None,
    until: UntilOption = None,
    start: StartOption = None,
    study_days: StudyDaysOption = None,
    known: KnownOption = None,
    exclude: ExcludeOption = None,
    language: LanguageOption = None,
    priority: PriorityOption = None,
    metadata: MetadataOption = None,
    not_before: NotBeforeOption = None,
    deadline: DeadlineOption = None,
    idempotency_key: KeyOption = None,
    wait: Annotated[
        bool | None,
        typer.Option("--wait/--detach", help="Default: wait on a terminal, detach elsewhere."),
    ] = None,
    timeout: TimeoutOption = None,
    url: UrlOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Run an ended task again as a new one: as it was, or with what you say here."""
    from waymark import calls

    said = request_of(
        goal or "",
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
    run: calls.RunOptions = {
        "priority": priority,
        "deadline_seconds": deadline_of(deadline),
        "not_before": ahead(not_before, "--not-before"),
        "metadata": metadata_of(metadata),
    }
    place, way = Place(url, data_dir), way_of(wait, timeout)
    with api(place) as client:
        with under_key(idempotency_key, "retry") as key:
            task = client.ask(calls.retry(task_id, _patch(said), run, key), dict)
        present(client, task, place, way, timeout=timeout, as_json=as_json)


def _patch(said: dict[str, Any]) -> dict[str, Any] | None:
    """A merge patch. Weeks and a last day exclude each other: the new one takes the other out."""
    patch = {name: value for name, value in said.items() if value != ""}
    for one, other in (("weeks", "until"), ("until", "weeks")):
        if one in patch and other not in patch:
            patch[other] = None
            break
    return patch or None
