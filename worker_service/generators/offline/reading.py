"""From the YAML files to a catalog in one language, checked against itself."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import cache, lru_cache, partial
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from shared.roadmap import LANGUAGES, Level

from .catalog import (
    STRICT,
    Alternatives,
    Catalog,
    CatalogError,
    Cluster,
    Concept,
    Goal,
    Project,
    QuizQuestion,
    Requirement,
    Slug,
    Text,
    Words,
)
from .languages import taken_in

QUIZZES = "quiz/"
FOLDER = Path(__file__).parents[2] / "catalog"


class _WithId(Protocol):
    @property
    def id(self) -> str: ...


@dataclass(frozen=True, slots=True)
class _Head:
    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    id: Slug
    name: Text
    links_written: date


@dataclass(frozen=True, slots=True)
class _Quiz:
    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    concept: Slug
    questions: tuple[QuizQuestion, ...]


T = TypeVar("T")
Named = TypeVar("Named", bound=_WithId)
Entry = dict[str, Any]
Content = Mapping[str, dict[str, Any]]  # Any: YAML
"""Parsed files by their path below the folder, in the order of the paths."""


def load_catalog(language: str = "en") -> Catalog:
    """The catalog that comes with the package, read once per process and language."""
    return _load_catalog(language)


@cache
def _load_catalog(language: str) -> Catalog:
    return read_catalog(FOLDER, language)


def read_catalog(folder: Path, language: str = "en") -> Catalog:
    """Read and check a folder of YAML files; raises CatalogError naming file and entry."""
    files = _read(folder)
    plans = {name: raw for name, raw in files.items() if not name.startswith(QUIZZES)}
    with _nothing_to_collect():
        content = {name: _parsed(name, raw) for name, raw in plans.items()}
        return _Reader(content, language).catalog(folder, _version(files))


@contextmanager
def _nothing_to_collect() -> Iterator[None]:
    """What is read stays: looking for garbage among it would take a quarter of the time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@lru_cache(2 * len(LANGUAGES))
def quizzes_of(folder: Path, language: str) -> Mapping[str, tuple[QuizQuestion, ...]]:
    """Questions by concept. They are read when the first lesson needs them, not by who plans."""
    files = {name: raw for name, raw in _read(folder).items() if name.startswith(QUIZZES)}
    content = {name: _parsed(name, raw) for name, raw in files.items()}
    return {one.concept: one.questions for one in _Reader(content, language).quizzes()}


