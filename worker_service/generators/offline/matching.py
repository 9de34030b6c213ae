"""From a learner's words to goals and concepts of the catalog, or to an honest refusal.

A request is read as a set of words. Stop words vanish, generic words weigh little, rare words
weigh most, and a word that the catalog has never seen weighs as much as the rarest. An alias
matches when all its words are there. Up to three goals are picked, the one that explains most of
the request first, and the match stands only if together they explain ``THRESHOLD`` of its weight:
"SQL for my job" does, "become a test pilot" does not. A wrong plan is worse than a refusal.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

from shared.errors import GoalNotCovered

from .catalog import Catalog, Concept, Goal

THRESHOLD = 0.65
"""Share of a request's weight that the chosen goals must explain."""

MOST_GOALS = 3
NEAREST = 5

SIMILAR_SPELLING = 0.3
"""Trigram similarity from which a goal's spelling counts when the nearest ones are listed."""

GENERIC_WEIGHT = 0.15
PURPOSE_WEIGHT = 0.25
"""Factor for words that say what for: "SQL *for my hospital*"."""

TYPO_LENGTH = 6
"""Shorter words have too many honest neighbours: shelf and shell, panda and pandas."""

Entry = Goal | Concept


@dataclass(frozen=True, slots=True)
class Match:
    """What a request names, and the words of it that no goal explains."""

    entries: tuple[Entry, ...]
    ignored: tuple[str, ...] = ()
    unwanted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Word:
    """A word of the request: as written, as compared, and how much it counts."""

    text: str
    stem: str
    weight: float
    purpose: bool


@dataclass(frozen=True, slots=True)
class Alias:
    entry: Entry
    stems: frozenset[str]


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """The aliases of a catalog with the weight of each word they use."""

    catalog: Catalog
    aliases: tuple[Alias, ...]
    weights: dict[str, float]
    everyday: frozenset[str]


def match_goal(catalog: Catalog, text: str) -> Match:
    """The goals and single concepts that a request names; raises GoalNotCovered if it names none.

    Negated parts ("without Docker") are cut out first and come back as ``unwanted``; a goal that
    takes the unwanted for granted ("back end without Python") is no match.
    """
    wanted, unwanted = _split_unwanted(catalog, text)
    found = _match(_index(catalog), wanted)
    refused = _stems(catalog, " ".join(unwanted))
    if found is None or any(
        isinstance(entry, Goal) and refused & _context(entry) for entry in found.entries
    ):
        raise GoalNotCovered(text, nearest_goals(catalog, text))
    return Match(found.entries, found.ignored, unwanted)


def match_topic(catalog: Catalog, text: str) -> frozenset[str] | None:
    """The concepts that "Docker", "list comprehensions" or the id of a concept stands for.

    Roles and projects are too wide to be a topic: nobody excludes "backend developer".
    """
    if text in catalog.concepts:
        return frozenset({text})
    found = _match(_index(catalog), normalise(catalog, text), topic=True)
    if found is None:
        return None
    return frozenset(one for entry in found.entries for one in _meant_by(entry))


def nearest_goals(catalog: Catalog, text: str) -> list[str]:
    """Five goal names, the likeliest first.

    By the words they share and by spelling, then by what is akin to the things we do not teach
    ("javascript" comes near web APIs), then as listed.
    """
    index = _index(catalog)
    plain = normalise(catalog, text)
    words = _words(index, plain)
    kin = frozenset(_akin(catalog, plain, words))
    ours = [word for word in words if catalog.words.akin_to(word.text) is None]
    said = _shared_words(index, frozenset(word.stem for word in ours))
    akin = _shared_words(index, _stems(catalog, " ".join(sorted(kin))))
    spelled = " ".join(word.text for word in ours)

    def closeness(goal: Goal) -> tuple[float, float]:
        spelling = max(_trigram_similarity(spelled, name) for name in _names(goal))
        likeness = spelling / 2 if spelling >= SIMILAR_SPELLING else 0.0
        return -said[goal.id] - likeness, -akin[goal.id]

    return [goal.name for goal in sorted(catalog.goals.values(), key=closeness)[:NEAREST]]


