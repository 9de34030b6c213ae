"""The names by which goals and concepts are recognised, indexed once per catalog."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property

from .catalog import Catalog, Concept, Goal
from .sentence import GENERIC_WEIGHT
from .spelling import ngrams, stem
from .words import Lexicon, Token

LEAST_WEIGHT = 0.75
"""Of a word that many names use, such as Python."""

RARITY = 0.06
"""How much lighter a word gets with each e-fold of names that use it."""

Entry = Goal | Concept


@dataclass(frozen=True, slots=True, eq=False)
class Alias:
    """A name as the set of its stems.

    joined   it is a list of its own (HTML and CSS), so it needs the request for itself
    vague    it has generic words only, so it needs the request for itself too
    everyday its one telling word is ordinary English as well, or ordinary Chinese
    context  stems that may be said with it without asking for more
    place    of its entry in the catalog, which settles what nothing else does
    """

    entry: Entry
    place: int
    text: str
    stems: frozenset[str]
    joined: bool
    vague: bool
    everyday: bool
    context: frozenset[str]
    ngrams: frozenset[str]


class Index:
    """The aliases of a catalog with the weight of each word they use.

    It is the same for every language of the catalog: it holds the names of all of them.
    """

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self._entries: tuple[Entry, ...] = (*catalog.goals.values(), *catalog.concepts.values())
        self.lexicon = Lexicon(catalog.words, (n for one in self._entries for n in _names(one)))
        self._names = [
            [self.lexicon.name_tokens(name) for name in sorted(_names(one))]
            for one in self._entries
        ]
        self.weights = self._weighed()
        self.aliases = tuple(self._aliases())

    def exactly(self, tokens: Iterable[Token]) -> tuple[Entry, ...]:
        """The entries with this very name, stop words included (UNION ALL), goals first."""
        return tuple(self._by_name.get(spoken(tokens), ()))

    def within(self, stems: Iterable[str]) -> Iterator[Alias]:
        """The aliases of which every word is among ``stems``."""
        said = frozenset(stems)
        for one in sorted(said):
            yield from (alias for alias in self._by_stem.get(one, ()) if alias.stems <= said)

    def informative(self, stems: Iterable[str]) -> frozenset[str]:
        """Without the generic ones."""
        return frozenset(one for one in stems if self.weights.get(one) != GENERIC_WEIGHT)

    def stems(self, tokens: Iterable[Token]) -> frozenset[str]:
        return frozenset(
            one.stem for one in tokens if one.kind == "word" and not self.lexicon.says_nothing(one)
        )

    @cached_property
    def subjects(self) -> frozenset[str]:
        """The stems that name something alone."""
        telling = (self.informative(alias.stems) for alias in self.aliases)
        return frozenset(one for stems in telling if len(stems) == 1 for one in stems)

    def _weighed(self) -> Mapping[str, float]:
        """Generic words weigh little, and of the others those least that many names use."""
        named = (set(map(self.stems, names)) for names in self._names)
        uses = Counter(one for names in named for stems in names for one in stems)
        rarity = {one: max(LEAST_WEIGHT, 1 - RARITY * math.log(n)) for one, n in uses.items()}
        generic = map(stem, self.catalog.words.generic)
        return rarity | dict.fromkeys(generic, GENERIC_WEIGHT)

    def _aliases(self) -> Iterator[Alias]:
        said_with = self.catalog.words.said_with
        for place, (entry, names) in enumerate(zip(self._entries, self._names, strict=True)):
            said = said_with.get(entry.domain, ()) if isinstance(entry, Concept) else entry.context
            context = self.stems(token for one in said for token in self.lexicon.name_tokens(one))
            for stems, tokens in self._differing(names).items():
                yield self._alias(entry, place, stems, tokens, context)

    def _differing(self, names: Iterable[list[Token]]) -> dict[frozenset[str], list[Token]]:
        """The names that differ in more than the order of words; rather those that are no list.

        A name whose sense is in words that say nothing elsewhere (feature scaling, open data) is
        recognised as it stands only, see ``exactly``.
        """
        found: dict[frozenset[str], list[Token]] = {}
        for tokens in names:
            stems = self.stems(tokens)
            if len(self.informative(stems)) <= 1 and any(map(self._has_sense, tokens)):
                continue
            if stems and (stems not in found or self._is_list(found[stems])):
                found[stems] = tokens
        return found

    def _has_sense(self, token: Token) -> bool:
        words = self.catalog.words
        return token.text in words.stop and token.text not in words.joining

    def _alias(
        self,
        entry: Entry,
        place: int,
        stems: frozenset[str],
        tokens: list[Token],
        context: frozenset[str],
    ) -> Alias:
        telling = self.informative(stems)
        text = spoken(tokens)
        return Alias(
            entry=entry,
            place=place,
            text=text,
            stems=stems,
            joined=self._is_list(tokens),
            vague=not telling,
            everyday=len(telling) == 1 and telling <= self._everyday,
            context=context,
            ngrams=ngrams(text),
        )

    def _is_list(self, tokens: Iterable[Token]) -> bool:
        """Whether something divides its words: algorithms *and* data structures."""
        divided = [one.kind == "word" for one in tokens if one.kind != "word" or self.stems((one,))]
        return "wd" in "".join("w" if one else "d" for one in divided).rstrip("d")

    @cached_property
    def _everyday(self) -> frozenset[str]:
        return frozenset(map(stem, self.catalog.words.everyday))

    @cached_property
    def _by_name(self) -> Mapping[str, list[Entry]]:
        found: defaultdict[str, list[Entry]] = defaultdict(list)
        for entry, names in zip(self._entries, self._names, strict=True):
            for name in dict.fromkeys(map(spoken, names)):
                found[name].append(entry)
        return found

    @cached_property
    def _by_stem(self) -> Mapping[str, list[Alias]]:
        """Each alias under one of its stems, the rarest: so few have to be looked at."""
        found: defaultdict[str, list[Alias]] = defaultdict(list)
        for alias in self.aliases:
            found[min(alias.stems, key=lambda one: (-self.weights[one], one))].append(alias)
        return found


@cache
def index_of(catalog: Catalog) -> Index:
    """Built once per catalog: it takes far longer than a match."""
    return Index(catalog)


def _names(entry: Entry) -> tuple[str, ...]:
    return (entry.name, *entry.aliases)


def spoken(tokens: Iterable[Token]) -> str:
    """The words alone, without what divides them."""
    return " ".join(one.text for one in tokens if one.kind in ("word", "together"))
