"""Lists and facts for people: columns under headings, times and spans as one says them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from waymark.terminal import clean

UNITS = (
    (86400, "d", 3600, "h"),
    (3600, "h", 60, "min"),
    (60, "min", 1, "s"),
)

NARROWEST = 6
"""Cells of a column that gives way."""


def print_facts(facts: Mapping[str, Any]) -> None:  # Any: whatever can be written
    width = max(map(len, facts))
    for name, value in facts.items():
        print(clean(f"{name:<{width}}  {value}").rstrip())


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    for line in table(headings, list(rows)):
        print(line)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Columns under headings; on a terminal no line is longer than that is wide."""
    edge = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    return columns(headings, rows, edge)


def columns(
    headings: Sequence[str], rows: Sequence[Sequence[str]], edge: int | None
) -> Iterator[str]:
    """Nothing without rows. ``edge``: cells that a line may take; None for as many as it needs.

    The first column names things and is never cut; of the others the widest give way.
    """
    from rich.cells import cell_len

    if not rows:
        return
    cells = [[clean(cell) for cell in row] for row in (headings, *rows)]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    while edge is not None and sum(widths) + 2 * len(widths) - 2 > edge and len(widths) > 1:
        widest = max(range(1, len(widths)), key=lambda column: (widths[column], column))
        if widths[widest] <= NARROWEST:
            break
        widths[widest] -= 1
    for row in cells:
        shown = [cut(cell, width) for cell, width in zip(row, widths, strict=True)]
        padded = (
            cell + " " * (width - cell_len(cell)) for cell, width in zip(shown, widths, strict=True)
        )
        yield "  ".join(padded).rstrip()


def cut(line: str, edge: int | None) -> str:
    """A Chinese character takes two cells."""
    from rich.cells import cell_len, set_cell_size

    if edge is None or cell_len(line) <= edge:
        return line
    return f"{set_cell_size(line, edge - 1).rstrip()}…"


def span(seconds: float) -> str:
    """The two largest units."""
    if seconds < 60:
        return f"{seconds:.1f}".removesuffix(".0") + " s" if seconds < 10 else f"{seconds:.0f} s"
    whole = int(seconds)
    for unit, name, smaller, smaller_name in UNITS:
        if whole >= unit:
            rest = whole % unit // smaller
            return f"{whole // unit} {name}" + (f" {rest} {smaller_name}" if rest else "")
    raise AssertionError("unreachable")


@dataclass(frozen=True, slots=True)
class Clock:
    """Says when something was: to people how long ago, to programs the time itself."""

    now: datetime
    relative: bool

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Clock:
        """By the server's clock, if its answer tells it: this machine's may be another."""
        told = headers.get("date")
        now = parsedate_to_datetime(told) if told else datetime.now(UTC)
        return cls(now, sys.stdout.isatty())

    def said(self, time: str | None) -> str:
        """``time`` as the API writes it; nothing if there is none."""
        if time is None:
            return ""
        if not self.relative:
            return time
        seconds = (self.now - datetime.fromisoformat(time)).total_seconds()
        # The server tells its time in whole seconds, so that of a moment ago may be ahead of it.
        return f"in {span(-seconds)}" if seconds <= -2 else f"{span(int(max(seconds, 0)))} ago"
