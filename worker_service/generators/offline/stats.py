"""How much the catalog holds, domain by domain."""

from __future__ import annotations

from collections import Counter

from shared.roadmap import LANGUAGES, Shape

from .catalog import Catalog, Concept
from .reading import quizzes_of


class DomainStats(Shape):
    """Counts of one domain; edges are those that its concepts require."""

    id: str
    name: str
    concepts: int
    hard_edges: int
    soft_edges: int
    hours: float
    resources: int
    quizzed: int
    projects: int


class CatalogStats(Shape):
    """``quizzed`` concepts have questions of their own; projects count where they are hardest."""

    version: str
    languages: tuple[str, ...]
    domains: tuple[DomainStats, ...]
    goals: dict[str, int]
    projects: int
    alternatives: int


def stats_of(catalog: Catalog) -> CatalogStats:
    projects = Counter(
        max((catalog.concepts[one] for one in project.requires), key=_depth).domain
        for project in catalog.projects.values()
    )
    return CatalogStats(
        version=catalog.version,
        languages=LANGUAGES,
        domains=tuple(_domain(catalog, domain, projects[domain]) for domain in catalog.domains),
        goals=dict(Counter(goal.kind for goal in catalog.goals.values())),
        projects=len(catalog.projects),
        alternatives=len(catalog.alternatives),
    )


def _depth(concept: Concept) -> tuple[int, str]:
    return concept.difficulty, concept.id


def _domain(catalog: Catalog, domain: str, projects: int) -> DomainStats:
    concepts = [one for one in catalog.concepts.values() if one.domain == domain]
    quizzes = quizzes_of(catalog.folder, catalog.language)
    edges = Counter(edge.hard for one in concepts for edge in one.requires)
    return DomainStats(
        id=domain,
        name=catalog.domains[domain],
        concepts=len(concepts),
        hard_edges=edges[True],
        soft_edges=edges[False],
        hours=sum(one.hours[1] for one in concepts),
        resources=sum(len(one.resources) for one in concepts),
        quizzed=sum(one.id in quizzes for one in concepts),
        projects=projects,
    )
