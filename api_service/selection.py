"""Acts on many dead letters: shown first, and done only to what was shown.

The token of a preview holds what was asked and a hash of what was found, so no process has to
remember it. It is no permission: it only says which set somebody has looked at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from api_service import cursors
from api_service.ops_schemas import (
    DEFAULT_RATE,
    MOST_AT_ONCE,
    BulkOrder,
    Decision,
    Kind,
    LetterFilter,
    Preview,
    Replayed,
)
from api_service.problems import Problem
from shared import operating
from shared.acts import Act
from shared.database import Database
from shared.letters import REPLAYABLE, fate, preview

Letter = dict[str, Any]


async def fulfil(
    database: Database, kind: Kind, order: BulkOrder, actor: str
) -> Preview | Decision:
    """Show what is meant, or do it. Raises Problem for an order that says neither clearly, and
    when the set is not the one that was shown."""
    if faults := list(order.faults(kind)):
        raise _refused(faults)
    if order.dry_run:
        return await _look(database, Selection(kind, order.ids, order.filter))
    selection, seen = _read(kind, order.preview_token or "")
    letters = await selection.letters(database)
    if len(letters) != order.expected_count or _hash(letters) != seen:
        raise Problem("selection-changed", f"{len(letters)} dead letters match now.")
    said, rate = selection.said(), order.rate_per_second or DEFAULT_RATE
    if kind == "replay":
        said["rate_per_second"] = rate
    reason = order.reason or ""
    return await _decide(database, Act(kind, actor, reason, said, _tell_nobody), letters, rate)


async def decide_on(
    database: Database, kind: Kind, number: int, *, actor: str, reason: str
) -> Decision:
    """Decide on one dead letter. Raises Problem if it is unknown, or nothing can be done."""
    found = await operating.named(database, [number], [])
    if not found:
        raise Problem("dead-letter-not-found", f"There is no dead letter {number}.")
    if found[0]["resolution"]:
        sentence = f"Dead letter {number} was {found[0]['resolution']} already."
        raise Problem("nothing-to-do", sentence)
    act = Act(kind, actor, reason, {"ids": [number]}, _tell_nobody)
    return await _decide(database, act, [dict(one) for one in found], DEFAULT_RATE)


@dataclass(frozen=True, slots=True)
class Selection:
    """Open dead letters: those with these numbers, or those that a filter chooses."""

    kind: Kind
    ids: Sequence[int] | None
    filter: LetterFilter | None

    async def letters(self, database: Database) -> list[Letter]:
        """Raises Problem for more than one act may decide on."""
        if self.ids is not None:
            found = await operating.named(database, self.ids, [])
        elif self.filter is not None:
            wanted = self.filter.as_filter()
            found = await operating.matching(database, wanted, limit=MOST_AT_ONCE + 1)
        if len(found) > MOST_AT_ONCE:
            raise _refused([("filter", f"matches more than {MOST_AT_ONCE}: narrow it")])
        return [dict(one) for one in found if one["resolution"] is None]

    def said(self) -> dict[str, Any]:
        """How it was said, for the record and for the token."""
        if self.filter is None:
            return {"ids": list(self.ids or ())}
        return {"filter": self.filter.model_dump(mode="json", exclude_none=True)}

    def token(self, letters: Sequence[Letter]) -> str:
        return cursors.encode({"act": self.kind, **self.said(), "hash": _hash(letters)})


async def _look(database: Database, selection: Selection) -> Preview:
    letters = await selection.letters(database)
    shown = preview(letters, replaying=selection.kind == "replay")
    return Preview(
        matched=shown["dead_letters"],
        sample=shown["first"],
        preview_token=selection.token(letters),
        **{name: shown[name] for name in ("tasks", "groups", "fates")},
    )


async def _decide(database: Database, act: Act, letters: Sequence[Letter], rate: int) -> Decision:
    if act.kind == "discard":
        await act.discard(database, [one["id"] for one in letters])
    else:
        await act.schedule(database, _replayable(letters), rate=rate)
    if act.id is None:
        raise Problem("nothing-to-do", _why_nothing(act.kind, letters))
    replayed = [Replayed.model_validate(one) for one in act.done if "replayed_as" in one]
    return Decision(
        act=act.id,
        **act.totals,
        last_due_at=max((one.due_at for one in replayed), default=None),
        data=replayed,
    )


def _replayable(letters: Sequence[Letter]) -> list[UUID]:
    return list(dict.fromkeys(one["task_id"] for one in letters if fate(one) in REPLAYABLE))


def _why_nothing(kind: Kind, letters: Sequence[Letter]) -> str:
    if not letters:
        return "No open dead letter is meant."
    if kind == "replay" and not _replayable(letters):
        fates = {fate(one) for one in letters}
        if fates == {"running"}:
            return "What would be replayed is running; it can be once that has ended."
        if fates == {"missing"}:
            return "The task is not in this database, or was erased: it can only be discarded."
        return "Each task is either running, or not in this database."
    return "Somebody has decided on it meanwhile."


def _tell_nobody(_one: Letter) -> None:
    """Who acts over HTTP hears of all of it at once."""


def _hash(letters: Sequence[Letter]) -> str:
    numbers = ",".join(str(one["id"]) for one in sorted(letters, key=lambda one: int(one["id"])))
    return hashlib.sha256(numbers.encode()).hexdigest()[:32]


def _read(kind: Kind, token: str) -> tuple[Selection, str]:
    """Raises Problem for a token of another act, or none of ours."""
    for chosen in ("filter", "ids"):
        try:
            said = cursors.decode(token, ("act", chosen, "hash"))
            order = BulkOrder.model_validate({"dry_run": True, chosen: said[chosen]})
        except (Problem, ValidationError):
            continue
        if said["act"] == kind and not list(order.faults(kind)):
            return Selection(kind, order.ids, order.filter), str(said["hash"])
    raise _refused([("preview_token", f"is not from a dry run of this {kind}")])


def _refused(faults: Sequence[tuple[str, str]]) -> Problem:
    errors = [{"pointer": f"/{name}", "detail": detail} for name, detail in faults]
    listed = "; ".join(f"{one['pointer']} {one['detail']}" for one in errors)
    return Problem("validation-failed", f"{listed}.", errors=errors)
