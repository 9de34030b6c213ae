"""Options that several commands share, and what they stand for."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from waymark.addresses import shown
from waymark.complaints import Complaint
from waymark.exit_codes import ExitCode

DEFAULT_URL = "http://127.0.0.1:8080"
DEFAULT_DATA_DIR = Path(".waymark")
URL_VARIABLE = "WAYMARK_URL"
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}

DataDirOption = Annotated[
    Path,
    typer.Option("--data-dir", metavar="DIR", help="Where embedded servers keep their data."),
]
UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        help=f"The API. Default: {URL_VARIABLE}, else the stack that runs on --data-dir, "
        f"else {DEFAULT_URL}.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the API's document.")]


def _number(context: typer.Context, number: float | None) -> float | None:
    """Nothing is to last as long as nan."""
    if number is None or math.isfinite(number):
        return number
    raise Complaint(
        f"{number} is not a number that a plan or a wait could have.",
        hint=f"`{context.command_path} --help` shows how to use it.",
        code=ExitCode.USAGE,
    )


TimeoutOption = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        min=0,
        callback=_number,
        metavar="SECONDS",
        help="Wait this long at most, then exit with 6.",
    ),
]
DeadlineOption = Annotated[
    str | None,
    typer.Option(
        "--deadline",
        metavar="TIME",
        help="Let it fail unless it is done by then: 90s, 15m, 2h, or seconds.",
    ),
]

GoalArgument = Annotated[
    str, typer.Argument(metavar="GOAL", help="What to learn, in your own words.")
]
LevelOption = Annotated[
    Literal["beginner", "intermediate", "advanced"] | None,
    typer.Option(
        "--level",
        metavar="LEVEL",
        help="Where you stand today: beginner, intermediate or advanced.",
    ),
]
HoursOption = Annotated[
    float | None,
    typer.Option("--hours", metavar="HOURS", callback=_number, help="Hours of study a week."),
]
WeeksOption = Annotated[
    int | None, typer.Option("--weeks", metavar="WEEKS", help="Weeks the plan may take.")
]
UntilOption = Annotated[
    str | None,
    typer.Option("--until", metavar="DATE", help="Last day, as YYYY-MM-DD, in place of --weeks."),
]
StudyDaysOption = Annotated[
    list[str] | None,
    typer.Option(
        "--study-days",
        metavar="DAYS",
        help="Days of study, such as mon,wed,sat. Default: Monday to Friday.",
    ),
]
StartOption = Annotated[
    str | None, typer.Option("--start", metavar="DATE", help="First day, as YYYY-MM-DD.")
]
KnownOption = Annotated[
    list[str] | None,
    typer.Option(
        "--known", metavar="TOPIC", help="Topics you know, with commas between. May be repeated."
    ),
]
ExcludeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude",
        metavar="TOPIC",
        help="Topics to leave out, with commas between. May be repeated.",
    ),
]
LanguageOption = Annotated[
    str | None, typer.Option("--language", metavar="CODE", help="Language of the roadmap.")
]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a command was told to find the API; hints repeat it."""

    url: str | None = None
    data_dir: Path = DEFAULT_DATA_DIR

    def find_url(self) -> str:
        """The API to talk to: what was said, else the stack that runs here, else the usual one."""
        import os

        if self.url is not None:
            return _checked_url(self.url, "--url")
        if said := os.environ.get(URL_VARIABLE):
            return _checked_url(said, URL_VARIABLE)
        from waymark.data_dir import DataDir

        stack = DataDir(self.data_dir).read_stack()
        return str(stack["api_url"]) if stack else DEFAULT_URL

    def command(self, *words: str) -> str:
        """A command that goes to the same place, in backquotes."""
        told = [] if self.url is None else ["--url", shown(self.url)]
        return f"`waymark {shlex.join([*words, *told, *self.on_data_dir()])}`"

    def up(self) -> str:
        """How to start a stack here, in backquotes."""
        return f"`waymark {shlex.join(['up', *self.on_data_dir()])}`"

    def on_data_dir(self) -> list[str]:
        return [] if self.data_dir == DEFAULT_DATA_DIR else ["--data-dir", str(self.data_dir)]


def seconds_of(text: str, option: str, units: Mapping[str, float] = UNITS) -> float:
    """Of a time like 500ms, 30s, 5m or 1h, given with ``option``."""
    said = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([a-z]*)", text)
    if said is None or said[2] not in units:
        raise Complaint(
            f"“{text}” is not a time for {option}.",
            hint="it looks like 500ms, 30s, 5m or 1h.",
            code=ExitCode.USAGE,
        )
    return float(said[1]) * units[said[2]]


def deadline_of(text: str | None) -> int | None:
    """Whole seconds, as the API takes them. A number alone is seconds, too."""
    if text is None:
        return None
    return math.ceil(seconds_of(text, "--deadline", UNITS | {"": 1.0}))


def _checked_url(url: str, where: str) -> str:
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        usable = usable and not parts.query and not parts.fragment
        (parts.hostname or "").encode("idna")
    except ValueError:
        usable = False
    if not usable:
        raise Complaint(
            f"{where} “{shown(url)}” is not the address of an API.",
            hint=f"it looks like {DEFAULT_URL}.",
            code=ExitCode.USAGE,
        )
    return url


def request_of(
    goal: str,
    *,
    level: str | None,
    hours: float | None,
    weeks: int | None,
    until: str | None,
    start: str | None,
    study_days: list[str] | None,
    known: list[str] | None,
    exclude: list[str] | None,
    language: str | None,
) -> dict[str, Any]:
    """The ``input`` of a task; what was not said is left to the API's defaults."""
    days = [day.lower() for day in _each(study_days)]
    said = {
        "goal": goal,
        "level": level,
        "hours_per_week": hours,
        "weeks": weeks,
        "until": until,
        "start_date": start,
        "study_days": days or None,
        "known_topics": _each(known) or None,
        "exclude": _each(exclude) or None,
        "language": language,
    }
    return {name: value for name, value in said.items() if value is not None}


def _each(lists: list[str] | None) -> list[str]:
    """The topics of options such as ``--known "git, sql" --known docker``."""
    parts = (part.strip() for one in lists or () for part in re.split("[,，、]", one))
    return [part for part in parts if part]
