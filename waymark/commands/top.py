"""``waymark top``: the whole stack in one live table."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from waymark.commands.asking import api, print_line
from waymark.commands.options import DEFAULT_DATA_DIR, DataDirOption, Place, UrlOption


def top(
    once: Annotated[
        bool, typer.Option("--once", help="Print it once, as it is done off a terminal.")
    ] = False,
    url: UrlOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: Annotated[
        bool, typer.Option("--json", help="Once: overview, queues, workers and tasks as sent.")
    ] = False,
) -> None:
    """Watch the stack: ledger, queue, workers, newest tasks. q or Ctrl-C ends it."""
    from waymark.snapshot import Snapshot

    place = Place(url, data_dir)
    with api(place) as client:
        first = Snapshot.take(client)
        if as_json:
            print_line(first.document)
        elif once or not (sys.stdin.isatty() and sys.stdout.isatty()):
            for line in first.lines():
                typer.echo(line)
        else:
            from waymark.live import show

            show(first, client)
