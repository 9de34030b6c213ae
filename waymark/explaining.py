"""How a plan came about, as people read it."""

from __future__ import annotations

from waymark.errors import Document
from waymark.page import Page
from waymark.speech import speech_of


def print_explanation(explanation: Document, language: str) -> None:
    page, titles = Page(), speech_of(language).steps
    for step, sentences in explanation.items():
        page.text(titles[step], style="bold")
        for sentence in sentences:
            page.text(sentence, indent=2)
        page.gap()
