"""``waymark config``: every setting, its value here and now, and what it does."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer


def config(
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False,
) -> None:
    """List all settings. Each may also be given as WAYMARK_..._FILE, a file with the value."""
    rows = _settings()
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
    console.print(table)


def _settings() -> list[dict[str, Any]]:
    """Any: a setting is a string, a number or nothing."""
    from shared.settings import PREFIX, Settings, load_settings

    settings = load_settings()
    # "json" keeps plain values and writes a secret as asterisks.
    values = settings.model_dump(mode="json")
    return [
        {
            "variable": f"{PREFIX}{name.upper()}",
            "value": values[name],
            "default": field.default,
            "description": field.description,
        }
        for name, field in Settings.model_fields.items()
    ]


def _text(value: object) -> str:
    return "" if value is None else str(value)
