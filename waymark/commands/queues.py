"""``waymark queues``: what waits, who works on it, and the relays' brake."""

from __future__ import annotations

from typing import Annotated

import typer

from waymark.commands.asking import ask, print_answer
from waymark.commands.hand import ActorOption, ReasonOption, actor_or_me, why
from waymark.commands.options import DEFAULT_DATA_DIR, DataDirOption, JsonOption, Place, UrlOption
from waymark.commands.plain import Command, group
from waymark.complaints import say

queues = group("See how much waits and for how long; hold the relays back.")

NameArgument = Annotated[str, typer.Argument(metavar="[NAME]", help="There is one: roadmaps.")]


@queues.command("list", cls=Command)
def list_queues(
    url: UrlOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Print what waits in each queue and how long a new task may wait."""
    from waymark.stack_lines import print_queues
    from waymark.tables import Clock

    answer = ask(Place(url, data_dir), "GET", "/v1/ops/queues")
    if as_json:
        print_answer(answer)
    else:
        print_queues(answer.document["data"], Clock.of(answer.headers))


@queues.command(cls=Command)
def pause(
    name: NameArgument = "roadmaps",
    reason: ReasonOption = None,
    actor: ActorOption = None,
    url: UrlOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Hold the relays back. Tasks are still accepted, and wait."""
    from waymark.stack_lines import pause_of
    from waymark.tables import Clock

    place = Place(url, data_dir)
    body = {"reason": why(reason), "actor": actor_or_me(actor)}
    answer = ask(place, "POST", _path(name, "pause"), body=body, repeatable=True)
    found = answer.document
    if as_json:
        print_answer(answer)
    if found["act"] is None:
        say(f"Paused already: {pause_of(found['paused'], Clock.of(answer.headers))}.")
        return
    resume_it = place.command("queues", "resume", name, "--reason", "TEXT")
    say(f"Paused: act {found['act']}. What is dispatched already still runs; resume: {resume_it}.")


@queues.command(cls=Command)
def resume(
    name: NameArgument = "roadmaps",
    reason: ReasonOption = None,
    actor: ActorOption = None,
    url: UrlOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Let the relays go on."""
    body = {"reason": why(reason), "actor": actor_or_me(actor)}
    place = Place(url, data_dir)
    answer = ask(place, "POST", _path(name, "resume"), body=body, repeatable=True)
    act = answer.document["act"]
    if as_json:
        print_answer(answer)
    say("The relays were not paused: nothing to do." if act is None else f"Resumed: act {act}.")


def _path(name: str, verb: str) -> str:
    from urllib.parse import quote

    return f"/v1/ops/queues/{quote(name, safe='')}/{verb}"
