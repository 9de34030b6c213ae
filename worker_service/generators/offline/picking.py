"""Which names of the catalog a request is made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from .aliases import Alias, Entry, Index
from .catalog import Goal
from .sentence import GENERIC_WEIGHT, Sentence, Word

THRESHOLD = 0.65
"""Share of a request's weight that the names found in it must explain."""

MOST_PICKS = 12
"""Names looked for in one request: the fourth is no goal of the plan, but it was understood."""


@dataclass(frozen=True, slots=True)
class Pick:
    """A name that stands in ``part`` of the request, or all over it (None)."""

    alias: Alias
    part: int | None
    weight: float

    def explains(self, word: Word) -> bool:
        """Its own words where it stands, its context beside it, and anywhere if it is wide."""
        if word.stem in self.alias.stems:
            return self._stands_by(word)
        anywhere = is_wide(self.alias.entry)
        return word.stem in self.alias.context and (anywhere or self._stands_by(word))

    def is_made_of(self, word: Word) -> bool:
        return word.stem in self.alias.stems and self._stands_by(word)

    def _stands_by(self, word: Word) -> bool:
        return self.part in (None, word.part)


class Picking:
    """Picks names until none explains more; ``open`` are the words that nothing explains then."""

    def __init__(self, index: Index, sentence: Sentence, *, topic: bool = False) -> None:
        self.picks: list[Pick] = []
        self.open: list[Word] = list(sentence.words)
        self._index = index
        self._sentence = sentence
        self._topic = topic
        self._free = list(sentence.words)  # of no name yet: of two names context may be a part
        while len(self.picks) < MOST_PICKS and (pick := self._best()):
            self.picks.append(pick)
            self.open = [word for word in self.open if not pick.explains(word)]
            self._free = [word for word in self._free if not pick.is_made_of(word)]

    @property
    def is_enough(self) -> bool:
        """Whether enough is explained, and nothing is named that is not taught."""
        if not self.picks or 1 - weight_of(self.open) / self.total < THRESHOLD:
            return False
        unexplained = {word.stem for word in self.open}
        return not any(stems & unexplained for _, _, stems in self._sentence.strange)

    @cached_property
    def total(self) -> float:
        return weight_of(self._sentence.words)

    def in_order(self) -> list[Pick]:
        """One pick per entry, in the order of the request."""
        stems = [word.stem for word in self._sentence.words]
        first = sorted(self.picks, key=lambda one: min(map(stems.index, one.alias.stems)))
        each = {pick.alias.entry.id: pick for pick in reversed(first)}
        return sorted(each.values(), key=first.index)

    def beyond(self, entries: Iterable[Entry]) -> tuple[str, ...]:
        """The telling words that none of these entries explains."""
        kept = {entry.id for entry in entries}
        picks = [pick for pick in self.picks if pick.alias.entry.id in kept]
        words = [
            word
            for word in self._sentence.words
            if word.weight > GENERIC_WEIGHT or word.purpose
            if not any(pick.explains(word) for pick in picks)
        ]
        telling = self._index.informative(word.stem for word in words)
        return tuple(dict.fromkeys(word.text for word in words if word.stem in telling))

    def _best(self) -> Pick | None:
        """The name that explains most; in a tie goals come first, then what is listed first."""
        best: Pick | None = None
        for pick in self._options():
            if best is None or _rank(pick) > _rank(best):
                best = pick
        return best

    def _options(self) -> Iterator[Pick]:
        for part in sorted({word.part for word in self.open}):
            yield from self._among([word for word in self._free if word.part == part], part)
        if not self.picks:
            yield from self._among(self._free, None)

    def _among(self, words: Sequence[Word], part: int | None) -> Iterator[Pick]:
        for alias in self._index.within(word.stem for word in words):
            said = [word for word in words if word.stem in alias.stems]
            rest = [word for word in words if word.stem not in alias.stems and word in self.open]
            if self._topic and is_wide(alias.entry):
                continue
            if not any(word in self.open for word in said):
                continue
            if self.picks and all(word.purpose for word in said):
                continue
            if self._fits(alias, rest, whole=part is None):
                yield Pick(alias, part, weight_of(said))

    def _fits(self, alias: Alias, rest: Sequence[Word], *, whole: bool) -> bool:
        """Whether the name may stand beside the ``rest`` of its part, or of the whole request."""
        if alias.vague:
            alone = whole or len(alias.stems) > 1  # "… and system design" is clear, "… and web" not
            return alone and not any(word.weight for word in rest)
        if alias.joined:
            telling = self._index.informative(word.stem for word in rest if not word.purpose)
            return whole and not telling
        if alias.everyday:
            return not whole and all(self._is_aside(word, alias) for word in rest)
        return not whole

    def _is_aside(self, word: Word, alias: Alias) -> bool:
        """Context, or what for. "To" leads to that only with a subject: commit *to a relation*."""
        if word.stem in alias.context:
            return True
        subject = word.stem in self._index.subjects or not self._index.informative((word.stem,))
        return word.purpose and (word.led_by != "to" or subject)


def is_wide(entry: Entry) -> bool:
    """A role, an exam or a project: its context may stand anywhere in the request."""
    return isinstance(entry, Goal) and entry.kind != "skill"


def weight_of(words: Iterable[Word]) -> float:
    """Of each word once, however often it is said."""
    weights: dict[str, float] = {}
    for word in words:
        weights[word.stem] = max(word.weight, weights.get(word.stem, 0.0))
    return sum(weights.values())


def _rank(pick: Pick) -> tuple[float, bool, bool, int]:
    entry = pick.alias.entry
    return (
        round(pick.weight, 6),
        isinstance(entry, Goal),
        not is_wide(entry),
        -pick.alias.place,
    )
