"""What people say finds the goal they mean, and everything else is refused."""

from __future__ import annotations

from collections import defaultdict

import pytest

from shared.errors import GoalNotCovered
from worker_service.generators.offline import load_catalog
from worker_service.generators.offline.catalog import Goal
from worker_service.generators.offline.matching import (
    edit_distance,
    match_goal,
    match_topic,
    normalise,
    stem,
)

CATALOG = load_catalog()

COVERED = {
    "Become a backend developer with Python": ["backend-developer-python"],
    "backend developer": ["backend-developer-python"],
    "Back-end engineer": ["backend-developer-python"],
    "BACK END DEVELOPER!!!": ["backend-developer-python"],
    "I'd like to become a junior backend developer using Python and Docker": [
        "backend-developer-python",
        "docker",
    ],
    "become a backend dev": ["backend-developer-python"],
    "Python dev": ["backend-developer-python"],
    "Python": ["python-basics"],
    "learn pythn": ["python-basics"],
    "Learn pyhton from scratch": ["python-basics"],
    "learn to code": ["python-basics"],
    "Learn the basics of programming": ["python-basics"],
    "python for Java developers": ["python-basics"],
    "advanced python features": ["advanced-python"],
    "FastAPI and Docker": ["fastapi", "docker"],
    "Docker and FastAPI": ["docker", "fastapi"],
    "fast api": ["fastapi"],
    "Build a REST API with FastAPI and PostgreSQL": ["fastapi", "sql-postgresql"],
    "Learn Python and SQL and Git": ["python-basics", "sql-postgresql", "git"],
    "I want to learn SQL for my job": ["sql-postgresql"],
    "SQL for my job at a hospital": ["sql-postgresql"],
    "Postgres": ["sql-postgresql"],
    "databse design": ["database-design"],
    'Learn "SQL", it\'s great, ok?': ["sql-postgresql"],
    "Let’s learn “SQL”": ["sql-postgresql"],
    'Learn "SQL" and it\'s joins': ["sql-joins"],
    "python for Java devs": ["python-basics"],
    "SQL for an analyst": ["sql-for-analysts"],
    "become a data analyst": ["data-analyst"],
    "Python for data analysis": ["data-analysis-python"],
    "pandas": ["data-analysis-python"],
    "Pydantic": ["pydantic"],
    "git": ["git"],
    "get better at git": ["git"],
    "learn Git branching": ["git-branches"],
    "window functions in SQL": ["window-functions"],
    "How do I use generators in Python?": ["generators"],
    "learn regex": ["regular-expressions"],
    "Master Docker in 4 weeks": ["docker"],
    "Docker Compose": ["docker-compose"],
    "CI/CD": ["delivery-and-ci"],
    "unit testing in python": ["testing-python"],
    "asyncio in Python": ["async-python"],
    "message queues": ["message-queues"],
    "linux command line": ["linux-command-line"],
    "algorithms and data structures": ["algorithms-data-structures"],
    "learn Python so I can automate boring tasks at work": ["automation-python"],
    "deploy a FastAPI app with Docker": ["ship-a-web-service"],
    "I want to build REST APIs": ["rest-api-design"],
    "learn functions in Python": ["functions"],
    "Ｐｙｔｈｏｎ": ["python-basics"],  # full-width letters, as some keyboards send them
}

REFUSED = [
    "Knit a sweater",
    "Become a pilot",
    "Learn to cook",
    "asdfgh",
    "Rust",
    "Learn piano",
    # generic words alone
    "developer",
    "dev",
    "web dev",
    "learn",
    "build",
    "basics",
    "become a developer",
    "software engineer",
    "web developer",
    "I want to build an app",
    "system design",
    "the",
    "!!!",
    "become a nurse",
    # what a plan in Python would betray
    "Become a Java developer",
    "Become a frontend developer",
    "Become a front-end developer",
    "full stack developer",
    "backend developer with Java",
    "backend in Go",
    "backend developer without Python",
    "data analysis without pandas",
    "Node.js backend",
    "PHP backend developer",
    "Backend developer with Ruby on Rails",
    "learn to code in Java",
    "Learn Java and Python",
    "C++",
    ".NET",
    "R programming",
    "Django",
    "React and Python",
    "machine learning with Python",
    "data scientist",
    "python web scraping",
    "game development in Python",
    "Oracle SQL",
    "SQL Server",
    "database administrator",
    # words that mean something else out there
    "ball python care",
    "Monty Python history",
    "become a test pilot",
    "drug testing",
    "build a shelf",
    "shell collecting",
    "learn to rest",
    "learn backhand",
    "pedantic",
    "massage therapy",
    "yoga classes",
    "technical analysis",
    "real analysis",
    "home automation",
    "process engineer",
    "permission to marry",
    "commit to a relationship",
    "container ship captain",
    "Knitting for git users",
    "become a string quartet player",
    "message in a bottle",
    "learn Spanish",
    "Стать бэкенд-разработчиком",
    "学习编程",
]


@pytest.mark.parametrize("text", COVERED)
def test_a_covered_goal_is_found(text: str) -> None:
    assert [entry.id for entry in match_goal(CATALOG, text).entries] == COVERED[text]


