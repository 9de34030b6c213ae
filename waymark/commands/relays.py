"""``waymark relays``: who carries from PostgreSQL to Redis."""

from __future__ import annotations

from waymark.commands.asking import ask, print_answer
from waymark.commands.options import DEFAULT_DATA_DIR, DataDirOption, JsonOption, Place, UrlOption
from waymark.commands.plain import Command, group
from waymark.complaints import say

relays = group("See who carries from PostgreSQL to Redis.")


@relays.command("list", cls=Command)
def list_relays(
    url: UrlOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Print each relay, what it has carried, and whether Redis answers it."""
    from waymark.stack_lines import print_relays
    from waymark.tables import Clock

    answer = ask(Place(url, data_dir), "GET", "/v1/ops/relays")
    found = answer.document["data"]
    if as_json:
        print_answer(answer)
        return
    print_relays(found, Clock.of(answer.headers))
    if not found:
        say("No relay has shown itself today: `python -m relay_service` is one.")
