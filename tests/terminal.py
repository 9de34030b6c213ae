"""The command line as people and scripts run it: on a pseudo-terminal, and off it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
WIDTH, HEIGHT = 110, 40
LONGEST = 60.0
"""Seconds for a command to end, once it has reason to."""

ERASE = "\x1b[2K"
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@dataclass(frozen=True, slots=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:  # Any: a document
        return json.loads(self.out)

    @property
    def problem(self) -> Any:  # Any: as above
        return json.loads(self.err)


@dataclass(frozen=True, slots=True)
class Script:
    """Runs commands where there is no terminal."""

    url: str

    async def run(self, *arguments: object, stdin: str = "") -> Outcome:
        return await asyncio.to_thread(self.run_now, *arguments, stdin=stdin)

    def run_now(self, *arguments: object, stdin: str = "") -> Outcome:
        done = subprocess.run(
            _command(arguments),
            input=stdin,
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=_environment(self.url),
            check=False,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)


class Screen:
    """One command on a pseudo-terminal of its own, which is its controlling one."""

    def __init__(self, process: subprocess.Popen[bytes], ours: int) -> None:
        self.process = process
        self._ours = ours
        self._written = b""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @classmethod
    @contextlib.contextmanager
    def showing(
        cls, url: str, *arguments: object, more: Mapping[str, str] | None = None
    ) -> Iterator[Screen]:
        """``more``: variables besides those of an ordinary terminal."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))
        process = subprocess.Popen(
            _command(arguments),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=ROOT,
            env=_environment(url) | {"TERM": "xterm"} | dict(more or {}),
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)
        screen = cls(process, ours)
        try:
            yield screen
        finally:
            process.kill()
            process.wait()
            screen.close()

    @property
    def raw(self) -> str:
        return self._written.decode(errors="replace")

    @property
    def text(self) -> str:
        """Without colours and movements of the cursor; what was erased is a line of its own."""
        return ESCAPES.sub("", self.raw.replace(ERASE, "\n")).replace("\r", "")

    def shows(self, text: str) -> None:
        assert text in self.text, self.text

    def press(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def ends(self) -> int:
        """Its exit code, when all that it wrote has been read."""
        code = self.process.wait(LONGEST)
        self._reader.join()
        return code

    def close(self) -> None:
        self._reader.join()
        os.close(self._ours)

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # how the end of a terminal is told
            while some := os.read(self._ours, 65536):
                self._written += some


def _command(arguments: tuple[object, ...]) -> list[str]:
    return [sys.executable, "-m", "waymark", *map(str, arguments)]


def _environment(url: str) -> dict[str, str]:
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("WAYMARK_") and name not in ("NO_COLOR", "COLUMNS", "LINES")
    }
    return clean | {"WAYMARK_URL": url}
