"""Themes that no goal is named after, and what falls with a thing that is left out."""

from __future__ import annotations

from collections.abc import Iterable

from .aliases import Index
from .catalog import Catalog, Concept


def theme(index: Index, text: str, *, known: bool) -> frozenset[str]:
    """The concepts of a group of words.yaml, if the text is a name of it: "frameworks"."""
    said = key(index, text)
    means = (
        (known and group.knows) or group.means
        for group in index.catalog.words.groups
        if said and any(key(index, name) == said for name in group.names)
    )
    return _members(index.catalog, next(means, ()))


def titled(index: Index, text: str) -> frozenset[str]:
    """The concepts of a cluster, or the alternatives, whose id the text is in words."""
    said, catalog = key(index, text), index.catalog
    ids = (*catalog.clusters, *catalog.alternatives)
    return _members(
        catalog, [one for one in ids if said and key(index, one.replace("-", " ")) == said]
    )


def key(index: Index, text: str) -> frozenset[str]:
    """By which two texts are compared: their stems in any order."""
    return index.stems(index.lexicon.tokens(text))


def built_on(catalog: Catalog, ids: frozenset[str]) -> frozenset[str]:
    """The concepts with everything that cannot be learned without them, whatever is chosen."""
    found = set(ids)
    grown = bool(found)
    while grown:
        more = {one.id for one in catalog.concepts.values() if _falls(catalog, one, found)} - found
        found |= more
        grown = bool(more)
    return frozenset(found)


def _members(catalog: Catalog, ids: Iterable[str]) -> frozenset[str]:
    wanted = frozenset(ids)
    alternatives = (one.members for one in catalog.alternatives.values() if one.id in wanted)
    concepts = catalog.concepts.values()
    return frozenset[str]().union(
        (one.id for one in concepts if one.id in wanted or one.cluster in wanted), *alternatives
    )


def _falls(catalog: Catalog, concept: Concept, gone: set[str]) -> bool:
    """Whether something it needs is gone, or every alternative for it."""
    return any(edge.hard and gone.issuperset(catalog.members(edge)) for edge in concept.requires)
