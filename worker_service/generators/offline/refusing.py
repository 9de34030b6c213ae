"""Why a request is refused, and which goals come nearest to it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from shared.errors import GoalNotCovered

from .aliases import Entry, Index
from .catalog import Goal
from .sentence import Sentence, Word
from .spelling import folded, likeness, ngrams

NEAREST = 5

SIMILAR_SPELLING = 0.3
"""Likeness of n-grams from which a goal's spelling counts when the nearest ones are listed."""

NAMED_NEAR = 0.5
"""What a goal gains by being near to something that is named and not taught."""

KINDS = ("role", "skill", "project", "exam")
"""In which order goals are listed that nothing brings nearer."""

MOST_WORDS = 3
"""Words that a reason quotes."""

SENTENCES: Mapping[str, Mapping[str, str]] = {
    "en": {
        "elsewhere": "Known, but not taught here: {words}.",
        "unknown": "Not understood: {words}.",
        "nothing": "It names no subject to learn.",
        "generic": "Too little to go by: {words}. Name a language, a tool or a role.",
        "part": "Not clear together with the rest: {words}.",
        "without": "{name} comes to little without {words}.",
        "quoted": "“{}”",
        "comma": ", ",
    },
    "zh": {
        "elsewhere": "目录中暂不教授：{words}。",
        "unknown": "没有看懂：{words}。",
        "nothing": "其中没有提到要学的内容。",
        "generic": "只说{words}还不清楚要学什么，请写明语言、工具或岗位。",
        "part": "与其余内容对不上：{words}。",
        "without": "去掉{words}之后，“{name}”就所剩无几了。",
        "quoted": "“{}”",
        "comma": "、",
        "detail": (
            "没有路线图能覆盖“{goal}”。{reason}最接近的目标有：{nearest}。"
            "请从中选一个，重新提交任务。"
        ),
    },
}


def refusal(
    index: Index, text: str, sentence: Sentence, reason: str, lost: Entry | None = None
) -> GoalNotCovered:
    """The error that says so, in the language of the catalog; ``lost`` is not offered again."""
    names = nearest(index, sentence, lost)
    said = SENTENCES[index.catalog.language]
    detail = said.get("detail")
    if detail is not None:
        detail = detail.format(goal=text, reason=reason, nearest=said["comma"].join(names))
    return GoalNotCovered(text, names, reason=reason, detail=detail)


def reason(index: Index, text: str, sentence: Sentence, unexplained: Sequence[Word]) -> str:
    """The word that was not understood, or is known and not taught, or says too little."""
    said = SENTENCES[index.catalog.language]
    strange = [name for _, name, stems in sentence.strange if _open(stems, unexplained)]
    unknown = [word.text for word in unexplained if word.stem not in index.weights]
    telling = index.informative(word.stem for word in unexplained)
    known = [word.text for word in unexplained if word.stem in telling]
    if strange:
        return said["elsewhere"].format(words=_quoted(index, strange, text))
    if unknown:
        return said["unknown"].format(words=_quoted(index, unknown, text))
    if not sentence.words:
        return said["nothing"]
    if known and len(sentence.words) > 1:
        return said["part"].format(words=_quoted(index, known, text))
    generic = [word.text for word in sentence.words]
    return said["generic"].format(words=_quoted(index, generic, text))


def cannot_do_without(index: Index, text: str, sentence: Sentence, entry: Entry) -> str:
    """That too little of the entry is left without what is not wanted."""
    unwanted = _quoted(index, sentence.unwanted, text)
    return SENTENCES[index.catalog.language]["without"].format(name=entry.name, words=unwanted)


def nearest(index: Index, sentence: Sentence, lost: Entry | None = None) -> list[str]:
    """Five goal names, the likeliest first.

    By the words they share and by spelling, then by what is akin to the things we do not teach
    (Java comes near the back end), then roles first.
    """
    ours = [word for word in sentence.words if not _is_strange(word, sentence)]
    shared = _shared(index, ours)
    spelled = ngrams(" ".join(word.text for word in ours))
    alike = _alike(index, spelled)
    near = _near(sentence)

    def closeness(goal: Goal) -> float:
        return shared[goal.id] + alike[goal.id] / 2 + near.get(goal.id, 0.0)

    def order(goal: Goal) -> tuple[float, int]:
        return -closeness(goal), KINDS.index(goal.kind)

    offered = (goal for goal in index.catalog.goals.values() if goal is not lost)
    ranked = sorted(offered, key=order)
    return [goal.name for goal in ranked[:NEAREST]]


def _shared(index: Index, words: Sequence[Word]) -> Mapping[str, float]:
    """Per goal the share of weight that its closest name has in common with what is said."""
    said = {word.stem: word.weight for word in reversed(words)}
    total = sum(said.values())
    shared: defaultdict[str, float] = defaultdict(float)
    for alias in index.aliases:
        common = alias.stems & said.keys()
        if common and isinstance(alias.entry, Goal):
            weight = sum(index.weights[one] for one in sorted(common))
            every = sum(index.weights[one] for one in sorted(alias.stems)) + total - weight
            shared[alias.entry.id] = max(shared[alias.entry.id], weight / every)
    return shared


def _alike(index: Index, spelled: frozenset[str]) -> Mapping[str, float]:
    alike: defaultdict[str, float] = defaultdict(float)
    for alias in index.aliases:
        if isinstance(alias.entry, Goal) and not spelled.isdisjoint(alias.ngrams):
            degree = likeness(spelled, alias.ngrams)
            if degree >= SIMILAR_SPELLING:
                alike[alias.entry.id] = max(alike[alias.entry.id], degree)
    return alike


def _near(sentence: Sentence) -> Mapping[str, float]:
    """What the goals gain that are near to what is not taught, the first of a list most."""
    gained: dict[str, float] = {}
    for elsewhere, _, _ in sentence.strange:
        for place, goal in enumerate(elsewhere.near):
            gained.setdefault(goal, NAMED_NEAR * (1 - place / 10))
    return gained


def _is_strange(word: Word, sentence: Sentence) -> bool:
    return any(word.stem in stems for _, _, stems in sentence.strange)


def _open(stems: frozenset[str], words: Sequence[Word]) -> bool:
    return any(word.stem in stems for word in words)


def _quoted(index: Index, words: Sequence[str], text: str) -> str:
    """The words as the learner wrote them, at most three."""
    said = SENTENCES[index.catalog.language]
    shown = (_as_written(word, text) for word in dict.fromkeys(words))
    return said["comma"].join([said["quoted"].format(one) for one in shown][:MOST_WORDS])


def _as_written(word: str, text: str) -> str:
    """With its capitals and accents, if it stands in the text in any form."""
    written = re.findall(r"[\w'.+#-]+", text)
    same = (one for one in written if folded(one).strip(".'-") == word)
    found = re.search(re.escape(word), text, re.IGNORECASE)
    return next(same, found[0] if found else word)
