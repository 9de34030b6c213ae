"""``waymark dead retry`` and ``discard``: shown first, then done to what was shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

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
from waymark.commands.consent import agreed
from waymark.commands.hand import (
    ActorOption,
    DryRunOption,
    ReasonOption,
    YesOption,
    actor_or_me,
    why,
)
from waymark.commands.options import DEFAULT_DATA_DIR, DataDirOption, JsonOption, Place, UrlOption
from waymark.commands.times import past
from waymark.complaints import Complaint, say
from waymark.exit_codes import ExitCode

if TYPE_CHECKING:
    from waymark.errors import Document
    from waymark.exchange import Answer

Selection = dict[str, Any]
"""``ids`` or ``filter``, as the API takes them. Any: numbers, or names and texts."""

NumbersArgument = Annotated[
    list[int] | None, typer.Argument(metavar="[ID...]", min=1, help="Numbers of dead letters.")
]


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants done, as it was typed."""

    verb: Literal["retry", "discard"]
    selection: Selection
    reason: str
    actor: str
    yes: bool
    dry_run: bool
    as_json: bool
    place: Place
    rate: int | None = None

    @property
    def path(self) -> str:
        return f"/v1/ops/dead-letters:{'replay' if self.verb == 'retry' else self.verb}"


def retry(
    ids: NumbersArgument = None,
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
    url: UrlOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Run the tasks of dead letters again: an ended one as a new task."""
    wanted = filter_params(fingerprint, letter_reason, source, tenant, after, before)
    because = "" if dry_run else why(reason)
    selection, place = _selection(ids, wanted), Place(url, data_dir)
    by = actor_or_me(actor)
    _fulfil(Wish("retry", selection, because, by, yes, dry_run, as_json, place, rate))


def discard(
    ids: NumbersArgument = None,
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
    url: UrlOption = None,
    data_dir: DataDirOption = DEFAULT_DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Close dead letters. No task is touched."""
    wanted = filter_params(fingerprint, letter_reason, source, tenant, after, before)
    because = "" if dry_run else why(reason)
    selection, place = _selection(ids, wanted), Place(url, data_dir)
    by = actor_or_me(actor)
    _fulfil(Wish("discard", selection, because, by, yes, dry_run, as_json, place))


def filter_params(
    fingerprint: str | None,
    reason: str | None,
    source: str | None,
    tenant: str | None,
    after: str | None,
    before: str | None,
) -> dict[str, str]:
    """As the API takes it."""
    said = {
        "fingerprint": fingerprint,
        "reason": reason,
        "source": source,
        "tenant": tenant,
        "after": past(after, "--after"),
        "before": past(before, "--before"),
    }
    return {name: value for name, value in said.items() if value is not None}


def _selection(ids: list[int] | None, wanted: dict[str, str]) -> Selection:
    if bool(ids) == bool(wanted):
        raise Complaint(
            "name dead letters or give a filter, not both." if ids else "which ones?",
            hint="by number, or with --fingerprint, --letter-reason, --source, --tenant, "
            "--after, --before.",
            code=ExitCode.USAGE,
        )
    return {"ids": list(dict.fromkeys(ids))} if ids else {"filter": wanted}


def _fulfil(wish: Wish) -> None:
    look = {"dry_run": True, **wish.selection}
    preview = ask(wish.place, "POST", wish.path, body=look, repeatable=True)
    shown = preview.document
    _raise_if_not_open(wish, shown)
    if wish.dry_run:
        _print_preview(wish, preview)
    elif not shown["matched"]:
        say("No open dead letter matches: nothing to do.")
    elif _meant(wish, shown):
        _tell_done(wish, _act(wish, shown))


def _raise_if_not_open(wish: Wish, shown: Document) -> None:
    """Before anything is done: who mistyped one number may have mistyped others."""
    ids = wish.selection.get("ids", [])
    if len(ids) == shown["matched"]:
        return
    for number in ids:
        story = ask(wish.place, "GET", f"/v1/ops/dead-letters/{number}").document
        letter = next(one for one in story["dead_letters"] if one["id"] == number)
        if letter["resolution"] is not None:
            raise Complaint(
                f"dead letter {number} was {letter['resolution']} before. Nothing was done.",
                hint=f"{wish.place.command('dead', 'show', str(number))} shows by whom.",
                code=ExitCode.CONFLICT,
            )


def _print_preview(wish: Wish, preview: Answer) -> None:
    if wish.as_json:
        print_answer(preview)
        return
    from waymark.letter_lines import preview_lines

    for line in preview_lines(preview.document):
        typer.echo(line)


def _meant(wish: Wish, shown: Document) -> bool:
    """What a filter chose is shown, and asked about; what was named is meant."""
    if "ids" in wish.selection:
        return True
    from waymark.letter_lines import preview_lines

    for line in preview_lines(shown):
        say(line)
    return agreed(f"{wish.verb.capitalize()} them?", wish.yes)


def _act(wish: Wish, shown: Document) -> Answer:
    order = {
        "preview_token": shown["preview_token"],
        "expected_count": shown["matched"],
        "reason": wish.reason,
        "actor": wish.actor,
        **({} if wish.rate is None else {"rate_per_second": wish.rate}),
    }
    try:
        return ask(wish.place, "POST", wish.path, body=order)
    except Complaint as complaint:
        if complaint.code is ExitCode.CONFLICT:
            complaint.hint = "nothing was done; the same command shows what there is now."
        elif complaint.code is ExitCode.UNREACHABLE:
            left = wish.place.command("dead", "list")
            complaint.hint = f"it may have been done: {left} shows what is still open."
        raise


def _tell_done(wish: Wish, answer: Answer) -> None:
    from waymark.amounts import number_of

    done = answer.document
    if wish.as_json:
        print_answer(answer)
    else:
        for one in done["data"]:
            again = one["replayed_as"] == one["task_id"]
            became = "dispatched again" if again else f"replayed as {one['replayed_as']}"
            typer.echo(f"{one['task_id']}  {became}")
    verb = "Replayed" if wish.verb == "retry" else "Discarded"
    last = f", the last one due at {done['last_due_at']}" if done["last_due_at"] else ""
    say(f"{verb} {number_of(done['dead_letters'], 'dead letter')}: act {done['act']}{last}.")
