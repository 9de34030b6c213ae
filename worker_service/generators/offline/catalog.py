"""The catalog: what can be taught, what each thing needs first, and what goals come down to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from shared.errors import StartupError
from shared.roadmap import Level

FOLDER = Path(__file__).parents[2] / "catalog"
NOT_A_DOMAIN = {"goals.yaml", "projects.yaml", "words.yaml"}
"""Every other file in the folder describes one domain."""

Slug = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=60)]
Text = Annotated[str, Field(min_length=1, max_length=400)]
STRICT = ConfigDict(extra="forbid")

T = TypeVar("T")


class CatalogError(StartupError):
    """The catalog contradicts itself; the sentence names the file and the entry."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """An edge: ``id`` has to be studied first (hard), or had better be (soft)."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    id: Slug
    reason: Text
    strength: Literal["hard", "soft"] = "hard"

    @property
    def hard(self) -> bool:
        return self.strength == "hard"


@dataclass(frozen=True, slots=True)
class Link:
    """Somewhere to read on. Nobody has checked the address for the learner."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    title: Text
    url: Annotated[str, Field(pattern=r"^https://\S+$")]
    type: Literal["documentation", "article", "book", "course", "video", "tool"] = "documentation"


@dataclass(frozen=True, slots=True)
class Concept:
    """One thing to learn; ``hours`` are for ordinary mastery, outcomes complete "You can …"."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    id: Slug
    name: Text
    description: Text
    domain: Slug
    cluster: Slug
    difficulty: Annotated[int, Field(ge=1, le=5)]
    hours: Annotated[float, Field(ge=0.5, le=12, multiple_of=0.5)]
    requires: tuple[Requirement, ...]
    outcomes: Annotated[tuple[Text, ...], Field(min_length=1, max_length=3)]
    practice: Annotated[tuple[Text, ...], Field(min_length=1, max_length=2)]
    resources: Annotated[tuple[Link, ...], Field(min_length=1, max_length=2)]
    aliases: tuple[Text, ...] = ()
    assumed_from: Literal[Level.INTERMEDIATE, Level.ADVANCED] | None = None

    @property
    def needs(self) -> tuple[str, ...]:
        """The concepts that have to come first, without exception."""
        return tuple(one.id for one in self.requires if one.hard)


@dataclass(frozen=True, slots=True)
class Cluster:
    """A theme inside a domain; modules are made of it."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    id: Slug
    name: Text
    summary: Text


@dataclass(frozen=True, slots=True)
class Targets:
    """What a goal comes down to: ``core`` at any price, ``supporting`` when there is time."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    core: Annotated[tuple[Slug, ...], Field(min_length=1)]
    supporting: tuple[Slug, ...] = ()


