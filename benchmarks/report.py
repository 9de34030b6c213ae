"""Figures, each beside its bar: printed as a table, kept in ``results.json``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

WIDTH = 120
"""Columns, where no terminal says how many it has."""

RESULTS = Path(__file__).with_name("results.json")


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value. Without a limit it is for orientation, and always holds."""

    name: str
    value: float
    unit: str
    bar: str
    limit: float | None = None
    side: Literal["≥", "≤"] = "≥"
    seen: str = ""
    """The absolute figures behind a ratio: they are this machine's, not the program's."""

    @property
    def holds(self) -> bool:
        if self.limit is None:
            return True
        return self.value >= self.limit if self.side == "≥" else self.value <= self.limit

    def as_dict(self) -> dict[str, Any]:
        value = float(f"{self.value:.4g}")
        limit = None if self.limit is None else float(f"{self.limit:.4g}")
        return {
            "name": self.name,
            "value": value,
            "unit": self.unit,
            "limit": limit,
            "bar": self.bar,
            "holds": self.holds,
        }


def at_least(
    limit: float, name: str, value: float, unit: str, bar: str, *, seen: str = ""
) -> Figure:
    return Figure(name, value, unit, bar, limit, "≥", seen)


def at_most(
    limit: float, name: str, value: float, unit: str, bar: str, *, seen: str = ""
) -> Figure:
    return Figure(name, value, unit, bar, limit, "≤", seen)


def for_orientation(name: str, value: float, unit: str, bar: str, *, seen: str = "") -> Figure:
    return Figure(name, value, unit, bar, seen=seen)


def beside(ours: float, yardstick: float, unit: str = "/s") -> str:
    return f"{readable(ours)}{unit} beside {readable(yardstick)}{unit}"


def readable(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def show(title: str, figures: Iterable[Figure]) -> None:
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_column("bar", justify="right")
    table.add_column("holds")
    table.add_column("seen on this machine")
    for one in figures:
        limit = "" if one.limit is None else f"{one.side} {readable(one.limit)}"
        verdict = "" if one.limit is None else "yes" if one.holds else "[bold red]NO[/]"
        table.add_row(one.name, f"{readable(one.value)} {one.unit}", limit, verdict, one.seen)
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table)


def keep(figures: Iterable[Figure], *, merge: bool) -> None:
    """Write all to ``results.json``; with ``merge``, those of other names stay there."""
    results: dict[str, dict[str, Any]] = {}
    if merge and RESULTS.exists():
        results = {one["name"]: one for one in json.loads(RESULTS.read_text(encoding="utf-8"))}
    results |= {one.name: one.as_dict() for one in figures}
    text = json.dumps(list(results.values()), ensure_ascii=False, indent=1)
    RESULTS.write_text(f"{text}\n", encoding="utf-8")