def _shared_words(index: Index, stems: frozenset[str]) -> defaultdict[str, float]:
    """Per goal the share of weight that its closest alias has in common with ``stems``."""
    shared: defaultdict[str, float] = defaultdict(float)
    for alias in index.aliases:
        if isinstance(alias.entry, Goal):
            common = sum(index.weights[one] for one in stems & alias.stems)
            every = sum(index.weights.get(one, 1.0) for one in stems | alias.stems)
            shared[alias.entry.id] = max(shared[alias.entry.id], common / every)
    return shared


def normalise(catalog: Catalog, text: str) -> str:
    """Lower case, plain quotes and hyphens, one spelling per word."""
    folded = unicodedata.normalize("NFKC", text).casefold().translate(_PLAIN)
    return _spellings(catalog).sub(lambda hit: catalog.words.same[hit[0]], folded)


_PLAIN = str.maketrans({"‘": "'", "’": "'", "–": "-", "‐": "-", "‑": "-", "—": " "})
_TOKEN = re.compile(r"[^\W_]+(?:['.][^\W_]+)*[+#]*")


@cache
def _spellings(catalog: Catalog) -> re.Pattern[str]:
    longest_first = sorted(catalog.words.same, key=lambda one: (-len(one), one))
    return re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, longest_first))})(?![\w-])")


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


def _split_unwanted(catalog: Catalog, text: str) -> tuple[str, tuple[str, ...]]:
    """Cut "without X" up to the next comma: the learner names X to keep it out of the plan."""
    pattern = rf"\b(?:{'|'.join(sorted(catalog.words.without))})\s+([^,;.]+)"
    plain = normalise(catalog, text)
    unwanted = tuple(hit.strip() for hit in re.findall(pattern, plain))
    return re.sub(pattern, " ", plain), unwanted


@cache
def _index(catalog: Catalog) -> Index:
    generic = {stem(word) for word in catalog.words.generic}
    entries: list[Entry] = [*catalog.goals.values(), *catalog.concepts.values()]
    aliases = tuple(
        Alias(entry, stems)
        for entry in entries
        for stems in dict.fromkeys(_stems(catalog, text) for text in _names(entry))
        if stems
    )
    uses = Counter(one for alias in aliases for one in alias.stems)
    weights = {
        word: GENERIC_WEIGHT if word in generic else max(0.75, 1 - 0.06 * math.log(count))
        for word, count in uses.items()
    }
    everyday = frozenset(map(stem, catalog.words.everyday))
    return Index(catalog, aliases, weights | dict.fromkeys(generic, GENERIC_WEIGHT), everyday)


def _names(entry: Entry) -> tuple[str, ...]:
    return (entry.name, *entry.aliases)


def _stems(catalog: Catalog, text: str) -> frozenset[str]:
    return frozenset(stem(word) for word in _tokens(normalise(catalog, text), catalog.words.stop))


def _tokens(text: str, stop: frozenset[str]) -> list[str]:
    """The words in order; dots and apostrophes inside belong to them (node.js). No numbers.

    An 's goes: "it's" is it, "Python's" is Python.
    """
    words = [word.removesuffix("'s") for word in _TOKEN.findall(text)]
    return [word for word in words if word not in stop and not word.isdigit()]


def _meant_by(entry: Entry) -> tuple[str, ...]:
    return entry.targets.core if isinstance(entry, Goal) else (entry.id,)


def _match(index: Index, text: str, *, topic: bool = False) -> Match | None:
    words = _words(index, text)
    if any(_akin(index.catalog, text, words)):
        return None
    open_words = words
    chosen: list[Alias] = []
    explained: set[str] = set()
    while len(chosen) < MOST_GOALS:
        best = _best(index, open_words, topic=topic)
        if best is None or (chosen and all(w.purpose for w in open_words if w.stem in best.stems)):
            break
        chosen.append(best)
        explained |= best.stems | _context(best.entry)
        open_words = [word for word in open_words if word.stem not in explained]
    total = sum(word.weight for word in words)
    missing = sum(word.weight for word in open_words)
    if not chosen or 1 - missing / total < _threshold(index, chosen):
        return None
    informative = [word for word in open_words if index.weights.get(word.stem) != GENERIC_WEIGHT]
    stems = [word.stem for word in words]
    chosen.sort(key=lambda alias: min(map(stems.index, alias.stems)))  # in the learner's order
    return Match(
        tuple(alias.entry for alias in chosen),
        tuple(dict.fromkeys(word.text for word in informative)),
    )


