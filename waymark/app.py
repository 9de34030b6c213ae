"""All commands, and how each of them ends."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from shared.errors import WaymarkError
from waymark.commands.catalog import catalog
from waymark.commands.completion import VARIABLE, completion, prepare_completion
from waymark.commands.config import config
from waymark.commands.db import db
from waymark.commands.dead import dead
from waymark.commands.demo import demo
from waymark.commands.erasing import delete
from waymark.commands.histories import attempts, events
from waymark.commands.listing import list_tasks
from waymark.commands.openapi import openapi
from waymark.commands.outbox import outbox
from waymark.commands.plain import Command, group, help_without_command
from waymark.commands.plan import plan
from waymark.commands.queues import queues
from waymark.commands.raw_api import RawCommand, raw_api
from waymark.commands.relays import relays
from waymark.commands.retrying import retry
from waymark.commands.tasks import tasks
from waymark.commands.top import top
from waymark.commands.up import up
from waymark.commands.validating import validate
from waymark.commands.why_task import why
from waymark.commands.workers import workers
from waymark.complaints import Complaint, complain
from waymark.exit_codes import EXIT_CODES, ExitCode
from waymark.program import program
from waymark.standard_streams import nobody_reads, prepare_streams

# \b keeps click from filling the lines into a paragraph.
EPILOG = "\b\nExit codes:\n" + "\n".join(
    f"  {code:>3}  {what}" for code, what in EXIT_CODES.items()
)

app = group("Learning roadmaps over HTTP. An accepted task is never lost.", epilog=EPILOG)
app.command(cls=Command)(up)
app.command(cls=Command)(demo)
app.command(cls=Command)(plan)
tasks.command("list", cls=Command)(list_tasks)
for about_one in (retry, events, attempts, delete, validate):
    tasks.command(cls=Command)(about_one)
app.add_typer(tasks, name="tasks")
app.command(cls=Command)(why)
app.command(cls=Command)(top)
app.add_typer(dead, name="dead")
app.add_typer(queues, name="queues")
app.add_typer(workers, name="workers")
app.add_typer(relays, name="relays")
app.add_typer(outbox, name="outbox")
app.command("api", cls=RawCommand)(raw_api)
app.command(cls=Command)(openapi)
app.add_typer(catalog, name="catalog")
app.add_typer(db, name="db")
app.command(cls=Command)(config)
app.command(cls=Command)(completion)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"waymark {version('waymark')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    help_without_command(context)


def run() -> int:
    """Run a command; every error ends as a sentence and an exit code."""
    prepare_streams()
    prepare_completion()
    try:
        code = app(prog_name=program(), complete_var=VARIABLE, standalone_mode=False)
    except SystemExit as done:
        if isinstance(done.__context__, BrokenPipeError):  # typer takes it for a failure
            return nobody_reads()
        return done.code if isinstance(done.code, int) else ExitCode.OK
    except typer.TyperException as error:
        return complain(_wrong_usage(error))
    except Complaint as complaint:
        return complain(complaint)
    except WaymarkError as error:
        return complain(Complaint(str(error)))
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last place where it can become a sentence
        return _surprise(error)
    return code if isinstance(code, int) else ExitCode.OK


def _wrong_usage(error: typer.TyperException) -> Complaint:
    sentence = error.format_message().replace(": Value error, ", ": ").rstrip(".")
    end = "" if sentence.endswith("?") else "."
    context: typer.Context | None = getattr(error, "ctx", None)
    command = context.command_path if context else program()
    hint = f"`{command} --help` shows how to use it."
    if "unexpected extra argument" in sentence:
        hint = f"words that belong together need quotes; {hint}"
    return Complaint(
        f"{sentence[:1].lower()}{sentence[1:]}{end}",
        hint=hint,
        code=ExitCode.USAGE,
    )


def _surprise(error: Exception) -> int:
    if os.environ.get("WAYMARK_LOG_LEVEL") == "debug":
        raise error
    return complain(
        Complaint(
            f"unexpected {type(error).__name__}: {error}",
            hint="WAYMARK_LOG_LEVEL=debug shows where it comes from.",
        )
    )