@dataclass(frozen=True, slots=True)
class Goal:
    """Something people ask for, in their words, and the concepts it comes down to."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    id: Slug
    kind: Literal["role", "skill", "project"]
    name: Text
    blurb: Text
    aliases: Annotated[tuple[Text, ...], Field(min_length=1)]
    targets: Targets
    context: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Project:
    """A milestone: may close a stage once everything it requires has been studied or is known."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    id: Slug
    title: Text
    deliverable: Text
    acceptance: Annotated[tuple[Text, ...], Field(min_length=1)]
    requires: Annotated[tuple[Slug, ...], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class Words:
    """How requests are read; see words.yaml for what each list means."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    stop: frozenset[str]
    generic: frozenset[str]
    same: dict[str, str]
    audience: frozenset[str]
    elsewhere: dict[str, frozenset[str]]
    elsewhere_phrases: dict[str, tuple[str, ...]]
    purpose: frozenset[str]
    for_whom: frozenset[str]
    everyday: frozenset[str]
    without: frozenset[str]

    def akin_to(self, word: str) -> str | None:
        """What we teach that comes near a word for something we do not; None for other words."""
        return next((kin for kin, words in self.elsewhere.items() if word in words), None)


@dataclass(frozen=True, slots=True)
class _Head:
    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    id: Slug
    name: Text


@dataclass(frozen=True, slots=True, eq=False)
class Catalog:
    """Everything above, checked against itself. Compared by identity, so it can key a cache."""

    version: str
    domains: Mapping[str, str]
    clusters: Mapping[str, Cluster]
    concepts: Mapping[str, Concept]
    goals: Mapping[str, Goal]
    projects: Mapping[str, Project]
    words: Words

    def ancestors(self, ids: frozenset[str]) -> frozenset[str]:
        """The given concepts with everything that any of them needs, directly or not."""
        found: set[str] = set()
        waiting = list(ids)
        while waiting:
            one = waiting.pop()
            if one not in found:
                found.add(one)
                waiting.extend(self.concepts[one].needs)
        return frozenset(found)


@cache
def load_catalog() -> Catalog:
    """The catalog that comes with the package, read once per process."""
    return read_catalog(FOLDER)


def read_catalog(folder: Path) -> Catalog:
    """Read and check a folder of YAML files; raises CatalogError naming file and entry."""
    files = {path.name: path.read_bytes() for path in sorted(folder.glob("*.yaml"))}
    content = {name: _parse(name, raw) for name, raw in files.items()}
    domains: dict[str, str] = {}
    clusters: dict[str, Cluster] = {}
    concepts: dict[str, Concept] = {}
    for name in content.keys() - NOT_A_DOMAIN:
        head = _checked(TypeAdapter(_Head), content[name].get("domain"), name, "domain")
        _add(domains, head.id, head.name, name)
    for name in sorted(content.keys() - NOT_A_DOMAIN):
        for cluster in _entries(Cluster, content, name, "clusters"):
            _add(clusters, cluster.id, cluster, name)
        domain = {"domain": content[name]["domain"]["id"]}
        for concept in _entries(Concept, content, name, "concepts", **domain):
            _add(concepts, concept.id, concept, name)
    catalog = Catalog(
        version=_version(files),
        domains=domains,
        clusters=clusters,
        concepts=concepts,
        goals={goal.id: goal for goal in _entries(Goal, content, "goals.yaml", "goals")},
        projects={one.id: one for one in _entries(Project, content, "projects.yaml", "projects")},
        words=_checked(TypeAdapter(Words), content.get("words.yaml"), "words.yaml", "the file"),
    )
    _check_references(catalog)
    _check_order(catalog)
    return catalog


def _parse(name: str, raw: bytes) -> dict[str, Any]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C one is ten times as fast
    try:
        parsed = yaml.load(raw, Loader=loader)  # noqa: S506 – both are safe loaders
    except yaml.YAMLError as error:
        raise CatalogError(f"{name} is not valid YAML: {error}") from error
    if not isinstance(parsed, dict):
        raise CatalogError(f"{name} must hold a mapping at its top level.")
    return parsed


def _entries(
    kind: type[T], content: dict[str, dict[str, Any]], name: str, key: str, **more: str
) -> Iterator[T]:
    adapter = TypeAdapter(kind)
    for position, entry in enumerate(content.get(name, {}).get(key) or (), start=1):
        if not isinstance(entry, dict):
            raise CatalogError(f"{name}: entry {position} of {key} must be a mapping.")
        where = f"{key} entry '{entry.get('id', position)}'"
        yield _checked(adapter, entry | more, name, where)


def _checked(adapter: TypeAdapter[T], entry: object, name: str, where: str) -> T:
    try:
        checked = adapter.validate_python(entry)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise CatalogError(f"{name}: {where}: {field}: {first['msg']}.") from error
    return checked


def _add(known: dict[str, T], key: str, value: T, name: str) -> None:
    if key in known:
        raise CatalogError(f"{name}: the id '{key}' is taken already.")
    known[key] = value


def _check_references(catalog: Catalog) -> None:
    for concept in catalog.concepts.values():
        if concept.cluster not in catalog.clusters:
            raise CatalogError(f"Concept '{concept.id}' is in no known cluster.")
        _check_known(catalog, f"Concept '{concept.id}'", [one.id for one in concept.requires])
    for goal in catalog.goals.values():
        wanted = (*goal.targets.core, *goal.targets.supporting)
        _check_known(catalog, f"Goal '{goal.id}'", wanted)
    for project in catalog.projects.values():
        _check_known(catalog, f"Project '{project.id}'", project.requires)


def _check_known(catalog: Catalog, who: str, ids: tuple[str, ...] | list[str]) -> None:
    for one in ids:
        if one not in catalog.concepts:
            raise CatalogError(f"{who} refers to '{one}', which is no concept.")


def _check_order(catalog: Catalog) -> None:
    """Edges run from easy to hard and never in a circle; so do the levels that assume them.

    Whoever is assumed to know a concept is assumed to know what it needs: pruning relies on it.
    """
    edges = {one.id: [edge.id for edge in one.requires] for one in catalog.concepts.values()}
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        raise CatalogError(f"Concepts require each other: {' → '.join(error.args[1])}.") from error
    for concept in catalog.concepts.values():
        for needed in map(catalog.concepts.__getitem__, concept.needs):
            if needed.difficulty > concept.difficulty:
                raise CatalogError(f"'{concept.id}' is easier than '{needed.id}', which it needs.")
            if concept.assumed_from and not _assumed_as_early(needed, concept.assumed_from):
                raise CatalogError(f"'{concept.id}' is assumed earlier than '{needed.id}'.")


def _assumed_as_early(needed: Concept, level: Level) -> bool:
    return needed.assumed_from in (Level.INTERMEDIATE, level)


def _version(files: dict[str, bytes]) -> str:
    """Twelve hex digits of a SHA-256 over names and contents: which data a plan was made of."""
    digest = hashlib.sha256()
    for name, raw in files.items():
        digest.update(name.encode() + b"\0" + raw + b"\0")
    return digest.hexdigest()[:12]
