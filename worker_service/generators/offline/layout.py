"""The shape of the plan: its stages and modules, put on the calendar."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from shared import roadmap

from . import wording
from .calendar import Calendar, Slot
from .catalog import Concept, Project
from .cutting import modules
from .milestones import Closing, Part
from .planning import Selection
from .voices import voice_of


class Layout:
    """Builds the stages one after the other, each on the days that follow those before."""

    def __init__(
        self, selection: Selection, parts: Sequence[Part], reasons: wording.Reasons
    ) -> None:
        self._selection = selection
        self._catalog = selection.catalog
        self._voice = voice_of(selection.catalog.language)
        self._parts = parts
        self._reasons = reasons

    def stages(self, calendar: Calendar) -> tuple[roadmap.Stage, ...]:
        concepts = [part.concepts for part in self._parts]
        titles = wording.stage_names(self._catalog, concepts)
        cuts = [modules(part) for part in concepts]
        names = iter(wording.module_names(self._catalog, [one for cut in cuts for one in cut]))
        return tuple(
            self._stage(part, title, cut, names, calendar)
            for part, title, cut in zip(self._parts, titles, cuts, strict=True)
        )

    def _stage(
        self,
        part: Part,
        title: str,
        cut: Sequence[Sequence[Concept]],
        names: Iterator[str],
        calendar: Calendar,
    ) -> roadmap.Stage:
        shown = [self._module(module, next(names), calendar) for module in cut]
        if part.closings:
            shown.append(self._closing_module(part, title, calendar))
        calendar.pause(part.buffer)
        core = [one for one in part.concepts if self._selection.fitted.kinds[one.id] == "core"]
        return roadmap.Stage(
            id=f"s-{part.concepts[0].id}",  # the first concept names it, and not its position
            name=title,
            description=wording.stage_description(self._catalog, part.concepts),
            outcome=wording.stage_outcome(self._catalog, core or part.concepts),
            hours=sum(module.hours for module in shown),
            buffer_hours=part.buffer,
            week_from=shown[0].concepts[0].week_from,
            week_to=shown[-1].concepts[-1].week_to,
            modules=tuple(shown),
            milestone=_milestone(part.project) if part.project else None,
        )

    def _module(self, concepts: Sequence[Concept], name: str, calendar: Calendar) -> roadmap.Module:
        shown = tuple(self._concept(one, calendar) for one in concepts)
        return roadmap.Module(
            id=f"m-{concepts[0].id}",
            name=name,
            description=wording.module_description(self._catalog, concepts),
            hours=sum(one.hours for one in shown),
            concepts=shown,
        )

    def _concept(self, one: Concept, calendar: Calendar) -> roadmap.Concept:
        fitted = self._selection.fitted
        hours, mastery = fitted.hours[one.id], fitted.mastery[one.id]
        slot = calendar.take(hours)
        return roadmap.Concept(
            id=one.id,
            name=one.name,
            description=one.description,
            why=self._reasons[one.id],
            kind=fitted.kinds[one.id],
            difficulty=one.difficulty,
            hours=hours,
            mastery=mastery,
            week_from=slot.week_from,
            week_to=slot.week_to,
            starts_on=slot.starts_on,
            ends_on=slot.ends_on,
            prerequisites=tuple(
                roadmap.Prerequisite(concept_id=edge.id, strength=edge.strength)
                for edge in one.requires
                if edge.id in fitted.kinds
            ),
            outcomes=wording.outcomes(self._catalog, one, mastery),
        )

    def _closing_module(self, part: Part, title: str, calendar: Calendar) -> roadmap.Module:
        shown = tuple(self._closing(one, part, title, calendar) for one in part.closings)
        last = part.closings[-1]
        return roadmap.Module(
            id=f"m-{last.id}",
            name=shown[-1].name,
            description=shown[-1].description,
            hours=sum(one.hours for one in shown),
            concepts=shown,
        )

    def _closing(self, one: Closing, part: Part, title: str, calendar: Calendar) -> roadmap.Concept:
        slot = calendar.take(one.hours)
        if one.project is not None:
            return self._project(one, one.project, title, slot)
        return self._review(one, part, title, slot)

    def _project(self, one: Closing, project: Project, title: str, slot: Slot) -> roadmap.Concept:
        needed = [need for need in project.requires if need in self._selection.fitted.kinds]
        return roadmap.Concept(
            id=one.id,
            name=self._voice.project_name(project.title),
            description=project.deliverable,
            why=self._voice.project_why(title),
            kind="project",
            difficulty=max(self._catalog.concepts[need].difficulty for need in project.requires),
            hours=one.hours,
            week_from=slot.week_from,
            week_to=slot.week_to,
            starts_on=slot.starts_on,
            ends_on=slot.ends_on,
            prerequisites=tuple(roadmap.Prerequisite(concept_id=need) for need in needed),
            outcomes=tuple(map(self._voice.project_done, project.acceptance)),
        )

    def _review(self, one: Closing, part: Part, title: str, slot: Slot) -> roadmap.Concept:
        names = [concept.name for concept in part.concepts]
        return roadmap.Concept(
            id=one.id,
            name=self._voice.review_name(title),
            description=self._voice.review_description(names),
            why=self._voice.review_why(),
            kind="review",
            difficulty=max(concept.difficulty for concept in part.concepts),
            hours=one.hours,
            week_from=slot.week_from,
            week_to=slot.week_to,
            starts_on=slot.starts_on,
            ends_on=slot.ends_on,
            outcomes=(self._voice.review_outcome(),),
        )


def _milestone(project: Project) -> roadmap.Milestone:
    return roadmap.Milestone(
        title=project.title, deliverable=project.deliverable, acceptance=project.acceptance
    )
