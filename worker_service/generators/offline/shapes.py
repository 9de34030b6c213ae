"""What the steps of the offline generator put out."""

from __future__ import annotations

from typing import Literal

from shared.roadmap import Shape

from . import wording
from .catalog import Catalog, Goal
from .closure import aim_at
from .content import OfflineContent
from .matching import Entry, Match


class Matched(Shape):
    """A goal or a concept of the catalog that the request names."""

    kind: Literal["goal", "concept"]
    id: str
    name: str

    @classmethod
    def of(cls, entry: Entry) -> Matched:
        kind: Literal["goal", "concept"] = "goal" if isinstance(entry, Goal) else "concept"
        return cls(kind=kind, id=entry.id, name=entry.name)

    def entry(self, catalog: Catalog) -> Entry:
        return catalog.goals[self.id] if self.kind == "goal" else catalog.concepts[self.id]


class Understanding(Shape):
    """What the request comes down to; ``match`` gives back what it was made of."""

    title: str
    summary: str
    matched: tuple[Matched, ...]
    ignored: tuple[str, ...]
    unwanted: tuple[str, ...]

    @classmethod
    def of(cls, catalog: Catalog, match: Match) -> Understanding:
        return cls(
            title=aim_at(match).title,
            summary=wording.summary(catalog, match),
            matched=tuple(map(Matched.of, match.entries)),
            ignored=match.ignored,
            unwanted=match.unwanted,
        )

    def match(self, catalog: Catalog) -> Match:
        entries = tuple(one.entry(catalog) for one in self.matched)
        return Match(entries, self.ignored, self.unwanted)


class Contents(Shape):
    """Content by the id of its concept."""

    concepts: dict[str, OfflineContent]
