"""The words of requests: cut out of a text, put into one spelling, and mended."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from .catalog import Elsewhere, Words
from .segmenting import Segmenter, atoms
from .spelling import edit_distance, folded, is_jumbled, is_slip, opening, stem

MOST_SLIPS = 8
"""Unknown words of a text that are tried as typing errors; who has more did not mistype."""

SHORTEST_SLIP_OF_STOP_WORD = 7
"""Short ones are like too many words, and whatever becomes one of them is not missed any more."""

MOST_JOINED = 3
"""Words of an alias that may be written as one."""

HAN = "\u3400-\u4dbf\u4e00-\u9fff"
_LETTER = rf"(?:(?![{HAN}])[^\W_])"
_TOKEN = re.compile(
    rf"(?P<han>[{HAN}]+)"
    rf"|(?P<word>{_LETTER}+(?:['.]{_LETTER}+)*(?:(?:\+\+|#)(?!\w))?)"
    r"|(?P<comma>,)|(?P<together>[、&+])|(?P<end>[.;:!?()\n。；|]|\s-\s)"
)


@dataclass(frozen=True, slots=True)
class Token:
    """A word, or what divides words: a comma, an end of a sentence, an "and" (``together``)."""

    text: str
    kind: Literal["word", "comma", "together", "end"] = "word"

    @property
    def stem(self) -> str:
        return stem(self.text)


class Lexicon:
    """Every word that a catalog knows, from its names and from words.yaml."""

    def __init__(self, words: Words, names: Iterable[str]) -> None:
        self.words = words
        self._simplified = str.maketrans(words.simplified)
        raw = {name: self._raw(name) for name in names}
        runs = [text for tokens in raw.values() for kind, text in tokens if kind == "han"]
        given = words.generic | words.together | words.joining
        self._segmenter = Segmenter(atoms(runs, filter(_is_han, given)) | self._listed())
        self._names = {name: self._tokens(one) for name, one in raw.items()}
        tokens = [token for names in self._names.values() for token in names]
        self._content = {one.text for one in tokens if one.kind == "word"}

    def normalise(self, text: str) -> str:
        """Lower case, plain quotes, simplified characters, one spelling per word."""
        plain = folded(text).translate(self._simplified)
        return self._spellings.sub(lambda hit: self.words.same[hit[0]], plain)

    def tokens(self, text: str) -> list[Token]:
        """The tokens of a request, with its typing errors mended."""
        slips = 0
        found: list[Token] = []
        for token in self._tokens(self._raw(text)):
            if token.kind != "word" or self._knows(token):
                found.append(token)
            else:
                slips += 1
                found.extend(self._mended(token) if slips <= MOST_SLIPS else (token,))
        return found

    def name_tokens(self, name: str) -> list[Token]:
        """The tokens of a name of ours, taken as it is written."""
        return self._names.get(name) or self._tokens(self._raw(name))

    def says_nothing(self, token: Token) -> bool:
        """Numbers too: "Python 3" and "in 6 weeks" ask for nothing by them."""
        return token.text in self.words.silent or token.text.replace(".", "").isdigit()

    def elsewhere(self, tokens: Sequence[Token]) -> Iterator[tuple[Elsewhere, range]]:
        """What the tokens name that is not taught, with their places."""
        stems = [one.stem for one in tokens]
        for start in range(len(stems)):
            for end in range(start + 1, min(start + MOST_JOINED, len(stems)) + 1):
                if found := self._elsewhere.get(tuple(stems[start:end])):
                    yield found, range(start, end)

    def _raw(self, text: str) -> list[tuple[str, str]]:
        """Kind and text of each token, Chinese still uncut."""
        return [(hit.lastgroup or "", hit[0]) for hit in _TOKEN.finditer(self.normalise(text))]

    def _tokens(self, raw: Iterable[tuple[str, str]]) -> list[Token]:
        return [token for kind, text in raw for token in self._cut(kind, text)]

    def _cut(self, kind: str, text: str) -> Iterator[Token]:
        if kind == "han":
            for piece in self._segmenter.cut(text):
                yield self._word(piece.text)
        elif kind == "word":
            yield self._word(text.removesuffix("'s"))
        elif kind == "comma":
            yield Token(text, "comma")
        else:
            yield Token(text, "together" if kind == "together" else "end")

    def _word(self, text: str) -> Token:
        return Token(text, "together" if text in self.words.together else "word")

    def _knows(self, token: Token) -> bool:
        text = token.text
        return _is_han(text) or text in self._vocabulary or token.stem in self._stems

    def _mended(self, token: Token) -> Iterable[Token]:
        """What the word was meant to be: two words written as one, or one with a slip."""
        text = token.text
        if apart := self._joined.get(text):
            return apart
        near = {one for one in self._by_letters.get(_letters(text), ()) if is_jumbled(text, one)}
        near |= {one for one in self._by_opening.get(opening(text), ()) if is_slip(text, one)}
        if near:
            return self._tokens(
                self._raw(min(near, key=lambda one: (edit_distance(text, one), one)))
            )
        return (token,)

    @cached_property
    def _spellings(self) -> re.Pattern[str]:
        longest_first = sorted(self.words.same, key=lambda one: (-len(one), one))
        bounded = (
            re.escape(one) if _is_han(one) else rf"(?<![a-z0-9_-]){re.escape(one)}(?![a-z0-9_-])"
            for one in longest_first
        )
        return re.compile("|".join(bounded) or "(?!)")

    @cached_property
    def _vocabulary(self) -> frozenset[str]:
        return frozenset(self._content) | self._listed(han=False)

    @cached_property
    def _stems(self) -> frozenset[str]:
        return frozenset(map(stem, self._vocabulary))

    @cached_property
    def _joined(self) -> dict[str, list[Token]]:
        """Names of several words by how they look without the spaces."""
        return {
            "".join(one.text for one in tokens): tokens
            for tokens in self._names.values()
            if 2 <= len(tokens) <= MOST_JOINED
            and all(one.kind == "word" and one.text.isascii() for one in tokens)
        }

    @cached_property
    def _mendable(self) -> frozenset[str]:
        words = self.words
        stop = {one for one in words.stop if len(one) >= SHORTEST_SLIP_OF_STOP_WORD}
        return frozenset(one for one in self._vocabulary - words.stop | stop if one.isascii())

    @cached_property
    def _by_opening(self) -> dict[str, list[str]]:
        return _grouped(self._mendable, opening)

    @cached_property
    def _by_letters(self) -> dict[str, list[str]]:
        return _grouped(self._mendable, _letters)

    @cached_property
    def _elsewhere(self) -> dict[tuple[str, ...], Elsewhere]:
        return {
            tuple(one.stem for one in self._tokens(self._raw(name))): elsewhere
            for elsewhere in self.words.elsewhere
            for name in elsewhere.names
        }

    def _listed(self, *, han: bool = True) -> frozenset[str]:
        """The single words of words.yaml, Chinese ones or the others."""
        words = self.words
        lists = (*(one.names for one in words.elsewhere), *(one.names for one in words.groups))
        names = (name for one in lists for name in one)
        listed = words.plain.union(*(self._parts(name) for name in names))
        return frozenset(one for one in listed if _is_han(one) is han)

    def _parts(self, name: str) -> list[str]:
        return [text for kind, text in self._raw(name) if kind in ("han", "word")]


def _is_han(text: str) -> bool:
    return not text.isascii() and re.match(f"[{HAN}]", text) is not None


def _letters(word: str) -> str:
    return "".join(sorted(word))


def _grouped(words: Iterable[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    grouped: defaultdict[str, list[str]] = defaultdict(list)
    for word in sorted(words):
        grouped[key(word)].append(word)
    return dict(grouped)
