"""A page of text: folded to a terminal's width, as it is elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from waymark.terminal import clean

WIDTH = 88
"""Longer lines are hard to read on a terminal; elsewhere there is no edge to wrap at."""

Row = tuple[str, str, str]
"""A name and what stands in the two columns at the right of it."""


class Page:
    """Lines, and rows whose columns stand at the same place all the way down."""

    def __init__(self, rows: Sequence[Row] = ()) -> None:
        """``rows`` are all that will be printed, to measure them."""
        self._console = Console(highlight=False, markup=False)
        self._spans = max((cell_len(span) for _, span, _ in rows), default=0)
        self._hours = max((cell_len(hours) for _, _, hours in rows), default=0)
        self._names = max((cell_len(name) for name, _, _ in rows), default=0)
        self._width: int | None = None
        if sys.stdout.isatty():  # FORCE_COLOR alone makes the console say it is a terminal
            self._width = min(self._console.width, WIDTH)
            room = self._width - self._spans - self._hours - 4
            self._names = max(min(self._names, room), 20)

    def gap(self) -> None:
        self._console.print()

    def row(self, name: str, span: str, hours: str, *, style: str = "", name_style: str) -> None:
        """The name, folded if it is too long, and what belongs to the right of it."""
        first, *rest = self._folded(name, self._names)
        line = _styled(first, name_style).append(" " * (self._names - cell_len(first)))
        line.append(f"  {_right(span, self._spans)}  {_right(hours, self._hours)}", style)
        for one in (line, *(_styled(more, name_style) for more in rest)):
            self._print(one)

    def text(self, text: str, *, style: str = "", label: str = "", indent: int = 0) -> None:
        for number, line in enumerate(self._folded(" " * indent + label + text, self._width)):
            shown = Text(line, style)
            if number == 0:
                shown.stylize("bold", indent, indent + len(label))
            self._print(shown)

    def verbatim(self, text: str) -> None:
        """Not folded: code and addresses must survive being copied."""
        for line in text.splitlines():
            self._print(Text(clean(line.expandtabs(4))))

    def _folded(self, text: str, width: int | None) -> list[str]:
        """On a terminal the lines that fit, the later ones a little further in."""
        text = clean(text)
        if self._width is None or width is None or cell_len(text) <= width:
            return [text]
        words = text.lstrip()
        indent = " " * (len(text) - len(words))
        hang = "  " if indent else ""
        room = width - len(indent) - len(hang)
        lines = [line.plain.rstrip() for line in Text(words).wrap(self._console, room)]
        return [f"{indent}{hang if number else ''}{line}" for number, line in enumerate(lines)]

    def _print(self, line: Text) -> None:
        line.rstrip()
        self._console.print(line, soft_wrap=True)


def _right(text: str, width: int) -> str:
    """At the right edge of its column, in cells: a Chinese character takes two."""
    return " " * (width - cell_len(text)) + text


def _styled(text: str, style: str) -> Text:
    """The words only: nobody underlines an indent."""
    shown = Text(text)
    shown.stylize(style, len(text) - len(text.lstrip()))
    return shown
