"""The catalog holds together, and a broken one is refused with the file and the entry named."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.errors import StartupError
from shared.roadmap import LANGUAGES
from worker_service.generators.offline import load_catalog
from worker_service.generators.offline.__main__ import main
from worker_service.generators.offline.catalog import CatalogError, Mastery
from worker_service.generators.offline.reading import FOLDER, quizzes_of, read_catalog
from worker_service.generators.offline.review import problems
from worker_service.generators.offline.stats import stats_of

CATALOG = load_catalog()
QUIZZES = quizzes_of(FOLDER, "en")
Entry = dict[str, Any]  # Any: YAML


# --- what it holds -------------------------------------------------------------------------------


def test_it_holds_what_the_planner_promises() -> None:
    stats = stats_of(CATALOG)
    assert len(stats.domains) == 10
    assert sum(one.concepts for one in stats.domains) >= 320
    assert sum(one.hard_edges + one.soft_edges for one in stats.domains) >= 900
    assert sum(stats.goals.values()) >= 45
    assert set(stats.goals) == {"role", "skill", "exam", "project"}
    assert stats.projects >= 45
    assert sum(one.quizzed for one in stats.domains) >= 150
    assert stats.alternatives >= 10
    assert all(one.resources >= 2 * one.concepts for one in stats.domains)


def test_every_domain_is_more_than_a_handful() -> None:
    for domain in stats_of(CATALOG).domains:
        assert domain.concepts >= 25, domain.id
        assert domain.quizzed >= 8, domain.id
        assert domain.projects >= 3, domain.id


def test_the_check_of_every_commit_finds_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check"]) == 0
    assert capsys.readouterr() == ("", "")


def test_quizzes_have_three_questions_with_their_answers_spread() -> None:
    questions = [one for quiz in QUIZZES.values() for one in quiz]
    assert {len(quiz) for quiz in QUIZZES.values()} == {3}
    places = Counter(one.answer for one in questions)
    assert all(0.15 < count / len(questions) < 0.35 for count in places.values())
    longest = [one for one in questions if len(one.options[one.answer]) == _longest(one.options)]
    assert len(longest) < len(questions) / 2


def _longest(options: tuple[str, ...]) -> int:
    return max(map(len, options))


def test_every_goal_reads_the_same_in_every_language() -> None:
    chinese = load_catalog("zh")
    assert chinese.concepts.keys() == CATALOG.concepts.keys()
    for goal in CATALOG.goals.values():
        assert goal.targets == chinese.goals[goal.id].targets
        spoken = {goal.name, *goal.aliases}
        assert spoken == {chinese.goals[goal.id].name, *chinese.goals[goal.id].aliases}


def test_chinese_texts_are_chinese() -> None:
    for concept in load_catalog("zh").concepts.values():
        texts = (concept.description, concept.why, *concept.outcomes, *concept.practice)
        for text in (*texts, *(edge.reason for edge in concept.requires)):
            assert any("\u4e00" <= char <= "\u9fff" for char in text), (concept.id, text)


def test_more_mastery_takes_more_hours() -> None:
    for concept in CATALOG.concepts.values():
        acquainted, working, fluent = map(concept.hours_for, Mastery)
        assert 0.5 <= acquainted <= working < fluent, concept.id
        assert working <= 12, concept.id


def test_it_is_read_once_however_it_is_asked_for() -> None:
    assert load_catalog() is load_catalog("en") is load_catalog(language="en")


def test_the_version_follows_the_data(copy: Path) -> None:
    assert read_catalog(copy).version == CATALOG.version
    with (copy / "goals" / "roles.yaml").open("a") as file:
        file.write("# a remark\n")
    assert read_catalog(copy).version != CATALOG.version


# --- alternatives --------------------------------------------------------------------------------


def test_without_a_choice_the_first_alternative_is_taken() -> None:
    taken = {
        edge.id
        for concept in CATALOG.concepts.values()
        for edge in concept.requires
        if edge.one_of == "relational-database"
    }
    assert taken == {"psql"}


def test_a_choice_settles_every_edge_of_its_group_and_no_other() -> None:
    settled = CATALOG.choosing({"relational-database": "sqlite"})
    for concept in CATALOG.concepts.values():
        for before, after in zip(
            concept.requires, settled.concepts[concept.id].requires, strict=True
        ):
            wanted = "sqlite" if before.one_of == "relational-database" else before.id
            assert after.id == wanted


def test_knowing_something_does_not_tell_which_alternative_led_to_it() -> None:
    beneath = CATALOG.implied({"sql-joins"})
    assert "sql-select" in beneath
    assert beneath.isdisjoint({"psql", "mysql-client", "sqlite"})


# --- faults --------------------------------------------------------------------------------------


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FOLDER, tmp_path / "catalog"))


def edit(folder: Path, name: str, change: Callable[[Entry], object]) -> None:
    content = yaml.load((folder / name).read_bytes(), Loader=yaml.CSafeLoader)
    change(content)
    (folder / name).write_text(yaml.safe_dump(content, allow_unicode=True))


def edit_concept(folder: Path, concept: str, change: Callable[[Entry], object]) -> None:
    name = f"domains/{CATALOG.concepts[concept].domain}.yaml"
    edit(folder, name, lambda content: change(_entry(content["concepts"], concept)))


def _entry(entries: list[Entry], wanted: str) -> Entry:
    return next(one for one in entries if one["id"] == wanted)


def edge(to: str, **more: str) -> Entry:
    return {"id": to, "reason": {"en": "none", "zh": "无"}, **more}


BREAKAGES: dict[str, tuple[Callable[[Entry], object], str]] = {
    "a missing prerequisite": (
        lambda loops: loops.update(requires=[edge("knitting")]),
        "'loops' refers to 'knitting'",
    ),
    "a circle": (
        lambda loops: loops.update(requires=[edge("lists-and-tuples")]),
        "require each other: .*loops",
    ),
    "a circle through a soft edge": (
        lambda loops: loops.update(requires=[edge("lists-and-tuples", strength="soft")]),
        "require each other: .*loops",
    ),
    "an unknown group": (
        lambda loops: loops.update(requires=[{"one_of": "yarns", "reason": edge("x")["reason"]}]),
        "'yarns' is no group of alternatives",
    ),
    "too many hours": (lambda loops: loops.update(hours=[1, 13, 20]), "'loops': hours: .*13 hours"),
    "falling hours": (lambda loops: loops.update(hours=[2, 1, 3]), "'loops': hours: .*fewer"),
    "odd minutes": (lambda loops: loops.update(hours=[1, 1.3, 2]), "'loops': hours"),
    "a misspelt key": (lambda loops: loops.update(dificulty=2), "'loops': dificulty"),
    "a missing key": (lambda loops: loops.pop("outcomes"), "'loops': outcomes"),
    "a missing translation": (
        lambda loops: loops["description"].pop("zh"),
        "'loops': description: is not given in each of en, zh",
    ),
    "an empty translation": (
        lambda loops: loops["why"].update(zh=""),
        "'loops': why: is empty in one language",
    ),
    "a text without languages": (
        lambda loops: loops.update(name="Loops"),
        "'loops': name: is not given in each of en, zh",
    ),
    "a language too many": (
        lambda loops: loops["name"].update(fr="Boucles"),
        "'loops': name: is not given in each of en, zh, and no other",
    ),
    "an outcome short": (
        lambda loops: loops["outcomes"]["zh"].pop(),
        "'loops': outcomes: has more entries in one language",
    ),
    "a plain http link": (
        lambda loops: loops["resources"][0].update(url="http://example.org"),
        "'loops': resources.0.url",
    ),
    "a single link": (lambda loops: loops["resources"].__delitem__(slice(1, None)), "resources"),
    "an unknown cluster": (
        lambda loops: loops.update(cluster="knitwork"),
        "'loops' is in no known cluster",
    ),
    "a repeated id": (lambda loops: loops.update(id="functions"), "'functions' is taken already"),
    "falling difficulty": (
        lambda loops: loops.update(difficulty=5),
        "is easier than 'loops', which it needs",
    ),
    "a level that skips a prerequisite": (
        lambda loops: loops.update(assumed_from="advanced"),
        "is assumed earlier than 'loops'",
    ),
}


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_a_broken_concept_is_refused_by_name(breakage: str, copy: Path) -> None:
    change, message = BREAKAGES[breakage]
    edit_concept(copy, "loops", change)
    with pytest.raises(CatalogError, match=message):
        read_catalog(copy)


def test_the_file_of_a_broken_concept_is_named(copy: Path) -> None:
    edit_concept(copy, "loops", lambda loops: loops.pop("hours"))
    with pytest.raises(CatalogError, match=r"^domains/programming\.yaml: concepts entry 'loops'"):
        read_catalog(copy)


def test_a_goal_without_a_known_target_is_refused_by_name(copy: Path) -> None:
    edit(
        copy,
        "goals/roles.yaml",
        lambda content: content["goals"][0]["targets"]["core"].append("knitting"),
    )
    with pytest.raises(CatalogError, match=r"Goal '.*' refers to 'knitting'"):
        read_catalog(copy)


def test_a_file_that_is_not_yaml_is_refused_by_name(copy: Path) -> None:
    (copy / "domains" / "data.yaml").write_text("concepts: [")
    with pytest.raises(StartupError, match=r"domains/data\.yaml is not valid YAML"):
        read_catalog(copy)


# --- what only the check of every commit sees ----------------------------------------------------


def review_of(folder: Path) -> list[str]:
    return list(problems([read_catalog(folder, language) for language in LANGUAGES]))


def rename(content: Entry) -> None:
    content["name"]["en"] = CATALOG.concepts["strings"].name


def orphan(content: Entry) -> None:
    """A concept that nothing needs and nobody wants."""
    loops = _entry(content["concepts"], "loops")
    alone = loops | {"id": "knots", "name": {"en": "Knots", "zh": "绳结"}, "requires": []}
    content["concepts"].append(alone | {"aliases": {"en": [], "zh": []}})


UNSOUND: dict[str, tuple[str, Callable[[Entry], object], str]] = {
    "an implied edge": (
        "classes",
        lambda one: one["requires"].append(edge("values-and-variables")),
        "'classes' need not require 'values-and-variables': '.*' implies it",
    ),
    "an implied soft edge": (
        "classes",
        lambda one: one["requires"].append(edge("values-and-variables", strength="soft")),
        "'classes' need not require 'values-and-variables'",
    ),
    "an edge stated twice": (
        "loops",
        lambda one: one["requires"].append(one["requires"][0]),
        "'loops' requires '.*' twice",
    ),
    "a name of two": ("loops", rename, "“strings” names"),
    "odd hours": (
        "classes",
        lambda one: one.update(hours=[one["hours"][1]] * 2 + [one["hours"][2]]),
        "'classes' takes .* hours at mastery 1",
    ),
    "half a sentence": (
        "loops",
        lambda one: one["why"].update(zh="没有句号"),
        "'loops' in zh: “没有句号” is no sentence",
    ),
}


@pytest.mark.parametrize("fault", UNSOUND)
def test_an_unsound_concept_is_found(fault: str, copy: Path) -> None:
    concept, change, message = UNSOUND[fault]
    edit_concept(copy, concept, change)
    found = review_of(copy)
    assert any(re.search(message, one) for one in found), found


def test_a_concept_that_no_goal_leads_to_is_found(copy: Path) -> None:
    edit(copy, "domains/programming.yaml", orphan)
    assert review_of(copy) == [
        "'knots' is reached from no goal: let one need, support or offer it.",
        "'knots' is an orphan: nothing requires it and no goal targets it.",
    ]


@pytest.mark.parametrize(
    ("concept", "change", "said"),
    [
        ("loops", BREAKAGES["a circle"][0], "Concepts require each other: "),
        ("loops", BREAKAGES["a missing translation"][0], "description: is not given in each of"),
        ("classes", UNSOUND["an implied edge"][1], "'classes' need not require"),
    ],
)
def test_the_check_fails_and_says_why(
    concept: str,
    change: Callable[[Entry], object],
    said: str,
    copy: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    edit_concept(copy, concept, change)
    assert main(["check", str(copy)]) == 1
    assert said in capsys.readouterr().err
