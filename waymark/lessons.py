"""What there is to learn from: lesson, practice, resources and quiz of each concept."""

from __future__ import annotations

from string import ascii_lowercase

from waymark.amounts import hours, weeks_of
from waymark.errors import Document
from waymark.page import Page
from waymark.printing import concepts_of


def print_lessons(roadmap: Document) -> None:
    page = Page()
    for number, concept in enumerate(concepts_of(roadmap), start=1):
        page.gap()
        _print_concept(page, number, concept)


def _print_concept(page: Page, number: int, concept: Document) -> None:
    plan = f"{weeks_of(concept)} · {hours(concept['hours'])}"
    page.text(f"{number}. {concept['name']} · {plan}", style="bold")
    if concept["content"] == "missing":
        page.text("its lesson, practice and quiz could not be written.", label="Missing: ")
    if concept["lesson"]:
        page.gap()
        page.verbatim(concept["lesson"])
    _print_list(page, "Practice", concept["practice"])
    _print_list(page, "Resources", [_resource(one) for one in concept["resources"]])
    if concept["quiz"]:
        _print_quiz(page, concept["quiz"])


def _print_list(page: Page, title: str, lines: list[str]) -> None:
    if not lines:
        return
    page.gap()
    page.text("", label=title)
    for line in lines:
        page.verbatim(f"  - {' '.join(line.split())}")


def _resource(resource: Document) -> str:
    doubt = "" if resource["check"] == "ok" else f", {resource['check']}"
    return f"{resource['title']}: {resource['url']} ({resource['type']}{doubt})"


def _print_quiz(page: Page, quiz: list[Document]) -> None:
    page.gap()
    page.text("", label="Quiz")
    for number, one in enumerate(quiz, start=1):
        page.text(f"{number}. {one['question']}", indent=2)
        for letter, option in zip(ascii_lowercase, one["options"], strict=False):
            page.text(f"{letter}) {option}", indent=5)
    page.gap()
    page.text("", label="Answers")
    for number, one in enumerate(quiz, start=1):
        page.text(f"{number}. {_answer(one)}", indent=2)


def _answer(question: Document) -> str:
    return f"{ascii_lowercase[question['answer']]}) {question['explanation']}".rstrip()
