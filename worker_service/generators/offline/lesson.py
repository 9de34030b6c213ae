"""The outline of a lesson in Markdown, written from what the catalog knows about a concept."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from .catalog import Catalog, Concept, Requirement

MOST_REASONS = 2
"""A third reason convinces nobody whom two have not."""

Follower = tuple[Concept, Requirement]


def outline(catalog: Catalog, concept: Concept) -> str:
    """What it is, what for, after what, what to learn, how to practise, and where to read on."""
    sections = {
        "Why it matters": _bullets(_reasons(catalog, concept)),
        "Know this first": _known_first(catalog, concept),
        "What to learn": "\n\n".join(_to_learn(outcome) for outcome in concept.outcomes),
        "Practise": _bullets(concept.practice),
        "Read on": _bullets(
            f"[{link.title}]({link.url}) ({link.type})" for link in concept.resources
        ),
    }
    parts = [f"## {title}\n\n{body}" for title, body in sections.items() if body]
    return "\n\n".join([f"# {concept.name}", concept.description, *parts]) + "\n"


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _reasons(catalog: Catalog, concept: Concept) -> list[str]:
    """What builds on it, the earliest first; for what nothing builds on, the goals it serves."""
    followers = _followers(catalog)[concept.id][:MOST_REASONS]
    return [_needed_for(*follower) for follower in followers] or _goals(catalog, concept)


@cache
def _followers(catalog: Catalog) -> dict[str, list[Follower]]:
    """Per concept what requires it: hard before soft, easy before difficult."""
    found: dict[str, list[Follower]] = {one: [] for one in catalog.concepts}
    for follower in catalog.concepts.values():
        for edge in follower.requires:
            found[edge.id].append((follower, edge))
    for followers in found.values():
        followers.sort(key=lambda link: (not link[1].hard, link[0].difficulty))
    return found


def _needed_for(follower: Concept, edge: Requirement) -> str:
    need = "Needed for" if edge.hard else "Helps with"
    return f"{need} **{follower.name}**: {edge.reason}."


def _goals(catalog: Catalog, concept: Concept) -> list[str]:
    """The goals that target it: first where it is core, then where it is one of few."""
    goals = [
        goal
        for goal in catalog.goals.values()
        if concept.id in goal.targets.core or concept.id in goal.targets.supporting
    ]
    goals.sort(key=lambda goal: (concept.id not in goal.targets.core, len(goal.targets.core)))
    return [f"Part of the goal **{goal.name}**. {goal.blurb}" for goal in goals[:MOST_REASONS]]


def _known_first(catalog: Catalog, concept: Concept) -> str:
    if not concept.requires:
        return "Nothing: you can begin here."
    return _bullets(
        f"**{catalog.concepts[edge.id].name}**{'' if edge.hard else ' (helps)'}: {edge.reason}."
        for edge in sorted(concept.requires, key=lambda edge: not edge.hard)
    )


def _to_learn(outcome: str) -> str:
    return f"### {outcome[0].upper()}{outcome[1:]}\n\nHow to check: {_check(outcome)}"


def _check(outcome: str) -> str:
    """How a learner finds out alone whether they can do it: by what kind of ability it is."""
    verb = outcome.split()[0].strip(",")
    if verb in FINDING:
        return "take an example that you have not seen before, and confirm the result another way."
    if any(word in outcome for word in PROMISES):
        return "do it once, then try in earnest to find a case in which it goes wrong."
    if verb in EXPLAINING:
        return "explain it aloud without notes. Where you get stuck is what to read again."
    if verb in JUDGING:
        return "write down three cases with your answer and its reason, and only then try them."
    if verb in SHAPING:
        return "let somebody ask about any part of the result: you have a reason for each."
    return "do it from an empty start, and again a few days later without looking anything up."


FINDING = {
    *("answer", "compute", "count", "extract", "find", "follow"),
    *("measure", "query", "read", "report", "summarise"),
}
PROMISES = (" without ", " so that ", " even ", " impossible ")
EXPLAINING = {"describe", "explain", "name"}
JUDGING = {"choose", "decide", "pick", "predict", "say", "spot", "state", "tell"}
SHAPING = {"define", "design", "draw", "map", "model", "sketch", "split"}
"""Words that tell the kind of ability, most of them first words; the rest is making and doing."""
