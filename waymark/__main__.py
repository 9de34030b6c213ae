"""The command line: ``waymark``, or ``python -m waymark``."""

from __future__ import annotations

import os
import sys

import typer

from shared.errors import WaymarkError
from waymark.commands.config import config
from waymark.commands.db import db
from waymark.commands.demo import demo
from waymark.commands.tasks import tasks
from waymark.commands.up import up
from waymark.complaints import Complaint, complain
from waymark.exit_codes import EXIT_CODES, ExitCode

EPILOG = "Exit codes: " + " · ".join(f"{code} {what}" for code, what in EXIT_CODES.items()) + "."

app = typer.Typer(
    name="waymark",
    help="Learning roadmaps over HTTP. An accepted task is never lost.",
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command()(up)
app.command()(demo)
app.add_typer(tasks, name="tasks")
app.add_typer(db, name="db")
app.command()(config)


@app.callback(invoke_without_command=True)
def _without_command(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main() -> None:
    """Run a command; every error ends as a sentence and an exit code."""
    sys.exit(_run())


def _run() -> int:
    try:
        app(prog_name="waymark")
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else ExitCode.OK
    except Complaint as complaint:
        return complain(complaint)
    except WaymarkError as error:
        return complain(Complaint(str(error)))
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last place where it can become a sentence
        return _surprise(error)
    return ExitCode.OK


def _surprise(error: Exception) -> int:
    if os.environ.get("WAYMARK_LOG_LEVEL") == "debug":
        raise error
    sys.stderr.write(
        f"waymark: unexpected {type(error).__name__}: {error}\n"
        "hint: WAYMARK_LOG_LEVEL=debug shows where it comes from.\n"
    )
    return ExitCode.UNEXPECTED


if __name__ == "__main__":
    main()