@pytest.mark.parametrize("text", REFUSED)
def test_anything_else_is_refused_with_five_goals_that_are_covered(text: str) -> None:
    with pytest.raises(GoalNotCovered) as refusal:
        match_goal(CATALOG, text)
    names = {goal.name for goal in CATALOG.goals.values()}
    assert len(set(refusal.value.nearest)) == 5
    assert set(refusal.value.nearest) <= names


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("Become a Java developer", "Backend developer with Python"),
        ("Oracle SQL", "SQL and PostgreSQL"),
        ("learn to code in Java", "Python programming basics"),
        ("container ship captain", "Docker"),
        ("learn rust", "Python programming basics"),
        ("learn deep learning", "Data analysis with Python"),
        ("mysql", "SQL and PostgreSQL"),
    ],
)
def test_the_nearest_goal_of_a_refusal_is_listed_first(text: str, nearest: str) -> None:
    with pytest.raises(GoalNotCovered) as refusal:
        match_goal(CATALOG, text)
    assert refusal.value.nearest[0] == nearest


def test_what_is_akin_to_a_thing_we_do_not_teach_comes_before_the_unrelated() -> None:
    with pytest.raises(GoalNotCovered) as refusal:
        match_goal(CATALOG, "learn javascript")
    assert {"Backend developer with Python", "REST API design", "FastAPI"} <= set(
        refusal.value.nearest
    )
    assert "Linux command line" not in refusal.value.nearest


def test_whatever_we_call_akin_names_something_we_teach() -> None:
    for kin in (*CATALOG.words.elsewhere, *CATALOG.words.elsewhere_phrases):
        assert CATALOG.words.akin_to(kin) is None
        assert match_goal(CATALOG, kin).entries


@pytest.mark.parametrize("goal", CATALOG.goals.values(), ids=lambda goal: goal.id)
def test_every_name_and_alias_of_a_goal_finds_it(goal: Goal) -> None:
    for text in (goal.name, *goal.aliases):
        assert [entry.id for entry in match_goal(CATALOG, f"Learn {text}").entries] == [goal.id]


def test_every_name_of_a_concept_finds_something_that_teaches_it() -> None:
    for concept in CATALOG.concepts.values():
        found = match_topic(CATALOG, concept.name)
        assert found is not None, concept.name
        assert concept.id in CATALOG.ancestors(found), concept.name


def test_no_alias_is_claimed_by_two_goals_or_two_concepts() -> None:
    for entries in (CATALOG.goals.values(), CATALOG.concepts.values()):
        claims: defaultdict[frozenset[str], set[str]] = defaultdict(set)
        for entry in entries:
            for text in (entry.name, *entry.aliases):
                words = normalise(CATALOG, text).replace("-", " ").split()
                said = frozenset(stem(one) for one in words if one not in CATALOG.words.stop)
                claims[said].add(entry.id)
        assert {words: ids for words, ids in claims.items() if len(ids) > 1} == {}


def test_words_that_no_goal_explains_are_reported() -> None:
    assert match_goal(CATALOG, "SQL for my job at a hospital").ignored == ("hospital",)


def test_a_negated_part_is_not_matched_but_handed_on() -> None:
    match = match_goal(CATALOG, "Python backend without Docker")
    assert [entry.id for entry in match.entries] == ["backend-developer-python"]
    assert match.unwanted == ("docker",)


def test_at_most_three_goals_are_combined() -> None:
    match = match_goal(CATALOG, "FastAPI, PostgreSQL, Docker and Git")
    assert len(match.entries) == 3
    assert len(match.ignored) == 1


@pytest.mark.parametrize(
    ("topic", "concepts"),
    [
        ("list comprehensions", {"comprehensions"}),
        ("git-branches", {"git-branches"}),
        ("Git", set(CATALOG.goals["git"].targets.core)),
        ("Python", set(CATALOG.goals["python-basics"].targets.core)),
    ],
)
def test_a_topic_stands_for_the_concepts_its_name_means(topic: str, concepts: set[str]) -> None:
    assert set(match_topic(CATALOG, topic) or ()) == concepts


@pytest.mark.parametrize("topic", ["Java", "knitting", "backend developer", "", "???"])
def test_a_topic_that_is_unknown_or_as_wide_as_a_role_stands_for_nothing(topic: str) -> None:
    assert match_topic(CATALOG, topic) is None


@pytest.mark.parametrize(
    ("words", "root"),
    [
        (("caching", "caches", "cache"), "cach"),
        (("queries", "query"), "query"),
        (("programming", "program"), "program"),
        (("string", "strings"), "string"),
        (("analysis",), "analysis"),
        (("classes", "classe"), "class"),
    ],
)
def test_forms_of_a_word_share_a_stem(words: tuple[str, ...], root: str) -> None:
    assert {stem(word) for word in words} == {root}


@pytest.mark.parametrize(
    ("one", "other", "distance"),
    [("python", "python", 0), ("pyhton", "python", 1), ("pythn", "python", 1), ("", "git", 3)],
)
def test_a_swap_of_neighbours_is_one_slip(one: str, other: str, distance: int) -> None:
    assert edit_distance(one, other) == edit_distance(other, one) == distance
