"""``waymark db``: the schema of the database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from waymark.commands.plain import Command, group
from waymark.commands.servers import StackOption, command, find_servers, reach_hint
from waymark.complaints import Complaint, say

db = group("The database schema. WAYMARK_DATABASE_URL's, or that of the stack on --data-dir.")


@db.command(cls=Command)
def upgrade(data_dir: StackOption = None) -> None:
    """Run the missing migrations. Safe to repeat, and to run from several places at once."""
    from threading import Event

    from shared.migrate import REVISION
    from waymark.schema import bring_up_to_date

    settings = find_servers(data_dir, "db status")
    patience = settings.startup_timeout
    with _hinting():
        bring_up_to_date(
            settings.require_database(),
            patience=patience,
            waiting=lambda why: say(f"{why} Trying for {patience:g} s."),
            enough=Event(),
        )
    say(f"The database is at {REVISION}.")


@db.command(cls=Command)
def status(data_dir: StackOption = None) -> None:
    """Print the database's revision. Exits with 1 if this release needs a newer one."""
    from shared.migrate import REVISION
    from waymark.schema import current_revision

    settings = find_servers(data_dir, "db status")
    with _hinting():
        current = current_revision(settings.require_database())
    typer.echo(current or "none")
    if current is None or current < REVISION:
        upgrade = command(data_dir, "db", "upgrade")
        raise Complaint(f"this release needs {REVISION}.", hint=f"run {upgrade}.")


@contextmanager
def _hinting() -> Iterator[None]:
    from shared.errors import StartupError

    try:
        yield
    except StartupError as error:
        raise Complaint(str(error), hint=reach_hint("db status")) from error
