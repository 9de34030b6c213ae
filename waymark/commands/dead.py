"""``waymark dead``: what failed for good, looked at and decided on over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from waymark.commands.asking import ask, print_answer
from waymark.commands.choice import (
    AfterOption,
    BeforeOption,
    FingerprintOption,
    LetterReasonOption,
    SourceOption,
    TenantOption,
)
from waymark.commands.deciding import discard, filter_params, retry
from waymark.commands.options import DEFAULT_DATA_DIR, DataDirOption, JsonOption, Place, UrlOption
from waymark.commands.plain import Command, group
from waymark.complaints import say

if TYPE_CHECKING:
    from waymark.errors import Document
    from waymark.exchange import Answer

dead = group("See what failed for good, run it again, or close it.")


@dead.command("list", cls=Command)
def list_dead(
    fingerprint: FingerprintOption = None,
    letter_reason: LetterReasonOption = None,
    source: SourceOption = None,
    tenant: TenantOption = None,
    after: AfterOption = None,
    before: BeforeOption = None,
    resolved: Annotated[
        bool, typer.Option("--all", help="Also those that were replayed or discarded.")
    ] = False,
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=500, metavar="N", help="Print so many at most.")
    ] = 50,
    url: UrlOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Print the open dead letters by their error; with a filter, one by one."""
    wanted = filter_params(fingerprint, letter_reason, source, tenant, after, before)
    grouped = not wanted
    place = Place(url, data_dir)
    how = {
        "group_by": "fingerprint" if grouped else "none",
        "limit": limit,
        "resolved": "true" if resolved else None,
    }
    answer = ask(place, "GET", "/v1/ops/dead-letters", params=wanted | how)
    if as_json:
        print_answer(answer)
    else:
        _print_page(answer, place, grouped=grouped)


def _print_page(answer: Answer, place: Place, *, grouped: bool) -> None:
    from waymark.letter_lines import print_groups, print_letters
    from waymark.tables import Clock

    found = answer.document["data"]
    (print_groups if grouped else print_letters)(found, Clock.of(answer.headers))
    if not found:
        say("There are no such dead letters.")
        return
    if answer.document["has_more"]:
        say("There are more: raise --limit to see them.")
    _tell_how_to_decide(found[0], place, grouped=grouped)


def _tell_how_to_decide(first: Document, place: Place, *, grouped: bool) -> None:
    chosen = ["--fingerprint", first["fingerprint"]] if grouped else [str(first["id"])]
    look = place.command("dead", "show", str(first["example"] if grouped else first["id"]))
    again = place.command("dead", "retry", *chosen, "--dry-run")
    say(f"Look at one with {look}; what running it again comes to: {again}.")


@dead.command(cls=Command)
def show(
    number: Annotated[
        int, typer.Argument(metavar="ID", min=1, help="The number of a dead letter.")
    ],
    url: UrlOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Show one dead letter, its task, and what was done about it."""
    from waymark.letter_lines import print_story
    from waymark.tables import Clock

    answer = ask(Place(url, data_dir), "GET", f"/v1/ops/dead-letters/{number}")
    if as_json:
        print_answer(answer)
    else:
        print_story(answer.document, Clock.of(answer.headers))


for act in (retry, discard):
    dead.command(cls=Command)(act)
