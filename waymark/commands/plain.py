"""Help in plain text, the same on a terminal and off it, and the same for every group."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand

from waymark.complaints import Complaint


class Command(TyperCommand):
    """Names a value as GOAL, where Typer writes {GOAL} and GOAL <str>."""

    tells_documents = False
    """Whether a problem is told as a document even without --json."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:  # Any: its type is private to Typer
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]

    def invoke(self, ctx: Any) -> Any:  # Any: as above
        """Only --json makes a complaint a document."""
        try:
            return super().invoke(ctx)
        except Complaint as complaint:
            if not (self.tells_documents or ctx.params.get("as_json")):
                complaint.document = None
            raise

    def format_options(self, ctx: Any, formatter: Any) -> None:  # Any: as above
        for title, kind in (("Arguments", "argument"), ("Options", "option")):
            some = [one for one in self.get_params(ctx) if one.param_type_name == kind]
            rows = [row for row in (one.get_help_record(ctx) for one in some) if row is not None]
            if rows:
                with formatter.section(title):
                    formatter.write_dl([(name.partition(" <")[0], text) for name, text in rows])


def group(text: str, *, epilog: str | None = None) -> typer.Typer:
    """A group of commands. Without a command it shows its help and exits with 0."""
    made = typer.Typer(
        help=text,
        epilog=epilog,
        context_settings={"help_option_names": ["-h", "--help"]},
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=False,
    )
    made.callback(invoke_without_command=True)(help_without_command)
    return made


def help_without_command(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
