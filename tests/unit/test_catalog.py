"""The catalog holds together, and a broken one is refused with the file and the entry named."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from shared.errors import StartupError
from worker_service.generators.offline import load_catalog
from worker_service.generators.offline.catalog import FOLDER, CatalogError, read_catalog

CATALOG = load_catalog()


def test_there_are_at_least_sixty_concepts_in_three_domains() -> None:
    sizes = Counter(concept.domain for concept in CATALOG.concepts.values())
    assert sum(sizes.values()) >= 60
    assert len([domain for domain, size in sizes.items() if size >= 10]) >= 3


def test_there_are_at_least_fourteen_goals_of_all_kinds() -> None:
    assert len(CATALOG.goals) >= 14
    assert {goal.kind for goal in CATALOG.goals.values()} == {"role", "skill", "project"}


def test_every_concept_serves_some_goal() -> None:
    targets = frozenset(
        one
        for goal in CATALOG.goals.values()
        for one in (*goal.targets.core, *goal.targets.supporting)
    )
    wanted = set(targets)
    for concept in map(CATALOG.concepts.__getitem__, CATALOG.ancestors(targets)):
        wanted |= {concept.id, *(edge.id for edge in concept.requires)}
    assert set(CATALOG.concepts) - wanted == set()


def test_a_hard_edge_is_not_stated_twice_over() -> None:
    redundant = [
        (concept.id, need)
        for concept in CATALOG.concepts.values()
        for need in concept.needs
        if need in CATALOG.ancestors(frozenset(concept.needs) - {need})
    ]
    assert redundant == []


def test_difficulty_does_not_fall_along_a_hard_edge() -> None:
    falling = [
        (concept.id, need)
        for concept in CATALOG.concepts.values()
        for need in concept.needs
        if CATALOG.concepts[need].difficulty > concept.difficulty
    ]
    assert falling == []


def test_hours_are_halves_between_half_an_hour_and_twelve() -> None:
    for concept in CATALOG.concepts.values():
        assert 0.5 <= concept.hours <= 12
        assert concept.hours * 2 == int(concept.hours * 2), concept.id


def test_no_two_concepts_goals_or_projects_share_a_name() -> None:
    names = [
        *(concept.name.casefold() for concept in CATALOG.concepts.values()),
        *(goal.name.casefold() for goal in CATALOG.goals.values()),
        *(project.title.casefold() for project in CATALOG.projects.values()),
    ]
    assert [name for name, count in Counter(names).items() if count > 1] == []


def test_descriptions_and_outcomes_read_as_sentences() -> None:
    for concept in CATALOG.concepts.values():
        assert concept.description.endswith("."), concept.id
        assert concept.description[0].isupper(), concept.id
        for outcome in concept.outcomes:
            assert outcome[0].islower(), (concept.id, outcome)  # it follows "You can"
            assert not outcome.endswith("."), (concept.id, outcome)
        for edge in concept.requires:
            assert not edge.reason.endswith("."), (concept.id, edge.reason)  # it follows "because"


def test_every_cluster_is_used() -> None:
    used = {concept.cluster for concept in CATALOG.concepts.values()}
    assert set(CATALOG.clusters) == used


def test_the_version_follows_the_data(tmp_path: Path) -> None:
    copy = _copy(tmp_path)
    assert read_catalog(copy).version == CATALOG.version
    with (copy / "goals.yaml").open("a") as file:
        file.write("# a remark\n")
    assert read_catalog(copy).version != CATALOG.version


def _loops(content: dict[str, list[dict[str, object]]]) -> dict[str, object]:
    return next(one for one in content["concepts"] if one["id"] == "loops")


BREAKAGES: dict[str, tuple[Callable[[dict[str, object]], object], str]] = {
    "a missing prerequisite": (
        lambda loops: loops.update(requires=[{"id": "knitting", "reason": "none"}]),
        "'loops' refers to 'knitting'",
    ),
    "a circle": (
        lambda loops: loops.update(requires=[{"id": "lists-and-tuples", "reason": "none"}]),
        "require each other: .*loops",
    ),
    "a circle through a soft edge": (
        lambda loops: loops.update(
            requires=[{"id": "lists-and-tuples", "reason": "none", "strength": "soft"}]
        ),
        "require each other: .*loops",
    ),
    "too many hours": (lambda loops: loops.update(hours=13), "python.yaml: .*'loops': hours"),
    "odd minutes": (lambda loops: loops.update(hours=1.3), "python.yaml: .*'loops': hours"),
    "a misspelt key": (
        lambda loops: loops.update(dificulty=2),
        "python.yaml: .*'loops': dificulty",
    ),
    "a missing key": (lambda loops: loops.pop("outcomes"), "python.yaml: .*'loops': outcomes"),
    "a plain http link": (
        lambda loops: loops.update(resources=[{"title": "x", "url": "http://example.org"}]),
        "python.yaml: .*'loops': resources.0.url",
    ),
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
def test_a_broken_concept_is_refused_by_name(breakage: str, tmp_path: Path) -> None:
    break_it, message = BREAKAGES[breakage]
    copy = _copy(tmp_path)
    content = yaml.safe_load((copy / "python.yaml").read_text())
    break_it(_loops(content))
    (copy / "python.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(CatalogError, match=message):
        read_catalog(copy)


def test_a_goal_without_a_known_target_is_refused_by_name(tmp_path: Path) -> None:
    copy = _copy(tmp_path)
    content = yaml.safe_load((copy / "goals.yaml").read_text())
    content["goals"][0]["targets"]["core"].append("knitting")
    (copy / "goals.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(CatalogError, match="Goal 'backend-developer-python' refers to 'knitting'"):
        read_catalog(copy)


def test_a_file_that_is_not_yaml_is_refused_by_name(tmp_path: Path) -> None:
    copy = _copy(tmp_path)
    (copy / "data.yaml").write_text("concepts: [")
    with pytest.raises(StartupError, match=r"data\.yaml is not valid YAML"):
        read_catalog(copy)


def _copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FOLDER, tmp_path / "catalog"))
