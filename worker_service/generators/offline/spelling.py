"""How a word may be written: one form for many, and the slips that still mean it."""

from __future__ import annotations

import re
import unicodedata

SHORTEST_SLIP = 5
"""Shorter words have too many honest neighbours: rest and test, java and lava."""

SHORTEST_WRONG_LETTER = 7
"""From here on a letter may be wrong; in shorter words only too many, too few or swapped: react is
not reach, docker not docket."""

SHORTEST_TWO_SLIPS = 10

_PLAIN = str.maketrans({"‘": "'", "’": "'", "–": "-", "‐": "-", "‑": "-", "—": " ", "−": "-"})


def folded(text: str) -> str:
    """Lower case in compatible letters, without accents and what nobody sees (zero width, RTL).

    Only Latin letters lose their accents: to other scripts such marks are letters.
    """
    seen: list[str] = []
    for char in unicodedata.normalize("NFKD", text):
        accent = unicodedata.category(char) in ("Mn", "Me") and (not seen or seen[-1].isascii())
        if not accent and unicodedata.category(char) != "Cf":
            seen.append(char)
    return unicodedata.normalize("NFKC", "".join(seen)).casefold().translate(_PLAIN)


def stem(word: str) -> str:
    """A light stem: plural s, -ing and a silent e go ("caching", "caches", "cache" → "cach")."""
    if word.endswith("ies") and len(word) > 4:
        word = word[:-3] + "y"
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3:
        word = word[:-1]
    if word.endswith("ing") and len(word) > 5 and re.search("[aeiouy]", word[:-3]):
        word = word[:-3]
        if word[-1] == word[-2] and word[-1] not in "lsz":
            word = word[:-1]
    return word[:-1] if word.endswith("e") and len(word) > 4 else word


def opening(word: str) -> str:
    """What a slip leaves alone: the first two letters, in either order (pedantic, pydantic)."""
    return "".join(sorted(word[:2]))


def is_slip(word: str, known: str) -> bool:
    """Whether ``word`` is ``known`` with a slip of the finger, or with its inner letters jumbled.

    Both are expected to share their ``opening``, but for jumbled ones.
    """
    if min(len(word), len(known)) < SHORTEST_SLIP:
        return False
    if is_jumbled(word, known):
        return True
    most = 2 if len(known) >= SHORTEST_TWO_SLIPS else 1
    if abs(len(word) - len(known)) > most or opening(word) != opening(known):
        return False
    if len(known) < SHORTEST_WRONG_LETTER and len(word) == len(known):
        return False  # a swap is jumbled; what is left is a wrong letter
    return edit_distance(word, known) <= most


def is_jumbled(word: str, known: str) -> bool:
    """The same letters with the first and the last in place: phyton, pyhton."""
    return word[0] == known[0] and word[-1] == known[-1] and sorted(word) == sorted(known)


def edit_distance(one: str, other: str) -> int:
    """Insertions, deletions, substitutions and swaps of neighbours that turn one into the other."""
    before_last: list[int] = []
    last = list(range(len(other) + 1))
    for i, a in enumerate(one, start=1):
        row = [i]
        for j, b in enumerate(other, start=1):
            row.append(min(last[j] + 1, row[-1] + 1, last[j - 1] + (a != b)))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                row[j] = min(row[j], before_last[j - 2] + 1)
        before_last, last = last, row
    return last[-1]


def ngrams(text: str) -> frozenset[str]:
    """Trigrams of an alphabetic text with its edges, bigrams of a Chinese one.

    Two Chinese characters say as much as five letters.
    """
    if not text.isascii():
        return frozenset(text[i : i + 2] for i in range(len(text) - 1)) or frozenset({text})
    padded = f"  {text} "
    return frozenset(padded[i : i + 3] for i in range(len(padded) - 2))


def likeness(one: frozenset[str], other: frozenset[str]) -> float:
    """Dice coefficient of two sets of n-grams, 0 to 1."""
    return 2 * len(one & other) / (len(one) + len(other)) if one and other else 0.0
