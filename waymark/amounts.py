"""Amounts as people read them: weeks, hours, seconds, tokens, money, percent."""

from __future__ import annotations

from typing import Any

from waymark.errors import Document


def weeks_of(part: dict[str, Any]) -> str:
    """``week 2`` or ``weeks 1–3``, of a stage or a concept."""
    first, last = part["week_from"], part["week_to"]
    return f"week {first}" if first == last else f"weeks {first}–{last}"


def hours(value: float) -> str:
    return f"{rounded(value)} h"


def seconds(value: float) -> str:
    """``0.4 s`` or ``12 s``: where a tenth matters it is shown."""
    return f"{rounded(value) if value < 10 else f'{value:.0f}'} s"


def rounded(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def number_of(count: int, thing: str) -> str:
    return f"1 {thing}" if count == 1 else f"{count:,} {thing}s"


def progress_of(progress: Document) -> str:
    """``12 of 40 lessons · 58 %``; empty before there is any."""
    if not progress["completed"] and not progress["message"]:
        return ""
    percent = f"{100 * progress['completed'] / progress['total']:.0f} %"
    return f"{progress['message']} · {percent}" if progress["message"] else percent


def usage_of(usage: Document) -> str:
    """``14 calls, 12,345 tokens in, 6,789 out · $0.0123``; what has no price has no money."""
    calls = number_of(usage["calls"], "call")
    tokens = f"{usage['tokens_in']:,} tokens in, {usage['tokens_out']:,} out"
    cost = usage["cost_usd"]
    return f"{calls}, {tokens} · {_dollars(cost)}" if cost else f"{calls}, {tokens}"


def _dollars(cost: float) -> str:
    return f"${cost:,.4f}" if cost >= 0.0001 else "less than $0.0001"
