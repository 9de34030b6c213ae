"""Acts on many dead letters: shown first, and done only to what was shown.

The token of a preview holds what was asked and a hash of what was found, so no process has to
remember it. It is no permission: it only says which set somebody has looked at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from pydantic import ValidationError
from sqlalchemy import text

from api_service import cursors
from api_service.ops_schemas import MOST_AT_ONCE, Decision, LetterFilter, Preview, Replayed
from api_service.problems import Problem
from shared import operating
from shared.acts import Act
from shared.database import Database
from shared.letters import REPLAYABLE, fate, preview

Kind = Literal["replay", "discard"]
Letter = dict[str, Any]


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
            sentence = f"More than {MOST_AT_ONCE} dead letters match; narrow the filter."
            raise Problem("validation-failed", sentence)
        return [dict(one) for one in found if one["resolution"] is None]

    def said(self) -> dict[str, Any]:
        """How it was said, for the record and for the token."""
        if self.filter is None:
            return {"ids": list(self.ids or ())}
        return {"filter": self.filter.model_dump(mode="json", exclude_none=True)}

    def token(self, letters: Sequence[Letter]) -> str:
        return cursors.encode({"act": self.kind, **self.said(), "hash": _hash(letters)})


async def look(database: Database, selection: Selection) -> Preview:
    letters = await selection.letters(database)
    shown = preview(letters, replaying=selection.kind == "replay")
    return Preview(
        matched=shown["dead_letters"],
        sample=shown["first"],
        preview_token=selection.token(letters),
        **{name: shown[name] for name in ("tasks", "groups", "fates")},
    )


async def act_on_preview(
    database: Database,
    kind: Kind,
    token: str,
    *,
    expected: int,
    actor: str,
    reason: str,
    rate: int,
) -> Decision:
    """Raises Problem when the set is not the one that was previewed."""
    selection, seen = _read(kind, token)
    letters = await selection.letters(database)
    if len(letters) != expected or _hash(letters) != seen:
        raise Problem("selection-changed", f"{len(letters)} dead letters match now.")
    return await decide(
        database, kind, letters, selection.said(), actor=actor, reason=reason, rate=rate
    )


async def decide(
    database: Database,
    kind: Kind,
    letters: Sequence[Letter],
    said: dict[str, Any],
    *,
    actor: str,
    reason: str,
    rate: int = 50,
) -> Decision:
    """Raises Problem if nothing of it can be done."""
    act = Act(kind, actor, reason, said, tell=lambda _one: None)
    if kind == "discard":
        await act.discard(database, [one["id"] for one in letters])
    else:
        await act.schedule(database, _replayable(letters), rate=rate)
    if act.id is None:
        raise Problem("nothing-to-do", _why_nothing(kind, letters))
    replayed = [] if kind == "discard" else [Replayed.model_validate(one) for one in act.done]
    return Decision(
        act=act.id,
        dead_letters=act.totals["dead_letters"],
        new_tasks=act.totals["new_tasks"],
        dispatched_again=act.totals["dispatched_again"],
        last_due_at=await _last_due(database, len(replayed), rate) if replayed else None,
        data=replayed,
    )


def _replayable(letters: Sequence[Letter]) -> list[UUID]:
    return list(dict.fromkeys(one["task_id"] for one in letters if fate(one) in REPLAYABLE))


def _why_nothing(kind: Kind, letters: Sequence[Letter]) -> str:
    fates = {fate(one) for one in letters}
    if not letters:
        return "No open dead letter is meant."
    if kind == "replay" and fates == {"running"}:
        return "Its task runs."
    if kind == "replay" and fates == {"missing"}:
        return "Its task is not in this database, so it can only be discarded."
    return "Somebody else has decided on it."


async def _last_due(database: Database, count: int, rate: int) -> datetime:
    async with database.autocommit() as connection:
        now: datetime = (await connection.execute(text("SELECT now()"))).scalar_one()
    return now + timedelta(seconds=(count - 1) / rate)


def _hash(letters: Sequence[Letter]) -> str:
    numbers = ",".join(str(one["id"]) for one in sorted(letters, key=lambda one: int(one["id"])))
    return hashlib.sha256(numbers.encode()).hexdigest()[:32]


def _read(kind: Kind, token: str) -> tuple[Selection, str]:
    """Raises Problem for a token of another act, or none of ours."""
    for names in (("act", "filter", "hash"), ("act", "ids", "hash")):
        try:
            said = cursors.decode(token, names)
            if said["act"] != kind:
                break
            wanted = LetterFilter.model_validate(said["filter"]) if "filter" in said else None
            ids = [int(one) for one in said["ids"]] if "ids" in said else None
            return Selection(kind, ids, wanted), str(said["hash"])
        except (Problem, ValidationError, TypeError, ValueError):
            continue
    reason = {"pointer": "/preview_token", "detail": f"is not from a dry run of this {kind}"}
    raise Problem("validation-failed", f"/preview_token {reason['detail']}.", errors=[reason])
