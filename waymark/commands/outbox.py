"""``waymark outbox``: what waits, what died, and the operator's hand on both."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import UUID

import typer

from waymark.commands.choice import FingerprintOption, parse_id
from waymark.commands.hand import (
    ActorOption,
    JsonOption,
    ReasonOption,
    actor_or_me,
    print_json,
    why,
)
from waymark.commands.options import seconds_of
from waymark.commands.plain import Command, group
from waymark.commands.replay import discard, replay
from waymark.commands.servers import StackOption, ask, command, find_servers
from waymark.complaints import Complaint, say
from waymark.exit_codes import ExitCode

if TYPE_CHECKING:
    from shared.operating import Document

outbox = group("What waits for a worker, what died, and the operator's hand on both.")

LATE = 10.0
"""Seconds. A message that waits longer, though nothing holds it up, is worth a remark."""

LimitOption = Annotated[
    int, typer.Option("--limit", min=1, max=100_000, metavar="N", help="Print so many at most.")
]


@outbox.command(cls=Command)
def status(
    max_lag: Annotated[
        str | None,
        typer.Option(
            "--max-lag",
            metavar="TIME",
            help="Exit with 9 if a message has been due for longer: 500ms, 30s, 5m, 1h.",
        ),
    ] = None,
    data_dir: StackOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how long the oldest message waits, and all that bears on it."""
    from shared import operating as sql
    from waymark.doorbells import ask_redis
    from waymark.outbox_printing import print_status
    from waymark.tables import span

    allowed = None if max_lag is None else seconds_of(max_lag, "--max-lag")
    settings = find_servers(data_dir, "outbox status")
    found = _status_document(dict(ask(settings, sql.status)), ask_redis(settings), data_dir)
    if as_json:
        print_json(found)
    else:
        print_status(found)
    lag = found["oldest_waiting_seconds"]
    if allowed is not None and lag is not None and lag > allowed:
        raise Complaint(
            f"the oldest message has been due for {span(lag)}; --max-lag allows {max_lag}.",
            hint=found["advice"] or _carry(),
            code=ExitCode.UNHEALTHY,
        )
    if found["advice"]:
        say(found["advice"])


@outbox.command("list", cls=Command)
def list_messages(
    tenant: Annotated[
        str | None, typer.Option("--tenant", metavar="NAME", help="Only of this tenant.")
    ] = None,
    priority: Annotated[
        Literal["high", "normal", "low"] | None,
        typer.Option("--priority", metavar="PRIORITY", help="Only high, normal or low ones."),
    ] = None,
    state: Annotated[
        Literal["waiting", "delayed", "dispatched"] | None,
        typer.Option(
            "--state", metavar="STATE", help="Only waiting (due), delayed or dispatched ones."
        ),
    ] = None,
    limit: LimitOption = 50,
    data_dir: StackOption = None,
    as_json: JsonOption = False,
) -> None:
    """List outbox messages, the oldest first."""
    from shared import operating as sql
    from shared.lifecycle import Priority
    from waymark.outbox_printing import print_messages, priority_name

    rank = Priority[priority.upper()] if priority else None
    found = ask(
        find_servers(data_dir, "outbox list"),
        lambda database: sql.messages(
            database, tenant=tenant, priority=rank, state=state, limit=limit + 1
        ),
    )
    shown = [dict(row) for row in found[:limit]]
    if as_json:
        named = [one | {"priority": priority_name(one["priority"])} for one in shown]
        print_json({"data": named, "has_more": len(found) > limit})
    else:
        print_messages(shown)
        _tell_extent(len(found), limit, "No outbox message is as asked.")


