"""``waymark tasks list``: the newest first, a page or all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from waymark.commands.asking import answer_to, api, print_answer, print_line
from waymark.commands.keys import repetition
from waymark.commands.options import DEFAULT_DATA_DIR, DataDirOption, Place, UrlOption
from waymark.commands.run_options import metadata_of
from waymark.commands.times import past
from waymark.complaints import Complaint, say
from waymark.exit_codes import ExitCode

if TYPE_CHECKING:
    from waymark.documents import Documents

PAGE = 20
LARGEST = 100
"""Tasks that the API gives at once."""


def list_tasks(
    status: Annotated[
        Literal["queued", "running", "succeeded", "failed", "canceled"] | None,
        typer.Option("--status", metavar="STATUS", help="queued, running, succeeded, …"),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="TIME", help="Accepted later: 2h ago, or 2026-11-23T10:00."
        ),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="TIME", help="Accepted earlier.")
    ] = None,
    metadata: Annotated[
        list[str] | None,
        typer.Option("--metadata", metavar="KEY=VALUE", help="With this note. May be repeated."),
    ] = None,
    search: Annotated[
        str | None, typer.Option("--search", metavar="TEXT", help="With this in the goal.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=1, metavar="N", help=f"So many at most. Default: {PAGE}."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All pages, up to --limit if that is given.")
    ] = False,
    url: UrlOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: Annotated[
        bool, typer.Option("--json", help="The API's page; with --all one task a line.")
    ] = False,
) -> None:
    """List tasks, the newest first."""
    filters = {
        "status": status,
        "created_after": past(since, "--since"),
        "created_before": past(until, "--until"),
        "metadata": metadata_of(metadata),
        "q": search,
    }
    place = Place(url, data_dir)
    size = None if everything else _page_size(limit)
    with api(place) as client:
        if size is None:
            _list_all(client, filters, limit, as_json)
        else:
            _list_page(client, filters, size, as_json)


def _page_size(limit: int | None) -> int:
    if limit is None or limit <= LARGEST:
        return limit or PAGE
    raise Complaint(
        f"a page has {LARGEST} tasks at most.",
        hint=f"{repetition('list', '--all')} reads several.",
        code=ExitCode.USAGE,
    )


def _list_page(client: Documents, filters: dict[str, Any], size: int, as_json: bool) -> None:
    from waymark import calls
    from waymark.tables import Clock
    from waymark.task_lines import print_tasks

    answer = answer_to(client, calls.tasks(filters, size, None))
    if as_json:
        print_answer(answer)
        return
    page = answer.document
    print_tasks(page["data"], Clock.of(answer.headers))
    if page["has_more"]:
        say("There are more: --all shows them.")
    elif not page["data"]:
        say("No task is as asked.")


def _list_all(client: Documents, filters: dict[str, Any], limit: int | None, as_json: bool) -> None:
    from waymark import pages
    from waymark.tables import Clock
    from waymark.task_lines import print_tasks

    found = client.each(pages.all_tasks(filters, limit), dict)
    if as_json:
        for task in found:
            print_line(task)
        return
    tasks = list(found)
    print_tasks(tasks, Clock.of({}))
    if not tasks:
        say("No task is as asked.")
