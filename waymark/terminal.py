"""Text of others on its way to a terminal."""

from __future__ import annotations


def clean(text: str) -> str:
    """In one line. Learners and models write it; their words must not steer a terminal."""
    return "".join(one if one.isprintable() else " " for one in text)
