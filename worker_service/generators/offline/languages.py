"""Texts of the catalog by language: each is given in all of them, and one is taken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.roadmap import LANGUAGES

SPOKEN = {
    *("name", "summary", "description", "why", "reason", "outcomes", "practice", "blurb"),
    *("title", "deliverable", "acceptance", "question", "options", "explanation"),
}
"""Fields whose texts are given in every language, side by side."""

GATHERED = {"aliases", "context"}
"""Fields of all languages together: a request may be in any, or in a mixture."""

AS_WRITTEN = {"resources"}
"""A title of a page is in the language of the page."""


def taken_in(language: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """The entry with the texts of one language. Raises ValueError that names field and fault."""
    taken = {key: _field(key, value, language) for key, value in entry.items()}
    if "aliases" in taken and isinstance(entry.get("name"), dict):
        taken["aliases"] += [name for name in entry["name"].values() if name != taken["name"]]
    return taken


def _field(key: str, value: Any, language: str) -> Any:  # Any: YAML
    if key in SPOKEN:
        return _in_every_language(key, value)[language]
    if key in GATHERED:
        return [one for words in _in_every_language(key, value).values() for one in words]
    return value if key in AS_WRITTEN else _within(value, language)


def _within(value: Any, language: str) -> Any:
    if isinstance(value, dict):
        return taken_in(language, value)
    if isinstance(value, list):
        return [_within(one, language) for one in value]
    return value


def _in_every_language(key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or value.keys() != set(LANGUAGES):
        raise ValueError(f"{key}: is not given in each of {', '.join(LANGUAGES)}, and no other")
    if key in SPOKEN and not all(value.values()):
        raise ValueError(f"{key}: is empty in one language")
    lengths = {len(one) for one in value.values() if isinstance(one, list)}
    if key in SPOKEN and len(lengths) > 1:
        raise ValueError(f"{key}: has more entries in one language than in another")
    return value
