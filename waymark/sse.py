"""Server-sent events, read as the HTML standard says (section 9.2.6)."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass

LINE_END = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class Frame:
    event: str
    data: str
    last_id: str


class SseReader:
    """Takes the bytes as they come. What no blank line has ended is not a frame yet."""

    def __init__(self) -> None:
        self.retry: float | None = None
        """Seconds that the server asks for before a reconnection."""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._begun = False
        self._after_cr = False
        """A CR ends a line at once; a line feed that comes next belongs to it."""
        self._text = ""
        self._event = ""
        self._data: list[str] = []
        self._last_id = ""

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are complete with these bytes."""
        for line in self._lines(self._decoder.decode(data)):
            if line:
                self._take(line)
                continue
            if self._data:
                yield Frame(self._event or "message", "\n".join(self._data), self._last_id)
            self._event, self._data = "", []

    def _lines(self, text: str) -> Iterator[str]:
        if text and not self._begun:
            self._begun = True
            text = text.removeprefix("\ufeff")
        if text and self._after_cr:
            text = text.removeprefix("\n")
            self._after_cr = False
        self._after_cr = self._after_cr or text.endswith("\r")
        *lines, self._text = LINE_END.split(self._text + text)
        yield from lines

    def _take(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "event":
                self._event = value
            case "data":
                self._data.append(value)
            case "id" if "\0" not in value:
                self._last_id = value
            case "retry" if value.isascii() and value.isdigit():
                self.retry = int(value) / 1000
