"""Options that several commands share, and what they stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

DEFAULT_URL = "http://127.0.0.1:8080"

DataDirOption = Annotated[
    Path,
    typer.Option("--data-dir", help="Where embedded servers keep their data."),
]
UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="WAYMARK_URL",
        help=f"The API. Default: the stack that runs on --data-dir, else {DEFAULT_URL}.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the API's document.")]
TimeoutOption = Annotated[
    float | None, typer.Option(min=0, help="Wait this many seconds at most, then exit with 6.")
]

GoalArgument = Annotated[str, typer.Argument(help="What to learn, in your own words.")]
LevelOption = Annotated[
    Literal["beginner", "intermediate", "advanced"] | None,
    typer.Option(help="Where you stand today."),
]
HoursOption = Annotated[float | None, typer.Option("--hours", help="Hours of study a week.")]
WeeksOption = Annotated[int | None, typer.Option("--weeks", help="Weeks the plan may take.")]
StartOption = Annotated[str | None, typer.Option("--start", help="First day, as YYYY-MM-DD.")]
KnownOption = Annotated[
    list[str] | None, typer.Option("--known", help="A topic you know. May be repeated.")
]
ExcludeOption = Annotated[
    list[str] | None, typer.Option("--exclude", help="A topic to leave out. May be repeated.")
]
LanguageOption = Annotated[str | None, typer.Option("--language", help="Language of the roadmap.")]


def request_of(
    goal: str,
    *,
    level: str | None,
    hours: float | None,
    weeks: int | None,
    start: str | None,
    known: list[str] | None,
    exclude: list[str] | None,
    language: str | None,
) -> dict[str, Any]:
    """The ``input`` of a task; what was not said is left to the API's defaults."""
    said = {
        "goal": goal,
        "level": level,
        "hours_per_week": hours,
        "weeks": weeks,
        "start_date": start,
        "known_topics": known or None,
        "exclude": exclude or None,
        "language": language,
    }
    return {name: value for name, value in said.items() if value is not None}


def find_url(url: str | None, data_dir: Path) -> str:
    """The API to talk to: what was said, else the stack that runs here, else the usual place."""
    if url:
        return url
    from waymark.data_dir import DataDir

    stack = DataDir(data_dir).read_stack()
    return str(stack["api_url"]) if stack else DEFAULT_URL
