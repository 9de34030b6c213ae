"""``waymark catalog``: what the planner knows."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from waymark.commands.options import LanguageOption
from waymark.commands.plain import Command, group

catalog = group("See what the offline planner knows.")

COLUMNS = (
    "domain",
    "concepts",
    "edges",
    "hard",
    "soft",
    "hours",
    "resources",
    "quizzes",
    "projects",
)


@catalog.command(cls=Command)
def stats(
    language: LanguageOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Print how many concepts, edges, resources, quizzes and projects each domain has."""
    import json

    from waymark import planner

    counts = planner.stats(_known(language or "en"))
    if as_json:
        typer.echo(json.dumps(counts, indent=2, ensure_ascii=False))
    else:
        _print(counts)


def _known(language: str) -> str:
    from shared.roadmap import LANGUAGES
    from waymark.complaints import Complaint
    from waymark.exit_codes import ExitCode

    if language in LANGUAGES:
        return language
    raise Complaint(
        f"the catalog is not available in “{language}”.",
        hint=f"choose one of: {', '.join(LANGUAGES)}.",
        code=ExitCode.USAGE,
    )


def _print(counts: dict[str, Any]) -> None:  # Any: JSON
    from rich.cells import cell_len

    rows = [_row(one) for one in counts["domains"]]
    sums = ("all", *(_sum(column) for column in zip(*(row[1:] for row in rows), strict=True)))
    table = [COLUMNS, *rows, sums]
    widths = [max(cell_len(cell) for cell in column) for column in zip(*table, strict=True)]
    for first, *others in table:
        cells = [first + " " * (widths[0] - cell_len(first))]
        cells += [f"{one:>{width}}" for one, width in zip(others, widths[1:], strict=True)]
        typer.echo("  ".join(cells))
    goals = ", ".join(f"{count} {kind}s" for kind, count in counts["goals"].items())
    typer.echo()
    typer.echo(f"goals        {sum(counts['goals'].values())} ({goals})")
    typer.echo(f"or-groups    {counts['alternatives']}")
    typer.echo(f"languages    {', '.join(counts['languages'])}")
    typer.echo(f"version      {counts['version']}")


def _row(domain: dict[str, Any]) -> tuple[str, ...]:
    hard, soft = domain["hard_edges"], domain["soft_edges"]
    numbers = (
        *(domain["concepts"], hard + soft, hard, soft, domain["hours"]),
        *(domain["resources"], domain["quizzed"], domain["projects"]),
    )
    return (domain["name"], *(f"{number:g}" for number in numbers))


def _sum(column: tuple[str, ...]) -> str:
    return f"{sum(map(float, column)):g}"