@outbox.command(cls=Command)
def show(
    one: Annotated[
        str,
        typer.Argument(metavar="ID", help="The id of a task, or the number of a dead letter."),
    ],
    data_dir: StackOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one task or dead letter, what went wrong and what was done."""
    from shared import operating as sql
    from waymark.outbox_printing import print_story

    wanted = parse_id(one)
    number, task_id = (None, wanted) if isinstance(wanted, UUID) else (wanted, None)
    found = ask(
        find_servers(data_dir, "outbox show"),
        lambda database: sql.story(database, task_id, number),
    )
    if found is None:
        what = f"dead letter {number}" if task_id is None else f"task {task_id}"
        raise Complaint(
            f"there is no {what}.",
            hint=f"{command(data_dir, 'outbox', 'list')} and "
            f"{command(data_dir, 'outbox', 'dead')} list what there is.",
            code=ExitCode.NOT_FOUND,
        )
    if as_json:
        print_json(found)
    else:
        print_story(found)


@outbox.command(cls=Command)
def dead(
    resolved: Annotated[
        bool, typer.Option("--all", help="Also those that were replayed or discarded.")
    ] = False,
    fingerprint: FingerprintOption = None,
    limit: LimitOption = 50,
    data_dir: StackOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the open dead letters by their error. With --fingerprint, those of one group."""
    from shared import operating as sql
    from waymark.outbox_printing import print_groups, print_letters

    settings = find_servers(data_dir, "outbox dead")
    if fingerprint is None:
        found = ask(settings, lambda db: sql.groups(db, resolved=resolved, limit=limit + 1))
    else:
        found = ask(
            settings,
            lambda db: sql.letters(db, fingerprint, resolved=resolved, limit=limit + 1),
        )
    shown = [dict(row) for row in found[:limit]]
    if as_json:
        print_json({"data": shown, "has_more": len(found) > limit})
        return
    (print_groups if fingerprint is None else print_letters)(shown)
    which = "" if resolved else "open "
    _tell_extent(len(found), limit, f"There are no {which}dead letters" + _of(fingerprint))
    if shown:
        chosen = ["--fingerprint", fingerprint or shown[0]["fingerprint"]]
        say(
            "Decide with "
            f"{command(data_dir, 'outbox', 'replay', *chosen, '--reason', 'TEXT')} or "
            f"{command(data_dir, 'outbox', 'discard', *chosen, '--reason', 'TEXT')}."
        )


for act in (replay, discard):
    outbox.command(cls=Command)(act)


@outbox.command(cls=Command)
def pause(
    reason: ReasonOption = None,
    actor: ActorOption = None,
    data_dir: StackOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hold the relays back. Tasks are still accepted, and wait."""
    from shared import operating as sql
    from waymark.outbox_printing import moment
    from waymark.terminal import clean

    said, by = why(reason), actor_or_me(actor)
    found = ask(
        find_servers(data_dir, "outbox pause"), lambda database: sql.pause(database, by, said)
    )
    if as_json:
        print_json(found)
    held = found["paused"]
    if found["act"] is None:
        before = f"{moment(held['at'])} by {held['by']}: {held['reason']}"
        say(f"Paused already, since {clean(before)}")
        return
    say(
        "Paused. Tasks are accepted as before and wait in PostgreSQL; what is dispatched already "
        f"still runs. Go on with {command(data_dir, 'outbox', 'resume')}."
    )


@outbox.command(cls=Command)
def resume(
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why, if there is more to say.")
    ] = "",
    actor: ActorOption = None,
    data_dir: StackOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let the relays go on."""
    from shared import operating as sql

    by = actor_or_me(actor)
    found = ask(
        find_servers(data_dir, "outbox resume"),
        lambda database: sql.resume(database, by, reason.strip()),
    )
    if as_json:
        print_json(found)
    if found["act"] is None:
        say("The relays were not paused: nothing to do.")
    else:
        say("Resumed. The relays go on within a second or two.")


def _status_document(row: Document, redis: Any, data_dir: Path | None) -> Document:
    """Any: of waymark.doorbells, which is loaded only when it is needed."""
    from waymark.doorbells import Answers

    answers = isinstance(redis, Answers)
    document = {
        "oldest_waiting_seconds": row["oldest_waiting_seconds"],
        "waiting": row["waiting"],
        "delayed": row["delayed"],
        "in_flight": row["in_flight"],
        "running": row["running"],
        "dead_letters": {"open": row["dead_letters"], "groups": row["dead_letter_groups"]},
        "paused": row["paused_at"]
        and {"at": row["paused_at"], "by": row["paused_by"], "reason": row["paused_reason"]},
        "redis": {"answers": True, **_fields(redis, "depth", "workers", "slots")}
        if answers
        else {"answers": False if redis.asked else None, "reason": redis.reason},
    }
    stranger = answers and redis.deployment_id not in (None, str(row["deployment_id"]))
    return document | {"advice": _advice(document, stranger, data_dir)}


def _fields(answer: Any, *names: str) -> Document:  # Any: as above
    return {name: getattr(answer, name) for name in names}


def _advice(status: Document, stranger: bool, data_dir: Path | None) -> str | None:
    """What to do about that from which the rest follows; None if all is well."""
    redis, open_letters = status["redis"], status["dead_letters"]["open"]
    lag = status["oldest_waiting_seconds"] or 0
    work = status["waiting"] + status["in_flight"]
    match redis["answers"], status["paused"]:
        case False, _:
            return (
                "Redis does not answer. Tasks are accepted and wait in PostgreSQL: bring Redis "
                "back, and the relays go on by themselves."
            )
        case True, _ if stranger:
            return (
                "This Redis serves another deployment than this database: is WAYMARK_REDIS_URL "
                "right?"
            )
        case _, paused if paused:
            return f"The relays are paused; {command(data_dir, 'outbox', 'resume')} frees them."
        case True, _ if work and not redis["slots"]:
            return "No worker tells Redis that it is alive: start one, `python -m worker_service`."
        case True, _ if lag > LATE and redis["depth"] >= redis["slots"]:
            return "The workers have all they can do: more of them make the wait shorter."
    if lag > LATE:
        return _carry()
    if open_letters:
        return f"See the dead letters with {command(data_dir, 'outbox', 'dead')}."
    return None


def _carry() -> str:
    return "Does a relay run? `python -m relay_service` is one; its log says what it waits for."


def _tell_extent(found: int, limit: int, nothing: str) -> None:
    if not found:
        say(nothing)
    elif found > limit:
        say(f"There are more than these {limit}: raise --limit to see them.")


def _of(fingerprint: str | None) -> str:
    return "." if fingerprint is None else f" of fingerprint {fingerprint}."
