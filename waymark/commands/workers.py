"""``waymark workers``: who generates, and letting one of them rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from waymark.commands.asking import ask, print_answer
from waymark.commands.hand import ActorOption, ReasonOption, actor_or_me, why
from waymark.commands.options import DEFAULT_DATA_DIR, DataDirOption, JsonOption, Place, UrlOption
from waymark.commands.plain import Command, group
from waymark.complaints import Complaint, say
from waymark.exit_codes import ExitCode

if TYPE_CHECKING:
    from waymark.errors import Document
    from waymark.exchange import Answer

workers = group("See who generates what; drain a worker before it is stopped.")

WorkerArgument = Annotated[
    str, typer.Argument(metavar="WORKER", help="Its id, or its name as `workers list` shows it.")
]


@workers.command("list", cls=Command)
def list_workers(
    url: UrlOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Print each worker, whether it works, and at which tasks."""
    from waymark.stack_lines import print_workers
    from waymark.tables import Clock

    place = Place(url, data_dir)
    answer = ask(place, "GET", "/v1/ops/workers")
    found = answer.document["data"]
    if as_json:
        print_answer(answer)
        return
    print_workers(found, Clock.of(answer.headers))
    if not found:
        say("No worker has shown itself today: `python -m worker_service` is one.")


@workers.command(cls=Command)
def drain(
    worker: WorkerArgument,
    reason: ReasonOption = None,
    actor: ActorOption = None,
    url: UrlOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Let a worker take nothing more. It finishes what it has and stays alive."""
    place = Place(url, data_dir)
    answer = _order("drain", worker, place, why(reason), actor_or_me(actor))
    if as_json:
        print_answer(answer)
    go_on = place.command("workers", "undrain", worker, "--reason", "TEXT")
    say(f"{answer.document['name']} is {answer.document['state']}; let it go on with {go_on}.")


@workers.command(cls=Command)
def undrain(
    worker: WorkerArgument,
    reason: ReasonOption = None,
    actor: ActorOption = None,
    url: UrlOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Let a drained worker go on."""
    answer = _order("undrain", worker, Place(url, data_dir), why(reason), actor_or_me(actor))
    if as_json:
        print_answer(answer)
    say(f"{answer.document['name']} is {answer.document['state']}.")


def _order(verb: str, worker: str, place: Place, reason: str, actor: str) -> Answer:
    path = f"/v1/ops/workers/{_id_of(worker, place)}/{verb}"
    return ask(place, "POST", path, body={"reason": reason, "actor": actor}, repeatable=True)


def _id_of(worker: str, place: Place) -> str:
    from uuid import UUID

    try:
        return str(UUID(worker))
    except ValueError:
        return str(_named(worker, ask(place, "GET", "/v1/ops/workers").document, place)["id"])


def _named(name: str, found: Document, place: Place) -> Document:
    """The worker of this name. One that is gone may have left its name to another."""
    named: list[Document] = [one for one in found["data"] if one["name"] == name]
    alive = [one for one in named if one["state"] != "gone"] or named
    if len(alive) == 1:
        return alive[0]
    wrong = f"there are {len(alive)} workers called {name}" if alive else f"no worker {name}"
    raise Complaint(
        f"{wrong}.",
        hint=f"{place.command('workers', 'list', '--json')} shows ids.",
        code=ExitCode.CONFLICT if alive else ExitCode.NOT_FOUND,
    )
