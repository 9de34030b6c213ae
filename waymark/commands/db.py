"""``waymark db``: the schema of the database."""

from __future__ import annotations

from pathlib import Path

import typer

from waymark.commands.options import DataDirOption
from waymark.exit_codes import ExitCode

db = typer.Typer(help="The database schema.", no_args_is_help=True)


@db.command()
def upgrade(data_dir: DataDirOption = Path(".waymark")) -> None:
    """Run the missing migrations. Safe to repeat, and to run from several places at once."""
    from shared.migrate import REVISION
    from shared.settings import load_settings
    from waymark.schema import bring_up_to_date

    url = _database_url(data_dir)
    bring_up_to_date(url, patience=load_settings().startup_timeout)
    typer.echo(f"The database is at {REVISION}.", err=True)


@db.command()
def status(data_dir: DataDirOption = Path(".waymark")) -> None:
    """Print the database's revision; exits with 1 if this release needs a newer one."""
    from shared.migrate import REVISION
    from waymark.schema import current_revision

    current = current_revision(_database_url(data_dir))
    typer.echo(current or "none")
    if current is None or current < REVISION:
        typer.echo(f"This release needs {REVISION}: run `waymark db upgrade`.", err=True)
        raise typer.Exit(ExitCode.UNEXPECTED)


def _database_url(data_dir: Path) -> str:
    """WAYMARK_DATABASE_URL, else the database of the stack that runs here."""
    from shared.settings import load_settings
    from waymark.data_dir import DataDir

    settings = load_settings()
    stack = DataDir(data_dir).read_stack()
    if settings.database_url is None and stack:
        return str(stack["database_url"])
    return settings.require_database()