def _threshold(index: Index, chosen: list[Alias]) -> float:
    """One everyday word says too little to forgive anything beside it."""
    said = {one for alias in chosen for one in alias.stems if index.weights[one] > GENERIC_WEIGHT}
    return 1 - 1e-9 if len(said) == 1 and said <= index.everyday else THRESHOLD


def _words(index: Index, text: str) -> list[Word]:
    """The words that count. After "for", "to" or "because" they count less, once a subject stands.

    "… for Java developers" says who learns: such an audience is not counted at all.
    """
    lists = index.catalog.words
    tokens = _tokens(text, frozenset())
    found: list[Word] = []
    purpose = subject = False
    position = 0
    while position < len(tokens):
        token = tokens[position]
        if token in lists.purpose and subject:
            purpose = True
            position += 1 + (
                _audience(tokens[position + 1 :], index) if token in lists.for_whom else 0
            )
            continue
        position += 1
        if token in lists.stop:
            continue
        known = _spelled(index, stem(token))
        weight = index.weights.get(known, 1.0)
        subject = subject or weight > GENERIC_WEIGHT
        found.append(Word(token, known, weight * (PURPOSE_WEIGHT if purpose else 1), purpose))
    return found


def _audience(rest: list[str], index: Index) -> int:
    """How many words name the audience: "(a) (senior) Java developer" – at most four of them."""
    lists = index.catalog.words
    for length, token in enumerate(rest[:4], start=1):
        if token in lists.audience:
            names_a_goal = any(stem(one) in index.weights for one in rest[:length])
            foreign = any(lists.akin_to(one) for one in rest[:length])
            return length if foreign or not names_a_goal else 0
    return 0


def _spelled(index: Index, word: str) -> str:
    """The word itself, or the one long catalog word that it misspells."""
    if word in index.weights or len(word) < TYPO_LENGTH - 1:
        return word
    for known, weight in index.weights.items():
        if weight > GENERIC_WEIGHT and len(known) >= TYPO_LENGTH and _is_typo(word, known):
            return known
    return word


def _is_typo(word: str, known: str) -> bool:
    """One slip (two from ten letters on), and not in the first two letters: pedantic, pydantic."""
    if sorted(word[:2]) != sorted(known[:2]):
        return False
    return edit_distance(word, known) <= (2 if len(known) >= 10 else 1)


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


def _akin(catalog: Catalog, text: str, words: Iterable[Word]) -> Iterator[str]:
    """For each thing in the request that we know we do not teach: what comes near it here."""
    yield from filter(None, (catalog.words.akin_to(word.text) for word in words))
    spaced = f" {' '.join(_tokens(text, frozenset()))} "
    for kin, phrases in catalog.words.elsewhere_phrases.items():
        if any(f" {phrase} " in spaced for phrase in phrases):
            yield kin


def _best(index: Index, words: list[Word], *, topic: bool) -> Alias | None:
    """The alias that explains most: all its words are there; in a tie goals come first.

    Generic words alone match only when they are the whole request ("learn to code").
    """
    weights = {word.stem: word.weight for word in reversed(words)}
    best: Alias | None = None
    best_weight = 0.0
    for alias in index.aliases:
        if topic and isinstance(alias.entry, Goal) and alias.entry.kind != "skill":
            continue
        if not alias.stems <= weights.keys():
            continue
        weight = sum(weights[one] for one in sorted(alias.stems))
        vague = all(index.weights[one] == GENERIC_WEIGHT for one in alias.stems)
        if vague and alias.stems != weights.keys():
            continue
        if weight > best_weight + 1e-9:
            best, best_weight = alias, weight
    return best


def _context(entry: Entry) -> set[str]:
    return {stem(word) for word in entry.context} if isinstance(entry, Goal) else {"python"}


def _trigram_similarity(one: str, other: str) -> float:
    """Dice coefficient of the character trigrams of two texts, 0 to 1."""
    a, b = _trigrams(one), _trigrams(other.casefold())
    return 2 * len(a & b) / (len(a) + len(b)) if a and b else 0.0


def _trigrams(text: str) -> frozenset[str]:
    padded = f"  {text} "
    return frozenset(padded[i : i + 3] for i in range(len(padded) - 2))
