"""What a catalog has to be beyond readable: `make check` runs this before anybody plans with it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from .catalog import Catalog, Concept, Mastery
from .reading import quizzes_of

ACQUAINTED = (0.25, 0.75)
FLUENT = (1.25, 2.6)
"""Hours of the other masteries as shares of the ordinary one's, lowest and highest."""

QUESTIONS = 3

SHORT = 1.0
"""Hours up to which half an hour more or less says nothing."""


def problems(catalogs: Sequence[Catalog]) -> Iterator[str]:
    """One sentence for each fault, naming the entry; ``catalogs`` are one in every language."""
    first = catalogs[0]
    for concept in first.concepts.values():
        yield from _implied_edges(first, concept)
        yield from _odd_hours(concept)
    yield from _unwanted(first)
    yield from _unlike(first)
    yield from _odd_quizzes(first)
    for catalog in catalogs:
        yield from _shared_names(catalog)
        yield from _bad_sentences(catalog)


def _implied_edges(catalog: Catalog, concept: Concept) -> Iterator[str]:
    """An edge is implied if another hard edge leads to the same, whatever is chosen."""
    for edge in concept.requires:
        for other in concept.requires:
            if other is edge or not other.hard or other.one_of is not None:
                continue
            beneath = catalog.implied((other.id,))
            implied = beneath.intersection(catalog.members(edge))
            if implied and (edge.one_of or other.id not in implied):
                target = edge.one_of or edge.id
                yield f"'{concept.id}' need not require '{target}': '{other.id}' implies it."
    repeated = Counter(edge.one_of or edge.id for edge in concept.requires)
    for target, count in repeated.items():
        if count > 1:
            yield f"'{concept.id}' requires '{target}' twice."


def _odd_hours(concept: Concept) -> Iterator[str]:
    working = concept.hours_for(Mastery.WORKING)
    for mastery, (low, high) in ((Mastery.ACQUAINTED, ACQUAINTED), (Mastery.FLUENT, FLUENT)):
        hours = concept.hours_for(mastery)
        if working > SHORT and not low * working <= hours <= high * working:
            yield (
                f"'{concept.id}' takes {hours:g} hours at mastery {mastery:d}, which is no "
                f"{low:g} to {high:g} times its ordinary {working:g}."
            )


def _unwanted(catalog: Catalog) -> Iterator[str]:
    """Concepts that no goal leads to, and those that are neither needed nor an end."""
    targets = {one for goal in catalog.goals.values() for one in goal.targets.every}
    reached: set[str] = set()
    waiting = list(targets)
    required: set[str] = set()
    for concept in catalog.concepts.values():
        required |= {end for edge in concept.requires for end in catalog.members(edge)}
    while waiting:
        one = waiting.pop()
        if one not in reached:
            reached.add(one)
            edges = catalog.concepts[one].requires
            waiting.extend(end for edge in edges for end in catalog.members(edge))
    for one in catalog.concepts:
        if one not in reached:
            yield f"'{one}' is reached from no goal: let one need, support or offer it."
        if one not in required | targets:
            yield f"'{one}' is an orphan: nothing requires it and no goal targets it."
    used = {concept.cluster for concept in catalog.concepts.values()}
    yield from (f"Cluster '{one}' is empty." for one in catalog.clusters if one not in used)


def _unlike(catalog: Catalog) -> Iterator[str]:
    """Goals that contradict themselves, and projects that nobody can be ready for."""
    for goal in catalog.goals.values():
        for one, count in Counter(goal.targets.every).items():
            if count > 1:
                yield f"Goal '{goal.id}' has '{one}' twice among its targets."
        for one in goal.fluent:
            if one not in goal.targets.core:
                yield f"Goal '{goal.id}' wants '{one}' fluent, which is not its core."
    for project in catalog.projects.values():
        for group in catalog.alternatives.values():
            if len(set(group.members) & set(project.requires)) > 1:
                yield f"Project '{project.id}' requires several of '{group.id}'."


def _odd_quizzes(catalog: Catalog) -> Iterator[str]:
    for one, questions in quizzes_of(catalog.folder, catalog.language).items():
        if one not in catalog.concepts:
            yield f"There is a quiz for '{one}', which is no concept."
        if len(questions) != QUESTIONS:
            yield f"The quiz of '{one}' has {len(questions)} questions, not {QUESTIONS}."


def _shared_names(catalog: Catalog) -> Iterator[str]:
    """A name or alias is one concept's; the same goes for goals, which may be called like one."""
    concepts, goals = catalog.concepts.values(), catalog.goals.values()
    yield from _shared([(one.id, (one.name, *one.aliases)) for one in concepts])
    yield from _shared([(one.id, (one.name, *one.aliases)) for one in goals])
    yield from _shared([(one.id, (one.title,)) for one in catalog.projects.values()])
    yield from _shared([(one.id, (one.name,)) for one in catalog.clusters.values()])


def _shared(named: Sequence[tuple[str, Sequence[str]]]) -> Iterator[str]:
    owners: defaultdict[str, list[str]] = defaultdict(list)
    for owner, names in named:
        for name in dict.fromkeys(name.casefold() for name in names):
            owners[name].append(owner)
    for name, several in owners.items():
        if len(several) > 1:
            yield f"“{name}” names {' and '.join(several)}: each name is for one."


def _bad_sentences(catalog: Catalog) -> Iterator[str]:
    stop = {"en": ".", "zh": "。"}[catalog.language]
    for concept in catalog.concepts.values():
        where = f"'{concept.id}' in {catalog.language}"
        for text in (concept.description, concept.why):
            if not text.endswith(stop):
                yield f"{where}: “{text}” is no sentence: it ends without “{stop}”."
        for phrase in (*concept.outcomes, *(edge.reason for edge in concept.requires)):
            if phrase.endswith(stop):
                yield f"{where}: “{phrase}” is part of a sentence: it ends with “{stop}”."
