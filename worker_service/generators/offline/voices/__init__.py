"""Every sentence of a plan that the catalog does not bring along, by language."""

from __future__ import annotations

from collections.abc import Mapping

from .chinese import Chinese
from .english import English

Voice = English | Chinese

VOICES: Mapping[str, Voice] = {"en": English(), "zh": Chinese()}


def voice_of(language: str) -> Voice:
    """Raises KeyError for a language that no voice speaks."""
    return VOICES[language]
