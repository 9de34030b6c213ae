"""``waymark outbox replay`` and ``discard``: decide on dead letters, after a look at them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from waymark.commands.choice import (
    AfterOption,
    BeforeOption,
    Choice,
    FingerprintOption,
    IdsArgument,
    LetterReasonOption,
    SourceOption,
    TenantOption,
    filter_of,
)
from waymark.commands.consent import agreed
from waymark.commands.hand import (
    ActorOption,
    DryRunOption,
    JsonOption,
    ReasonOption,
    YesOption,
    actor_or_me,
    print_json,
    why,
)
from waymark.commands.servers import StackOption, ask, command, find_servers
from waymark.complaints import Complaint, say
from waymark.exit_codes import ExitCode

if TYPE_CHECKING:
    from uuid import UUID

    from shared.acts import Act
    from shared.database import Database
    from shared.operating import Document


DONE = {"replay": "Replayed", "discard": "Discarded"}


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants done, as it was typed."""

    kind: Literal["replay", "discard"]
    choice: Choice
    reason: str
    actor: str
    yes: bool
    dry_run: bool
    as_json: bool
    data_dir: Path | None


def replay(
    ids: IdsArgument = None,
    reason: ReasonOption = None,
    fingerprint: FingerprintOption = None,
    letter_reason: LetterReasonOption = None,
    source: SourceOption = None,
    tenant: TenantOption = None,
    after: AfterOption = None,
    before: BeforeOption = None,
    rate: Annotated[
        int, typer.Option("--rate", min=1, max=10_000, metavar="N", help="Tasks a second at most.")
    ] = 50,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    actor: ActorOption = None,
    data_dir: StackOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the tasks of dead letters again: an ended one as a new task. Ctrl-C keeps what is done;
    the same command goes on with the rest."""
    chosen = filter_of(
        fingerprint=fingerprint,
        letter_reason=letter_reason,
        source=source,
        tenant=tenant,
        after=after,
        before=before,
    )
    choice = Choice.of(ids, chosen)
    because = "" if dry_run else why(reason)
    wish = Wish("replay", choice, because, actor_or_me(actor), yes, dry_run, as_json, data_dir)
    _fulfil(wish, lambda act, db, letters: act.replay(db, _tasks_of(letters), rate=rate))


def discard(
    ids: IdsArgument = None,
    reason: ReasonOption = None,
    fingerprint: FingerprintOption = None,
    letter_reason: LetterReasonOption = None,
    source: SourceOption = None,
    tenant: TenantOption = None,
    after: AfterOption = None,
    before: BeforeOption = None,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    actor: ActorOption = None,
    data_dir: StackOption = None,
    as_json: JsonOption = False,
) -> None:
    """Close dead letters. No task is touched."""
    chosen = filter_of(
        fingerprint=fingerprint,
        letter_reason=letter_reason,
        source=source,
        tenant=tenant,
        after=after,
        before=before,
    )
    choice = Choice.of(ids, chosen)
    because = "" if dry_run else why(reason)
    wish = Wish("discard", choice, because, actor_or_me(actor), yes, dry_run, as_json, data_dir)
    _fulfil(wish, lambda act, db, letters: act.discard(db, [one["id"] for one in letters]))


def _fulfil(wish: Wish, do: Callable[[Act, Database, Sequence[Document]], Awaitable[None]]) -> None:
    settings = find_servers(wish.data_dir, f"outbox {wish.kind}")
    letters = ask(settings, wish.choice.letters)
    _raise_if_unknown(wish, letters)
    undecided = [one for one in letters if one["resolution"] is None]
    if wish.dry_run:
        _print_preview(wish, undecided)
        return
    _tell_decided(wish, letters)
    doable = [one for one in undecided if _can_be_done(wish, one)]
    if not wish.choice.ids and not _agreed(wish, undecided, doable):
        return
    from shared.acts import Act

    told = _print_done if not wish.as_json else lambda _one: None
    act = Act(wish.kind, wish.actor, wish.reason, wish.choice.detail(), told)
    try:
        if doable:
            ask(settings, lambda database: do(act, database, doable))
    except KeyboardInterrupt:
        raise Complaint(
            "stopped; what was done is recorded, the rest is as it was.",
            hint="the same command goes on with the rest.",
            code=ExitCode.INTERRUPTED,
        ) from None
    finally:
        _tell_done(wish, act)
    _tell_left(act, doable)
    _raise_if_refused(wish, [one for one in undecided if not _can_be_done(wish, one)])


def _can_be_done(wish: Wish, letter: Document) -> bool:
    from shared.letters import REPLAYABLE, fate

    return wish.kind == "discard" or fate(letter) in REPLAYABLE


def _raise_if_unknown(wish: Wish, letters: Sequence[Document]) -> None:
    """Before anything is done: who mistyped one number may have mistyped others."""
    unknown = wish.choice.unknown(letters)
    if unknown:
        listed = ", ".join(
            str(one) if isinstance(one, int) else f"of task {one}" for one in unknown
        )
        raise Complaint(
            f"there is no dead letter {listed}. Nothing was done.",
            hint=f"{command(wish.data_dir, 'outbox', 'dead')} shows those that are open.",
            code=ExitCode.NOT_FOUND,
        )


def _print_preview(wish: Wish, undecided: Sequence[Document]) -> None:
    from shared.letters import preview
    from waymark.outbox_printing import preview_lines

    shown = preview(undecided, replaying=wish.kind == "replay")
    if wish.as_json:
        print_json(shown)
        return
    for line in preview_lines(shown):
        typer.echo(line)


def _tell_decided(wish: Wish, letters: Sequence[Document]) -> None:
    """Of what was named, that which nobody needs to decide on any more."""
    from waymark.outbox_printing import decision

    for named in wish.choice.ids:
        its = [one for one in letters if named in (one["id"], one["task_id"])]
        if all(one["resolution"] for one in its):
            say(f"Dead letter {its[-1]['id']} was {decision(its[-1])} before: left alone.")


def _agreed(wish: Wish, undecided: Sequence[Document], doable: Sequence[Document]) -> bool:
    """Whether a filter's choice is meant; it is shown first."""
    from shared.letters import preview
    from waymark.outbox_printing import preview_lines

    if not undecided:
        say("No open dead letter matches: nothing to do.")
        return wish.as_json  # to print that as a document, too
    for line in preview_lines(preview(undecided, replaying=wish.kind == "replay")):
        say(line)
    return not doable or agreed(f"{wish.kind.capitalize()} them?", wish.yes)


def _print_done(one: Document) -> None:
    if "replayed_as" not in one:
        typer.echo(f"{one['id']}  discarded")
    elif one["replayed_as"] == one["task_id"]:
        typer.echo(f"{one['task_id']}  dispatched again")
    else:
        typer.echo(f"{one['task_id']}  replayed as {one['replayed_as']}")


def _tell_done(wish: Wish, act: Act) -> None:
    from waymark.amounts import number_of

    if wish.as_json:
        print_json({"act": act.id, **act.totals, "data": act.done})
    if act.id is not None:
        letters = number_of(act.totals["dead_letters"], "dead letter")
        say(f"{DONE[wish.kind]} {letters}: act {act.id}.")


def _tell_left(act: Act, doable: Sequence[Document]) -> None:
    from shared.letters import FIRST

    done = {number for one in act.done for number in one.get("dead_letters", [one.get("id")])}
    left = [str(one["id"]) for one in doable if one["id"] not in done]
    if left:
        say(
            f"Somebody else was at {len(left)} of them ({', '.join(left[:FIRST])}): "
            "left alone. The same command goes on with what is still open."
        )


def _raise_if_refused(wish: Wish, refused: Sequence[Document]) -> None:
    """Dead letters that cannot be replayed. A filter may meet some, and its preview said so."""
    if not wish.choice.ids or not refused:
        return
    from shared.letters import fate

    sentences = []
    for one in refused:
        if fate(one) == "running":
            sentences.append(
                f"dead letter {one['id']} was left alone: its task {one['task_id']} is running. "
                "It can be replayed once that has ended."
            )
        else:
            whose = f"its task {one['task_id']} is" if one["task_id"] else "the task is"
            sentences.append(
                f"dead letter {one['id']} cannot be replayed: {whose} not in this database, so "
                "there is nothing to run again."
            )
    numbers = [str(one["id"]) for one in refused if fate(one) == "missing"]
    close = command(wish.data_dir, "outbox", "discard", *numbers, "--reason", "TEXT")
    raise Complaint(
        "\n".join(sentences),
        hint=f"close it with {close}." if numbers else "",
        code=ExitCode.CONFLICT,
    )


def _tasks_of(letters: Sequence[Document]) -> list[UUID]:
    return list(dict.fromkeys(one["task_id"] for one in letters))
