"""What a person types to run us again: hints must work as they are printed."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path


def program() -> str:
    """`waymark` if that runs this very program, else the shortest way to it from here."""
    called = sys.argv[0]
    if Path(called).name == "__main__.py":
        return f"{_shortest(sys.executable)} -m waymark"
    return _shortest(called) if "/" in called else called


def runnable(text: str) -> str:
    """The same text with each `waymark …` in backquotes as it has to be typed here."""
    return text.replace("`waymark ", f"`{program()} ")


def _shortest(path: str) -> str:
    full = Path(path).absolute()
    found = shutil.which(full.name)
    if found and Path(found).absolute() == full:
        return full.name
    here = Path.cwd()
    if not full.is_relative_to(here):
        return shlex.quote(str(full))
    way = str(full.relative_to(here))
    return shlex.quote(way if "/" in way else f"./{way}")
