"""``waymark db``: the schema of the database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from waymark.commands.options import DEFAULT_DATA_DIR, Place
from waymark.commands.plain import Command, group
from waymark.complaints import Complaint, say

db = group("The database schema. WAYMARK_DATABASE_URL's, or that of the stack on --data-dir.")

StackOption = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        help="Ask the stack that runs there. Default: WAYMARK_DATABASE_URL, else the one on "
        f"{DEFAULT_DATA_DIR}.",
    ),
]


@db.command(cls=Command)
def upgrade(data_dir: StackOption = None) -> None:
    """Run the missing migrations. Safe to repeat, and to run from several places at once."""
    from threading import Event

    from shared.migrate import REVISION
    from shared.settings import load_settings
    from waymark.schema import bring_up_to_date

    patience = load_settings().startup_timeout
    url = _database_url(data_dir)
    with _hinting():
        bring_up_to_date(
            url,
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

    url = _database_url(data_dir)
    with _hinting():
        current = current_revision(url)
    typer.echo(current or "none")
    if current is None or current < REVISION:
        same = [] if data_dir is None else ["--data-dir", str(data_dir)]
        upgrade = Place().command("db", "upgrade", *same)
        raise Complaint(f"this release needs {REVISION}.", hint=f"run {upgrade}.")


def _database_url(named: Path | None) -> str:
    """A directory that was named comes first, then WAYMARK_DATABASE_URL, then the usual place."""
    from shared.settings import load_settings

    settings = load_settings()
    if settings.database_url is not None and named is None:
        return settings.database_url.get_secret_value()
    data_dir = named or DEFAULT_DATA_DIR
    found = _database_of_stack(data_dir)
    if found is None:
        unset = "" if named else "WAYMARK_DATABASE_URL is not set, and "
        raise Complaint(
            f"{unset}no stack runs on {data_dir}.",
            hint="`waymark db status --data-dir DIR` asks about the stack that runs on DIR.",
        )
    return found


def _database_of_stack(data_dir: Path) -> str | None:
    from waymark.data_dir import DataDir

    directory = DataDir(data_dir)
    stack = directory.read_stack()
    return str(stack["database_url"]) if stack and directory.is_in_use() else None


@contextmanager
def _hinting() -> Iterator[None]:
    from shared.errors import StartupError

    try:
        yield
    except StartupError as error:
        raise Complaint(
            str(error),
            hint="is it running, and is WAYMARK_DATABASE_URL right? `waymark db status "
            "--data-dir DIR` asks about the stack that runs on DIR.",
        ) from error
