"""Chinese without a dictionary: the words are those of the catalog, and what lies between them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .spelling import likeness, ngrams

ALIKE = 0.6
"""Likeness of bigrams from which a stretch of characters is a known word miswritten: of four
characters the first or the last may be wrong (机器学系), an inner one not."""

SHORTEST_MISWRITTEN = 4
"""Three characters with one wrong are as likely another word."""

WORD, CHARACTER = 1, 6
"""What a known word costs a reading; a known word of a single character (学, 的) is dearer, because
it is likelier a part of another (数学, 目的)."""

UNKNOWN, EACH = 10, 4
"""What an unknown stretch costs, and each character of it."""


@dataclass(frozen=True, slots=True)
class Piece:
    text: str
    known: bool


class Segmenter:
    """Cuts a run of characters into the known words that explain most of it, the longest first."""

    def __init__(self, vocabulary: Iterable[str]) -> None:
        self._known = frozenset(vocabulary)
        self._longest = max(map(len, self._known), default=1)
        self._by_bigram: defaultdict[str, set[str]] = defaultdict(set)
        for word in self._known:
            if len(word) >= SHORTEST_MISWRITTEN:
                for bigram in ngrams(word):
                    self._by_bigram[bigram].add(word)

    def cut(self, run: str) -> list[Piece]:
        """The cheapest reading; a miswritten word is put right first."""
        pieces = self._cheapest(run)
        mended = self._mended(run, pieces)
        return pieces if mended == run else self._cheapest(mended)

    def _cheapest(self, run: str) -> list[Piece]:
        """Dynamic programming over the ends of pieces, in time linear in the length of the run."""
        best: list[tuple[int, int, bool]] = [(0, 0, True)]  # cost, start of last piece, is it known
        stretch = (0, 0)  # the cheapest reading that ends in an unknown stretch: cost, its start
        for end in range(1, len(run) + 1):
            opened = best[end - 1][0] + UNKNOWN + EACH
            grown = stretch[0] + EACH
            stretch = (opened, end - 1) if end == 1 or opened < grown else (grown, stretch[1])
            options = [(stretch[0], stretch[1], False)]
            for start in range(max(0, end - self._longest), end):
                if run[start:end] in self._known:
                    price = WORD if end - start > 1 else CHARACTER
                    options.append((best[start][0] + price, start, True))
            best.append(min(options))
        return list(_pieces(run, best))

    def _mended(self, run: str, pieces: list[Piece]) -> str:
        """The run with an unknown stretch, and what adjoins it, read as a word it resembles."""
        start = 0
        for piece in pieces:
            end = start + len(piece.text)
            if not piece.known:
                for at in range(max(0, start - self._longest), end):
                    for word in self._resembling(run, at):
                        if at < end and at + len(word) > start:
                            return run[:at] + word + run[at + len(word) :]
            start = end
        return run

    def _resembling(self, run: str, at: int) -> Iterator[str]:
        candidates = {
            word
            for offset in range(at, min(at + self._longest, len(run) - 1))
            for word in self._by_bigram.get(run[offset : offset + 2], ())
        }
        for word in sorted(candidates, key=lambda one: (-len(one), one)):
            window = run[at : at + len(word)]
            if len(window) == len(word) and likeness(ngrams(window), ngrams(word)) >= ALIKE:
                yield word


def _pieces(run: str, best: list[tuple[int, int, bool]]) -> Iterator[Piece]:
    found = []
    end = len(run)
    while end:
        _, start, known = best[end]
        found.append(Piece(run[start:end], known))
        end = start
    return reversed(found)


def atoms(runs: Iterable[str], given: Iterable[str]) -> frozenset[str]:
    """The runs not made of shorter ones and ``given`` words: 数据结构, but not 数据结构面试."""
    found = set(given)
    for run in sorted(set(runs), key=lambda one: (len(one), one)):
        if len(run) > 1 and not _made_of(run, found):
            found.add(run)
    return frozenset(found)


def _made_of(run: str, words: set[str]) -> bool:
    reachable = {0}
    for end in range(1, len(run) + 1):
        if any(start in reachable and run[start:end] in words for start in range(end)):
            reachable.add(end)
    return len(run) in reachable
