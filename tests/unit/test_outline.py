"""Ids are made here: from names, not from positions, and the same in every process."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from worker_service.generators.llm.outline import Ids, outline_of, shelf_for, slug
from worker_service.generators.llm.shapes import (
    Design,
    DesignedConcept,
    DesignedMilestone,
    DesignedModule,
    DesignedStage,
)
from worker_service.generators.offline import load_catalog
from worker_service.generators.offline.catalog import Slug

CATALOG = load_catalog()


def concept(name: str, *needs: str) -> DesignedConcept:
    return DesignedConcept(
        name=name,
        description="What it is.",
        why="What it is for.",
        difficulty=1,
        hours=2,
        needs=needs,
        outcomes=("You can do it.",),
    )


def design(*concepts: DesignedConcept) -> Design:
    module = DesignedModule(name="Module", description="A part.", concepts=concepts)
    return Design(
        stages=(
            DesignedStage(name="Stage", description="A part.", outcome="Done.", modules=(module,)),
        )
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Window functions!", "window-functions"),
        ("  Éclair – à la carte ", "eclair-a-la-carte"),
        ("C", "c"),
        ("C++", "c-plus-plus"),
        ("C#", "c-sharp"),
        ("Straße", "strasse"),
        ("½ a cup", "1-2-a-cup"),
    ],
)
def test_a_slug_is_the_words_of_a_name_in_ascii(name: str, expected: str) -> None:
    assert slug(name) == expected


def test_names_that_ascii_cannot_tell_apart_have_slugs_of_their_own() -> None:
    variables, functions = slug("Python 变量"), slug("Python 函数")
    assert variables.startswith("python-")
    assert functions.startswith("python-")
    assert variables != functions
    assert slug("机器学习").startswith("c-")
    assert len(slug("机器学习")) == len("c-") + 10


def test_long_names_that_differ_at_their_end_have_slugs_of_their_own() -> None:
    one, other = slug("very " * 23 + "good"), slug("very " * 23 + "bad")
    assert one != other
    assert max(len(one), len(other)) <= 60


@given(st.text(min_size=1, max_size=120))
def test_every_name_has_a_slug_as_the_catalogs_ids_are(name: str) -> None:
    assert TypeAdapter[str](Slug).validate_python(slug(name)) == slug(name)


def test_a_name_or_alias_of_the_catalog_gets_its_id() -> None:
    ids = Ids(CATALOG)
    assert ids.of("Window functions") == "window-functions"
    assert ids.of("SQL Joins") == ids.of("joins") == "sql-joins"
    assert ids.of("Joins for beginners") == "joins-for-beginners"


def test_without_a_shelf_the_catalog_lends_no_id() -> None:
    assert Ids(None).of("SQL basics") == "sql-basics"


def test_the_shelf_is_only_there_for_goals_that_the_catalog_covers() -> None:
    assert shelf_for(CATALOG, "Learn SQL") is CATALOG
    assert shelf_for(CATALOG, "Learn Rust") is None
    assert shelf_for(CATALOG, "Knit a sweater") is None


def test_needs_are_ids_whatever_the_spelling_of_their_names() -> None:
    outline = outline_of(
        design(concept("Big Loops"), concept("More", "big loops", "Big  Loops")), Ids(None)
    )
    assert [one.needs for one in outline.concepts()] == [(), ("big-loops",)]


def test_a_repeated_concept_is_told_apart_by_a_tail() -> None:
    outline = outline_of(
        design(concept("SQL"), concept("sql"), concept("Sql"), concept("SQL 2")), Ids(None)
    )
    assert [one.id for one in outline.concepts()] == ["sql", "sql~2", "sql~3", "sql-2"]


def test_ids_do_not_depend_on_positions() -> None:
    names = ["A", "B", "C"]
    forth = outline_of(design(*map(concept, names)), Ids(None))
    back = outline_of(design(*map(concept, reversed(names))), Ids(None))
    assert {one.id for one in forth.concepts()} == {one.id for one in back.concepts()}


def test_a_milestone_is_kept() -> None:
    milestone = DesignedMilestone(
        title="Shop", deliverable="A small shop.", acceptance=("It sells.",)
    )
    first = design(concept("A")).stages[0].model_copy(update={"milestone": milestone})
    outline = outline_of(Design(stages=(first,)), Ids(None))
    kept = outline.stages[0].milestone
    assert kept is not None
    assert (kept.title, kept.acceptance) == ("Shop", ("It sells.",))


def test_another_process_gives_the_same_ids() -> None:
    code = (
        "from worker_service.generators.llm.outline import Ids\n"
        "from worker_service.generators.offline import load_catalog\n"
        "print([Ids(load_catalog()).of(one) for one in ('sets', 'graphs', 'Éa', '变量')])"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
