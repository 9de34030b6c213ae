"""Which dead letters a command is about: named one by one, or chosen by a filter."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal
from uuid import UUID

import typer

from waymark.commands.times import PAST, moment
from waymark.complaints import Complaint, say
from waymark.exit_codes import ExitCode

MOST_AT_ONCE = 10_000
"""Dead letters that one act decides on; each is read with what it says."""

if TYPE_CHECKING:
    from shared.database import Database
    from shared.operating import Document, Filter

LARGEST = 2**63
"""No dead letter has such a number."""


def _fingerprint(text: str | None) -> str | None:
    if text is None or re.fullmatch(r"[0-9a-f]{8}", text):
        return text
    raise Complaint(
        f"“{text}” is not a fingerprint.",
        hint="`waymark dead list` shows them: eight letters and digits such as 09c2f41e.",
        code=ExitCode.USAGE,
    )


IdsArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="ID", help="Numbers of dead letters, or ids of tasks."),
]
FingerprintOption = Annotated[
    str | None,
    typer.Option(
        "--fingerprint", metavar="F", callback=_fingerprint, help="Those of this group of errors."
    ),
]
LetterReasonOption = Annotated[
    str | None,
    typer.Option(
        "--letter-reason", metavar="NAME", help="Those with this reason, such as worker_lost."
    ),
]
SourceOption = Annotated[
    Literal["relay", "worker", "sweeper"] | None,
    typer.Option("--source", metavar="WHO", help="Those that relay, worker or sweeper wrote."),
]
TenantOption = Annotated[
    str | None, typer.Option("--tenant", metavar="NAME", help="Those of this tenant's tasks.")
]
AfterOption = Annotated[
    str | None,
    typer.Option("--after", metavar="TIME", help="Not older: 2026-11-23T10:00 (UTC) or 2h."),
]
BeforeOption = Annotated[
    str | None, typer.Option("--before", metavar="TIME", help="Only older, in the same form.")
]


def parse_id(text: str) -> int | UUID:
    """The number of a dead letter, or the id of a task."""
    if re.fullmatch(r"[0-9]+", text):
        return min(int(text[:20]), LARGEST - 1)
    try:
        return UUID(text)
    except ValueError:
        raise Complaint(
            f"“{text}” is neither the number of a dead letter nor the id of a task.",
            hint="`waymark outbox dead` shows numbers, `waymark outbox list` ids.",
            code=ExitCode.USAGE,
        ) from None


def filter_of(
    *,
    fingerprint: str | None,
    letter_reason: str | None,
    source: str | None,
    tenant: str | None,
    after: str | None,
    before: str | None,
) -> Filter:
    from shared.operating import Filter

    return Filter(
        fingerprint=fingerprint,
        reason=letter_reason,
        source=source,
        tenant=tenant,
        after=moment(after, "--after", PAST),
        before=moment(before, "--before", PAST),
    )


@dataclass(frozen=True, slots=True)
class Choice:
    """Either ``ids`` or ``filter`` says something."""

    ids: list[int | UUID]
    filter: Filter

    @classmethod
    def of(cls, ids: Iterable[str] | None, wanted: Filter) -> Choice:
        parsed = list(dict.fromkeys(map(parse_id, ids or ())))
        if bool(parsed) == bool(wanted.said()):
            wrong = "name dead letters or give a filter, not both." if parsed else "which ones?"
            raise Complaint(
                wrong,
                hint="dead letters by number, tasks by id, or --fingerprint, --letter-reason, "
                "--source, --tenant, --after, --before.",
                code=ExitCode.USAGE,
            )
        return cls(parsed, wanted)

    async def letters(self, database: Database) -> list[Document]:
        from shared import operating

        if not self.ids:
            found = await operating.matching(database, self.filter, limit=MOST_AT_ONCE)
            if len(found) == MOST_AT_ONCE:
                say(f"These are the first {MOST_AT_ONCE}: the same command goes on with the rest.")
            return [dict(row) for row in found]
        found = await operating.named(database, self._numbers(), self._task_ids())
        return [dict(row) for row in found]

    def detail(self) -> Document:
        """How it was said, for the record."""
        if self.ids:
            return {"ids": [one if isinstance(one, int) else str(one) for one in self.ids]}
        said = self.filter.said().items()
        return {
            "filter": {
                name: value.isoformat() if isinstance(value, datetime) else value
                for name, value in said
            }
        }

    def unknown(self, letters: Sequence[Document]) -> list[int | UUID]:
        there = {one["id"] for one in letters} | {one["task_id"] for one in letters}
        return [one for one in self.ids if one not in there]

    def _numbers(self) -> list[int]:
        return [one for one in self.ids if isinstance(one, int)]

    def _task_ids(self) -> list[UUID]:
        return [one for one in self.ids if isinstance(one, UUID)]
