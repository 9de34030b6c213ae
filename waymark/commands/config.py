"""``waymark config``: every setting, its value here and now, and what it does."""

from __future__ import annotations

import json
import os
import re
from typing import Annotated, Any

import typer

from waymark.commands.options import URL_VARIABLE
from waymark.complaints import say


def config(
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False,
) -> None:
    """List every setting. All but WAYMARK_URL can also be named as WAYMARK_…_FILE, with a path."""
    from waymark.environment import misspelt

    rows = [*_settings(), _url()]
    for warning in misspelt():
        say(f"warning: {warning}")
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("variable", "value", "default", "description"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        style = "" if row["value"] == row["default"] else "bold"
        value, default = (_text(row[name]) for name in ("value", "default"))
        table.add_row(row["variable"], value, default, row["description"], style=style)
    console = Console(markup=False)
    if not console.is_terminal:
        console.width = 160  # a file has no edge to wrap at
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        typer.echo(line.rstrip())


def _settings() -> list[dict[str, Any]]:
    """Any: a setting is a string, a number or nothing."""
    from shared.settings import PREFIX, Settings, load_settings

    settings = load_settings()
    # "json" keeps plain values and writes a secret as asterisks.
    values = settings.model_dump(mode="json")
    return [
        {
            "variable": f"{PREFIX}{name.upper()}",
            "value": _plain(values[name]),
            "default": _plain(field.default),
            "description": field.description,
        }
        for name, field in Settings.model_fields.items()
    ]


def _url() -> dict[str, Any]:
    """Not of the settings: only the commands that talk to an API read it."""
    said = os.environ.get(URL_VARIABLE) or None
    return {
        "variable": URL_VARIABLE,
        "value": said and re.sub(r"//[^/@]*@", "//**********@", said),
        "default": None,
        "description": "The API that `waymark tasks` talks to, unless --url names one.",
    }


def _plain(value: object) -> object:
    """15 for 15.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _text(value: object) -> str:
    return "" if value is None else str(value)
