"""The outline of a lesson in Markdown, written from what the catalog knows about a concept."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from shared import roadmap

from .catalog import MOST_CHOICES, Catalog, Concept, Requirement
from .voices import Voice, voice_of

MOST_REASONS = 2
"""A third reason convinces nobody whom two have not."""

Follower = tuple[Concept, Requirement]


MARKUP = re.compile(r"[*`<>\[\]]|__")
"""What Markdown would take for its own in ``*args``, ``p < 0.05`` or ``__init__``."""


def outline(catalog: Catalog, concept: Concept) -> str:
    """What it is, what for, after what, what to learn, how to practise, and where to read on."""
    voice = voice_of(catalog.language)
    sections = {
        voice.why_it_matters(): "\n\n".join(
            [plain(concept.why), _bullets(_reasons(catalog, concept))]
        ),
        voice.know_first(): _known_first(catalog, concept),
        voice.to_learn(): "\n\n".join(
            f"### {voice.titled(plain(outcome))}\n\n{voice.how_to_check(outcome)}"
            for outcome in concept.outcomes
        ),
        voice.practise(): _bullets(map(plain, concept.practice)),
        voice.read_on(): _bullets(
            f"[{plain(link.title)}]({link.url}) ({link.type})" for link in concept.resources
        ),
    }
    parts = [f"## {title}\n\n{body}" for title, body in sections.items()]
    return "\n\n".join([f"# {plain(concept.name)}", plain(concept.description), *parts]) + "\n"


def plain(text: str) -> str:
    """The text as Markdown that shows just that."""
    return MARKUP.sub(lambda found: "".join(f"\\{char}" for char in found[0]), text)


def closing_outline(voice: Voice, one: roadmap.Concept, practice: Sequence[str]) -> str:
    """Of a project or a review: what it is, what for, when it is done, and how to go about it."""
    texts = map(plain, (one.name, one.description, one.why))
    parts = ["# " + "\n\n".join(texts), _bullets(map(plain, one.outcomes))]
    if practice:
        parts += [f"## {voice.practise()}", _bullets(practice)]
    return "\n\n".join(parts) + "\n"


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _reasons(catalog: Catalog, concept: Concept) -> list[str]:
    """What builds on it, the earliest first; for what nothing builds on, the goals it serves."""
    followers = followers_in(catalog)[concept.id][:MOST_REASONS]
    if not followers:
        return _goals(catalog, concept)
    voice = voice_of(catalog.language)
    return [
        voice.needed_for_in_lesson(plain(one.name), plain(edge.reason), hard=edge.hard)
        for one, edge in followers
    ]


@lru_cache(MOST_CHOICES)
def followers_in(catalog: Catalog) -> dict[str, list[Follower]]:
    """Per concept what requires it: hard before soft, easy before difficult."""
    found: dict[str, list[Follower]] = {one: [] for one in catalog.concepts}
    for follower in catalog.concepts.values():
        for edge in follower.requires:
            found[edge.id].append((follower, edge))
    for followers in found.values():
        followers.sort(key=lambda link: (not link[1].hard, link[0].difficulty))
    return found


def _goals(catalog: Catalog, concept: Concept) -> list[str]:
    """The goals that target it: first where it is core, then where it is one of few."""
    goals = [goal for goal in catalog.goals.values() if concept.id in goal.targets.every]
    goals.sort(key=lambda goal: (concept.id not in goal.targets.core, len(goal.targets.core)))
    voice = voice_of(catalog.language)
    return [
        voice.part_of_goal(plain(goal.name), plain(goal.blurb)) for goal in goals[:MOST_REASONS]
    ]


def _known_first(catalog: Catalog, concept: Concept) -> str:
    voice = voice_of(catalog.language)
    if not concept.requires:
        return voice.begin_here()

    def name(one: str) -> str:
        return plain(catalog.concepts[one].name)

    return _bullets(
        voice.known_first(
            name(edge.id),
            [name(one) for one in catalog.members(edge) if one != edge.id],
            plain(edge.reason),
            hard=edge.hard,
        )
        for edge in sorted(concept.requires, key=lambda edge: not edge.hard)
    )