def _read(folder: Path) -> dict[str, bytes]:
    paths = sorted(folder.rglob("*.yaml"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def _parsed(name: str, raw: bytes) -> dict[str, Any]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C one is ten times as fast
    try:
        parsed = yaml.load(raw, Loader=loader)  # noqa: S506 – both are safe loaders
    except yaml.YAMLError as error:
        raise CatalogError(f"{name} is not valid YAML: {error}") from error
    if not isinstance(parsed, dict):
        raise CatalogError(f"{name} must hold a mapping at its top level.")
    return parsed


def _version(files: Mapping[str, bytes]) -> str:
    """Twelve hex digits of a SHA-256 over names and contents: which data a plan was made of."""
    digest = hashlib.sha256()
    for name, raw in files.items():
        digest.update(name.encode() + b"\0" + raw + b"\0")
    return digest.hexdigest()[:12]


class _Reader:
    """One reading: the files' content, and the language that its texts are taken in."""

    def __init__(self, content: Content, language: str) -> None:
        self._content = content
        self._language = language

    def catalog(self, folder: Path, version: str) -> Catalog:
        alternatives = self._by_id(Alternatives, "alternatives.yaml", "alternatives")
        heads = {name: self._head(name) for name in self._names("domains/")}
        concepts: dict[str, Concept] = {}
        for name, head in heads.items():
            filled = partial(_filled, head=head, alternatives=alternatives)
            self._add(concepts, Concept, name, "concepts", filled)
        catalog = Catalog(
            folder=folder,
            version=version,
            language=self._language,
            domains={head.id: head.name for head in heads.values()},
            clusters=self._by_id(Cluster, "domains/", "clusters"),
            concepts=concepts,
            alternatives=alternatives,
            goals=self._by_id(Goal, "goals/", "goals"),
            projects=self._by_id(Project, "projects.yaml", "projects"),
            words=self._words(),
        )
        _check_references(catalog)
        _check_order(catalog)
        return catalog

    def _names(self, start: str) -> list[str]:
        return [name for name in self._content if name.startswith(start)]

    def _head(self, name: str) -> _Head:
        head = self._content[name].get("domain")
        return self._checked(TypeAdapter(_Head), head, name, "domain")

    def quizzes(self) -> Iterator[_Quiz]:
        adapter = TypeAdapter(_Quiz)
        for name in self._names(QUIZZES):
            for where, entry in _entries(self._content, name, "quizzes"):
                yield self._checked(adapter, entry, name, where)

    def _words(self) -> Words:
        words = self._content.get("words.yaml")
        return self._checked(TypeAdapter(Words), words, "words.yaml", "the file")

    def _by_id(self, kind: type[Named], start: str, key: str) -> dict[str, Named]:
        found: dict[str, Named] = {}
        for name in self._names(start):
            self._add(found, kind, name, key)
        return found

    def _add(
        self,
        found: dict[str, Named],
        kind: type[Named],
        name: str,
        key: str,
        filled: Callable[[Entry], Entry] = dict,
    ) -> None:
        adapter = TypeAdapter(kind)
        for where, entry in _entries(self._content, name, key):
            one = self._checked(adapter, filled(entry), name, where)
            if one.id in found:
                raise CatalogError(f"{name}: the id '{one.id}' is taken already.")
            found[one.id] = one

    def _checked(self, adapter: TypeAdapter[T], entry: Any, name: str, where: str) -> T:
        try:
            spoken = taken_in(self._language, entry) if isinstance(entry, dict) else entry
            return adapter.validate_python(spoken)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise CatalogError(f"{name}: {where}: {field}: {first['msg']}.") from error
        except ValueError as error:
            raise CatalogError(f"{name}: {where}: {error}.") from error


def _entries(content: Content, name: str, key: str) -> Iterator[tuple[str, Entry]]:
    """Each entry of a list with the words that find it again in the file."""
    for position, entry in enumerate(content[name].get(key) or (), start=1):
        if not isinstance(entry, dict):
            raise CatalogError(f"{name}: entry {position} of {key} must be a mapping.")
        yield f"{key} entry '{entry.get('id', entry.get('concept', position))}'", entry


def _filled(entry: Entry, head: _Head, alternatives: Mapping[str, Alternatives]) -> Entry:
    """What a concept has from its file, and the member chosen of each group of alternatives."""
    filled = entry | {"domain": head.id}
    if isinstance(links := entry.get("resources"), list):
        filled["resources"] = [{"written": head.links_written} | dict(one) for one in links]
    if isinstance(edges := entry.get("requires"), list):
        filled["requires"] = [_settled(edge, alternatives) for edge in edges]
    return filled


def _settled(edge: Any, alternatives: Mapping[str, Alternatives]) -> Any:
    if not isinstance(edge, dict) or "one_of" not in edge or "id" in edge:
        return edge
    group = alternatives.get(edge["one_of"])
    if group is None:
        raise CatalogError(f"'{edge['one_of']}' is no group of alternatives.")
    return edge | {"id": group.members[0]}


def _check_references(catalog: Catalog) -> None:
    for concept in catalog.concepts.values():
        if concept.cluster not in catalog.clusters:
            raise CatalogError(f"Concept '{concept.id}' is in no known cluster.")
        _check_known(catalog, f"Concept '{concept.id}'", [one.id for one in concept.requires])
    for group in catalog.alternatives.values():
        _check_known(catalog, f"Alternatives '{group.id}'", group.members)
    for goal in catalog.goals.values():
        wanted = (*goal.targets.every, *goal.prefer, *goal.fluent)
        _check_known(catalog, f"Goal '{goal.id}'", wanted)
    for project in catalog.projects.values():
        _check_known(catalog, f"Project '{project.id}'", project.requires)


def _check_known(catalog: Catalog, who: str, ids: Iterable[str]) -> None:
    for one in ids:
        if one not in catalog.concepts:
            raise CatalogError(f"{who} refers to '{one}', which is no concept.")


def _check_order(catalog: Catalog) -> None:
    """Edges run from easy to hard and never in a circle; so do the levels that assume them.

    Whoever is assumed to know a concept is assumed to know what it needs: pruning relies on it.
    It holds for every member that may be chosen.
    """
    edges = {one.id: [*_targets(catalog, one.requires)] for one in catalog.concepts.values()}
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        raise CatalogError(f"Concepts require each other: {' → '.join(error.args[1])}.") from error
    for concept in catalog.concepts.values():
        hard = [edge for edge in concept.requires if edge.hard]
        for needed in map(catalog.concepts.__getitem__, _targets(catalog, hard)):
            if needed.difficulty > concept.difficulty:
                raise CatalogError(f"'{concept.id}' is easier than '{needed.id}', which it needs.")
            if concept.assumed_from and not _assumed_as_early(needed, concept.assumed_from):
                raise CatalogError(f"'{concept.id}' is assumed earlier than '{needed.id}'.")


def _targets(catalog: Catalog, edges: Iterable[Requirement]) -> Iterator[str]:
    for edge in edges:
        yield from catalog.members(edge)


def _assumed_as_early(needed: Concept, level: Level) -> bool:
    return needed.assumed_from in (Level.INTERMEDIATE, level)
