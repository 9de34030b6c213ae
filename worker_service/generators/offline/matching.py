"""From a learner's words to goals and concepts of the catalog, or to an honest refusal.

A request is read as a set of words, whatever its language. Stop words vanish, generic words weigh
little, rare words weigh most, and a word that the catalog has never seen weighs as much as the
rarest. A name matches when all its words stand in one part of the request. The name that explains
most comes first, then what explains the rest, and the match stands only if together they explain
``picking.THRESHOLD`` of the weight: "SQL for my job" does, "become a test pilot" does not. A wrong
plan is worse than a refusal.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import refusing
from .aliases import Entry, Index, index_of, spoken
from .catalog import Catalog, Goal
from .picking import Picking, is_wide
from .sentence import Sentence, read
from .spelling import edit_distance, stem
from .themes import built_on, key, theme, titled

__all__ = [
    "Entry",
    "Heard",
    "Match",
    "edit_distance",
    "match_goal",
    "match_topic",
    "nearest_goals",
    "normalise",
    "stem",
]

MOST_GOALS = 3
"""Goals that a plan combines; a plan for more is a plan for none."""

MOST_LOST = 2 / 3
"""Share of its core that a goal may lose to what the learner does not want."""


@dataclass(frozen=True, slots=True)
class Heard:
    """Why an entry was matched: the name that was heard, and its share of what was said, 0 to 1."""

    alias: str
    entry_id: str
    score: float


@dataclass(frozen=True, slots=True)
class Match:
    """What a request names, and the words of it that no goal explains."""

    entries: tuple[Entry, ...]
    ignored: tuple[str, ...] = ()
    unwanted: tuple[str, ...] = ()
    heard: tuple[Heard, ...] = ()


def match_goal(catalog: Catalog, text: str) -> Match:
    """The goals and single concepts that a request names; raises GoalNotCovered if it names none.

    Negated parts ("without Docker") come back as ``unwanted``; a goal that comes to little without
    the unwanted ("back end without Python") is no match.
    """
    index = index_of(catalog)
    sentence = _read(index, text)
    found = _named(index, sentence) or _heard(index, sentence)
    if found is None:
        left = Picking(index, sentence).open
        raise refusing.refusal(index, text, sentence, refusing.reason(index, text, sentence, left))
    lost = _lost(index, found)
    if lost is not None:
        reason = refusing.cannot_do_without(index, text, sentence, lost)
        raise refusing.refusal(index, text, sentence, reason, lost)
    return found


def match_topic(catalog: Catalog, text: str, *, known: bool = False) -> frozenset[str] | None:
    """The concepts that "Docker", "frameworks" or the id of a concept stands for.

    A theme that is ``known`` stands for less than the same theme excluded: see Group.

    A skill stands for its core. Roles, exams and projects are too wide to be a topic: nobody
    excludes "backend developer".
    """
    if text in catalog.concepts:
        return frozenset({text})
    index = index_of(catalog)
    if concepts := theme(index, text, known=known):
        return concepts
    sentence = _read(index, text)
    found = _named(index, sentence, topic=True) or _heard(index, sentence, topic=True)
    if found is None:
        return titled(index, text) or None
    return frozenset(one for entry in found.entries for one in _meant_by(entry))


def nearest_goals(catalog: Catalog, text: str) -> list[str]:
    """Five goal names, the likeliest first."""
    index = index_of(catalog)
    return refusing.nearest(index, _read(index, text))


def normalise(catalog: Catalog, text: str) -> str:
    """Lower case, plain quotes and hyphens, simplified characters, one spelling per word."""
    return index_of(catalog).lexicon.normalise(text)


def _read(index: Index, text: str) -> Sentence:
    return read(index.lexicon, index.weights, text)


def _named(index: Index, sentence: Sentence, *, topic: bool = False) -> Match | None:
    """The request is a name, but for words before it that say nothing: "how to learn UNION ALL"."""
    tokens = sentence.tokens
    for start in range(len(tokens)):
        for entry in index.exactly(tokens[start:]):
            if not (topic and is_wide(entry)):
                return Match((entry,), heard=(Heard(spoken(tokens[start:]), entry.id, 1.0),))
        if not index.lexicon.says_nothing(tokens[start]):
            return None
    return None


def _heard(index: Index, sentence: Sentence, *, topic: bool = False) -> Match | None:
    """The first three entries whose names stand in it; the others are ignored like unknown words.

    None if nothing is named, too much stays unexplained, or what is not taught is named.
    """
    picking = Picking(index, sentence, topic=topic)
    if not picking.is_enough:
        return None
    picks = picking.in_order()[:MOST_GOALS]
    entries = tuple(one.alias.entry for one in picks)
    return Match(
        entries,
        picking.beyond(entries),
        sentence.unwanted,
        tuple(
            Heard(one.alias.text, one.alias.entry.id, round(one.weight / picking.total, 2))
            for one in picks
        ),
    )


def _meant_by(entry: Entry) -> tuple[str, ...]:
    return entry.targets.core if isinstance(entry, Goal) else (entry.id,)


def _lost(index: Index, match: Match) -> Entry | None:
    """The entry that what is not wanted leaves too little of, or that it names, if any.

    "Back end without Python" leaves much of the back end with Python, but not in Python.
    """
    if not match.unwanted:
        return None
    catalog = index.catalog
    topics = (match_topic(catalog, one) or frozenset() for one in match.unwanted)
    gone = built_on(catalog, frozenset[str]().union(*topics))
    unwanted = key(index, " ".join(match.unwanted))
    for entry in match.entries:
        named = index.informative(map(stem, entry.id.split("-")))
        core = _meant_by(entry)
        if named & unwanted or sum(one in gone for one in core) > MOST_LOST * len(core):
            return entry
    return None
