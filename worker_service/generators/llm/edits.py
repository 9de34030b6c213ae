"""Applies a model's edits to an outline: purely, one after the other, skipping what cannot be."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from .outline import Ids, Outline, PlannedConcept, PlannedModule, PlannedStage, concept_of, unused
from .shapes import Edits, Operation

LONGEST_NAME = 120


@dataclass(frozen=True, slots=True)
class Edited:
    """``notes`` are sentences for the model: which operations were skipped, and why."""

    outline: Outline
    notes: tuple[str, ...]


def apply(outline: Outline, edits: Edits, ids: Ids) -> Edited:
    """The outline after all operations that could be; ids in them are those of ``outline``."""
    draft = _Draft(outline, ids)
    notes = []
    for number, operation in enumerate(edits.operations, start=1):
        try:
            draft.change(operation)
        except _Skipped as reason:
            notes.append(f"Operation {number} ({operation.op}) was skipped: {reason}.")
    return Edited(draft.outline(), tuple(notes))


class _Skipped(Exception):
    """An operation that cannot be; its text says why."""


class _Draft:
    """An outline while it is being changed: what is in which module, by ids."""

    def __init__(self, outline: Outline, ids: Ids) -> None:
        self.before = outline
        self.ids = ids
        self.concepts = {one.id: one for one in outline.concepts()}
        self.places = {
            module.id: [one.id for one in module.concepts] for module in outline.modules()
        }
        self.renamed: dict[str, str] = {}
        """Ids as they were shown, and what they are now."""

    def change(self, operation: Operation) -> None:
        """Raises _Skipped, and has then changed nothing."""
        match operation.op:
            case "add":
                self._add(operation)
            case "remove":
                self._remove(self._concept(operation.concept))
            case "move":
                self._move(self._concept(operation.concept), operation.module)
            case "rename":
                self._rename(self._concept(operation.concept), operation.name)
            case "adjust":
                self._adjust(self._concept(operation.concept), operation)

    def outline(self) -> Outline:
        """Modules and stages that nothing is left of are gone."""
        stages = (self._stage(stage) for stage in self.before.stages)
        return Outline(tuple(stage for stage in stages if stage.modules))

    def _add(self, operation: Operation) -> None:
        if operation.added is None:
            raise _Skipped("it says nothing to add")
        place = self._module(operation.module)
        added = concept_of(operation.added, self.ids, ())
        if added.id in self.concepts:
            raise _Skipped(f"{added.id} is in the plan already")
        self.concepts[added.id] = added
        place.append(added.id)

    def _remove(self, one: PlannedConcept) -> None:
        """What needed it then needs what it needed: the order that it stood for is kept."""
        self._place_of(one.id).remove(one.id)
        del self.concepts[one.id]
        self._in_place_of_need(one.id, one.needs)

    def _move(self, one: PlannedConcept, module: str) -> None:
        place = self._module(module)
        self._place_of(one.id).remove(one.id)
        place.append(one.id)

    def _rename(self, one: PlannedConcept, name: str) -> None:
        if not 1 <= len(name) <= LONGEST_NAME:
            raise _Skipped(f"a name has 1 to {LONGEST_NAME} characters")
        others = self.concepts.keys() - {one.id}
        renamed = replace(one, name=name, id=unused(self.ids.of(name), others))
        place = self._place_of(one.id)
        place[place.index(one.id)] = renamed.id
        del self.concepts[one.id]
        self.concepts[renamed.id] = renamed
        self.renamed = {
            shown: renamed.id if now == one.id else now
            for shown, now in {one.id: one.id, **self.renamed}.items()
        }
        self._in_place_of_need(one.id, [renamed.id])

    def _adjust(self, one: PlannedConcept, operation: Operation) -> None:
        changed = replace(
            one,
            difficulty=one.difficulty if operation.difficulty is None else operation.difficulty,
            hours=one.hours if operation.hours is None else operation.hours,
            needs=one.needs if operation.needs is None else self._known_ids(operation.needs),
        )
        if changed == one:
            raise _Skipped("it changes nothing")
        self.concepts[one.id] = changed

    def _known_ids(self, needs: Iterable[str]) -> tuple[str, ...]:
        """Ids as they were shown; a model that answers with names is understood, too."""
        current = (self.renamed.get(need, need) for need in needs)
        return tuple(
            dict.fromkeys(one if one in self.concepts else self.ids.of(one) for one in current)
        )

    def _in_place_of_need(self, gone: str, instead: Iterable[str]) -> None:
        """Never the follower itself: of two that need each other, the one that is left is free."""
        for one in self.concepts.values():
            if gone in one.needs:
                needs = dict.fromkeys([*one.needs, *instead])
                kept = tuple(need for need in needs if need not in (gone, one.id))
                self.concepts[one.id] = replace(one, needs=kept)

    def _concept(self, shown: str) -> PlannedConcept:
        try:
            return self.concepts[self.renamed.get(shown, shown)]
        except KeyError:
            raise _Skipped(f"there is no concept {shown[:LONGEST_NAME]!r}") from None

    def _module(self, shown: str) -> list[str]:
        try:
            return self.places[shown]
        except KeyError:
            raise _Skipped(f"there is no module {shown[:LONGEST_NAME]!r}") from None

    def _place_of(self, one: str) -> list[str]:
        return next(place for place in self.places.values() if one in place)

    def _stage(self, stage: PlannedStage) -> PlannedStage:
        modules = (self._changed(module) for module in stage.modules)
        return replace(stage, modules=tuple(module for module in modules if module.concepts))

    def _changed(self, module: PlannedModule) -> PlannedModule:
        concepts = tuple(self.concepts[one] for one in self.places[module.id])
        return replace(module, concepts=concepts)
