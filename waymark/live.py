"""The live table of a stack: drawn anew each second, until a key ends it."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import threading
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from waymark.connection import Connection
from waymark.errors import ApiError, Unreachable
from waymark.snapshot import Snapshot

EVERY = 1.0
"""Seconds from one look to the next."""

GLANCE = 0.1
"""Seconds after which a new snapshot is drawn at the latest."""

QUIT = b"q", b"Q", b"\x03", b"\x04"


def show(first: Snapshot, client: Connection) -> None:
    """Until q or Ctrl-C. An API that is away is waited for, and said to be away."""
    # A daemon with a connection of its own: whoever quits does not wait for an answer under way.
    looks = Looks(first, Connection(client.url))
    threading.Thread(target=looks.run, daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # by way of `finally`
    live = Live(looks, screen=True, auto_refresh=False)
    try:
        with _keys():
            live.start(refresh=True)
            while not _pressed(GLANCE):
                if looks.are_new():
                    live.refresh()
    except KeyboardInterrupt:
        return
    finally:  # not by `with`: Ctrl-C may come while it starts
        live.stop()
        looks.over = True


class Looks:
    """The latest snapshot, and how to draw it."""

    def __init__(self, first: Snapshot, client: Connection) -> None:
        self.over = False
        self._client = client
        self._latest = first
        self._away = ""
        self._news = threading.Event()

    def are_new(self) -> bool:
        """Since the last question."""
        new = self._news.is_set()
        self._news.clear()
        return new

    def run(self) -> None:
        while not self.over:
            time.sleep(EVERY)
            self.run_once()

    def run_once(self) -> None:
        try:
            self._latest, self._away = Snapshot.take(self._client), ""
        except (ApiError, Unreachable) as error:
            self._away = str(error)
        self._news.set()

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        taken = f"{self._latest.clock.now:%H:%M:%S} UTC"
        yield _line(f"waymark top · {self._away or taken} · q ends", options, "bold")
        room = options.max_height - 1
        for _, line in zip(range(room), self._latest.lines(options.max_width), strict=False):
            yield _line(line, options, "")


def _line(text: str, options: ConsoleOptions, style: str) -> Text:
    line = Text(text, style, no_wrap=True)
    line.truncate(options.max_width)
    return line


@contextmanager
def _keys() -> Iterator[None]:
    """Each key arrives at once and is not shown; afterwards the terminal is as it was."""
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    tty.setcbreak(terminal)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _pressed(seconds: float) -> bool:
    """Whether a key that ends it was pressed, or the terminal is gone."""
    terminal = sys.stdin.fileno()
    if not select.select([terminal], [], [], seconds)[0]:
        return False
    key = os.read(terminal, 1)
    return not key or key in QUIT
