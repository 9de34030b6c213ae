"""The few words that a printed roadmap adds to its own, in the language of the roadmap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import ClassVar

from waymark import amounts
from waymark.errors import Document


class English:
    """What stands around names and sentences of a roadmap."""

    milestone = "Milestone: "
    fit = "Fit: "
    left_out = "Left out: "
    less_deep = "Less deep: "
    note = "Note: "
    steps: ClassVar[Mapping[str, str]] = {
        "matching": "Matching",
        "closure": "Closure",
        "pruning": "Pruning",
        "fit": "Fit",
    }
    kinds: ClassVar[Mapping[str, str]] = {
        "project": "project",
        "review": "review",
        "optional": "optional",
    }

    def weeks_of(self, part: Document) -> str:
        return amounts.weeks_of(part)

    def hours(self, value: float) -> str:
        return amounts.hours(value)

    def in_one_line(self, roadmap: Document, count: int) -> str:
        pace = amounts.rounded(roadmap["fit"]["hours_per_week"])
        weeks = amounts.number_of(roadmap["weeks"], "week")
        return (
            f"{amounts.number_of(count, 'concept')} · {self.hours(roadmap['total_hours'])} in "
            f"{weeks} at {pace} h a week · "
            f"{self._day(roadmap['start_date'])} to {self._day(roadmap['end_date'])}"
        )

    def buffer(self, hours: float) -> str:
        return f"{self.hours(hours)} kept free for what goes wrong"

    def verdict(self, feasible: bool) -> str:
        return f"the plan {'fits' if feasible else 'does not fit the time you have'}. "

    def because(self, names: Sequence[str], reason: str) -> str:
        return f"{', '.join(names)}. {reason}"

    def _day(self, iso: str) -> str:
        day = date.fromisoformat(iso)
        return f"{day.day} {day:%b %Y}"


class Chinese:
    """The same in simplified Chinese."""

    milestone = "里程碑："
    fit = "时间："
    left_out = "略去："
    less_deep = "学得较浅："
    note = "注意："
    steps: ClassVar[Mapping[str, str]] = {
        "matching": "目标匹配",
        "closure": "前置闭包",
        "pruning": "剪枝",
        "fit": "时间安排",
    }
    kinds: ClassVar[Mapping[str, str]] = {"project": "项目", "review": "复习", "optional": "选学"}

    def weeks_of(self, part: Document) -> str:
        first, last = part["week_from"], part["week_to"]
        return f"第 {first} 周" if first == last else f"第 {first}–{last} 周"

    def hours(self, value: float) -> str:
        return f"{amounts.rounded(value)} 小时"

    def in_one_line(self, roadmap: Document, count: int) -> str:
        pace = amounts.rounded(roadmap["fit"]["hours_per_week"])
        return (
            f"{count} 个知识点 · {self.hours(roadmap['total_hours'])} · {roadmap['weeks']} 周，"
            f"每周 {pace} 小时 · {roadmap['start_date']} 至 {roadmap['end_date']}"
        )

    def buffer(self, hours: float) -> str:
        return f"另留 {self.hours(hours)}机动时间"

    def verdict(self, feasible: bool) -> str:
        return "计划可行。" if feasible else "你的时间不够完成本计划。"

    def because(self, names: Sequence[str], reason: str) -> str:
        return f"{'、'.join(names)}。{reason}"


Speech = English | Chinese


def speech_of(language: str) -> Speech:
    """English for a language that a newer server may know and we do not."""
    return Chinese() if language == "zh" else English()
