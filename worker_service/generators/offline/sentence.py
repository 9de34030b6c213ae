"""What a request says: its words with their weight, in parts, and what it does not want."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from .catalog import Elsewhere
from .words import Lexicon, Token

GENERIC_WEIGHT = 0.15
"""Of words such as "developer": they choose between goals and never make a match on their own."""

UNKNOWN_WEIGHT = 1.0
"""As much as the rarest known word; Chinese that is unknown weighs it for every two characters."""

PURPOSE_WEIGHT = 0.25
"""Factor for words that say what for: "SQL *for my hospital*"."""

LONGEST_AUDIENCE = 4
"""Words of "a senior Java developer"."""

LONGEST_LOOK = 12
"""Tokens in which "or" may still follow "without", and 还 may still follow 除了."""


@dataclass(frozen=True, slots=True)
class Word:
    """As written and as compared; ``weight`` is what it counts, in ``part`` of the request.

    ``led_by``: the word that turned to a purpose before it, such as "for", if any.
    """

    text: str
    stem: str
    weight: float
    part: int
    led_by: str = ""

    @property
    def purpose(self) -> bool:
        return bool(self.led_by)


@dataclass(frozen=True, slots=True)
class Sentence:
    """``strange``: what it names that is not taught, with the words and the stems that say so."""

    tokens: tuple[Token, ...]
    words: tuple[Word, ...]
    unwanted: tuple[str, ...]
    strange: tuple[tuple[Elsewhere, str, frozenset[str]], ...]


def read(lexicon: Lexicon, weights: Mapping[str, float], text: str) -> Sentence:
    """Negated parts are cut out first; what is left is weighed word by word."""
    tokens = lexicon.tokens(text)
    wanted, unwanted = _split(lexicon, tokens)
    weighing = _Weighing(lexicon, weights, wanted)
    weighing.run()
    said = weighing.tokens
    strange = tuple(
        (one, " ".join(said[at].text for at in places), frozenset(said[at].stem for at in places))
        for one, places in lexicon.elsewhere(said)
    )
    return Sentence(tuple(tokens), tuple(weighing.words), unwanted, strange)


# --- what is not wanted -------------------------------------------------------------------------


def _split(lexicon: Lexicon, tokens: Sequence[Token]) -> tuple[list[Token], tuple[str, ...]]:
    """The tokens of what is wanted, and the phrases after "without", "no", 不要."""
    words = lexicon.words
    wanted: list[Token] = []
    phrases: list[list[Token]] = []
    negating = False
    for place, token in enumerate(tokens):
        rest = tokens[place + 1 : place + LONGEST_LOOK]
        if _adds(lexicon, token, rest):
            continue
        if token.text in words.without:
            negating = True
            phrases.append([])
        elif not negating:
            wanted.append(token)
        elif _ends_negation(lexicon, token, rest):
            negating = False
            wanted.append(Token(token.text, "end"))
        elif token.kind == "word":
            phrases[-1].append(token)
        else:
            phrases.append([])
    return wanted, tuple(filter(None, (_phrase(lexicon, one) for one in phrases)))


def _adds(lexicon: Lexicon, token: Token, rest: Sequence[Token]) -> bool:
    """除了 excludes (除了 CSS), unless more follows: 除了 Python 还想学 SQL."""
    words = lexicon.words
    return token.text in words.besides and any(one.text in words.also for one in rest)


def _ends_negation(lexicon: Lexicon, token: Token, rest: Sequence[Token]) -> bool:
    """A comma does, unless an "or" still follows: "without Docker, Helm or Terraform"."""
    words = lexicon.words
    if token.kind == "comma":
        sentence = rest[: next((i for i, one in enumerate(rest) if one.kind == "end"), len(rest))]
        return not any(one.text in words.alternatively for one in sentence)
    return token.kind == "end" or token.text in words.wanting


def _phrase(lexicon: Lexicon, tokens: Sequence[Token]) -> str:
    """Empty if it says what the learner has not ("no experience") instead of what to leave out."""
    if any(one.text in lexicon.words.background for one in tokens):
        return ""
    return " ".join(one.text for one in tokens if not lexicon.says_nothing(one))


# --- what is wanted -----------------------------------------------------------------------------


@dataclass(slots=True)
class _Weighing:
    """Goes through the tokens once. After "for", "to" or "because" words count less.

    They do so once a subject stands; 为了 may come before it. "For Java developers" says who
    learns: such an audience is not counted at all.
    """

    lexicon: Lexicon
    weights: Mapping[str, float]
    wanted: Sequence[Token]
    tokens: list[Token] = field(default_factory=list)
    words: list[Word] = field(default_factory=list)
    part: int = 0
    led_by: str = ""
    subject: bool = False

    def run(self) -> None:
        place = 0
        while place < len(self.wanted):
            token = self.wanted[place]
            place += 1
            if token.kind != "word":
                self._divide(token)
            elif token.text in self.lexicon.words.for_whom and (
                skipped := self._audience(self.wanted[place : place + LONGEST_AUDIENCE])
            ):
                place += skipped
            elif not self._is_turn(token) and not self.lexicon.says_nothing(token):
                self._weigh(token)

    def _divide(self, token: Token) -> None:
        self.part += 1
        if token.kind != "together":
            self.led_by = ""

    def _is_turn(self, token: Token) -> bool:
        """Whether the word turns to a purpose."""
        words = self.lexicon.words
        if token.text in words.learning and not self.subject:
            self._begin_anew(token)
        turns = token.text in words.purpose and (self.subject or token.text in words.purpose_first)
        if turns:
            self.led_by = token.text
        return turns

    def _begin_anew(self, verb: Token) -> None:
        """Whatever came before "learn" and names no subject says who learns, or what for."""
        self.led_by = ""
        self.words = [replace(one, weight=0.0, led_by=verb.text) for one in self.words]

    def _weigh(self, token: Token) -> None:
        known = self.weights.get(token.stem)
        size = max(1.0, len(token.text) / 2) if not token.text.isascii() else 1.0
        weight = UNKNOWN_WEIGHT * size if known is None else known
        if self.led_by:
            weight *= PURPOSE_WEIGHT
        elif known is not None and known > GENERIC_WEIGHT:
            self.subject = True
        self.tokens.append(token)
        self.words.append(Word(token.text, token.stem, weight, self.part, self.led_by))

    def _audience(self, rest: Sequence[Token]) -> int:
        """How many words name the audience; none if what they name is a goal, for data analysts."""
        words = self.lexicon.words
        for length, token in enumerate(rest, start=1):
            if token.text in words.audience:
                said = rest[:length]
                ours = any(self.weights.get(one.stem, 0) > GENERIC_WEIGHT for one in said)
                foreign = any(True for _ in self.lexicon.elsewhere(said))
                return length if foreign or not ours else 0
        return 0
