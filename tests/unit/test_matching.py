"""What people say finds the goal they mean, and everything else is refused."""

from __future__ import annotations

from collections import defaultdict

import pytest

from shared.errors import GoalNotCovered
from worker_service.generators.offline import load_catalog
from worker_service.generators.offline.aliases import index_of
from worker_service.generators.offline.catalog import Goal
from worker_service.generators.offline.matching import (
    edit_distance,
    match_goal,
    match_topic,
    normalise,
    stem,
)
from worker_service.generators.offline.segmenting import Segmenter
from worker_service.generators.offline.spelling import is_slip

CATALOG = load_catalog()
CHINESE = load_catalog("zh")
THREE = ("helm", "kubernetes", "terraform")

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
    "Node.js backend": ["backend-developer-node"],
    "Become a front-end developer": ["frontend-developer"],
    "web developer": ["full-stack-developer"],
    "software engineer": ["full-stack-developer"],
    "Python": ["python-basics"],
    "learn pythn": ["python-basics"],
    "Learn pyhton from scratch": ["python-basics"],
    "learn to code": ["programming-basics"],
    "Learn the basics of programming": ["programming-basics"],
    "python for Java developers": ["python-basics"],
    "python for Java devs": ["python-basics"],
    "go deeper into Python": ["python-basics"],
    "advanced python features": ["advanced-python"],
    "FastAPI and Docker": ["fastapi", "docker"],
    "Docker and FastAPI": ["docker", "fastapi"],
    "React and Python": ["react", "python-basics"],
    "fast api": ["fastapi"],
    "Django": ["django"],
    "Build a REST API with FastAPI and PostgreSQL": ["fastapi", "sql-postgresql"],
    "Learn Python and SQL and Git": ["python-basics", "sql-postgresql", "git"],
    "I want to learn SQL for my job": ["sql-postgresql"],
    "SQL for my job at a hospital": ["sql-postgresql"],
    "Postgres": ["sql-postgresql"],
    "databse design": ["database-design"],
    'Learn "SQL", it\'s great, ok?': ["sql-postgresql"],
    "Let’s learn “SQL”": ["sql-postgresql"],
    'Learn "SQL" and it\'s joins': ["sql-postgresql", "sql-joins"],
    "become a data analyst": ["data-analyst"],
    "data scientist": ["data-scientist"],
    "machine learning with Python": ["machine-learning"],
    "database administrator": ["database-administrator"],
    "system design": ["system-design"],
    "Design systems": ["design-systems"],
    "python web scraping": ["web-scraper"],
    "Python for data analysis": ["data-analysis-python"],
    "pandas": ["data-analysis-python"],
    "Pydantic": ["pydantic"],
    "git": ["git"],
    "get better at git": ["git"],
    "window functions in SQL": ["window-functions"],
    "How do I use generators in Python?": ["generators"],
    "learn regex": ["regular-expressions"],
    "UNION, INTERSECT and EXCEPT": ["sql-set-operations"],
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
    "学习机器学习": ["machine-learning"],
    "学习编程": ["programming-basics"],
    "成为后端开发工程师": ["backend-developer-python"],
    "用 Python 做数据分析": ["data-analysis-python"],
    "大模型应用开发": ["llm-applications"],
    "前端工程師": ["frontend-developer"],
    "Python、SQL 和 Git": ["python-basics", "sql-postgresql", "git"],
    "学习 FastAPI 和 Docker": ["fastapi", "docker"],
    "Python 后端 developer": ["backend-developer-python"],
    "英语老师想学编程": ["programming-basics"],
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
    "learn",
    "build",
    "basics",
    "become a developer",
    "I want to build an app",
    "the",
    "!!!",
    "become a nurse",
    "工程师",
    "学习",
    # what a plan of ours would betray
    "Become a Java developer",
    "backend developer with Java",
    "backend in Go",
    "Java 后端",
    "backend developer without Python",
    "data analysis without pandas or Python",
    "PHP backend developer",
    "Backend developer with Ruby on Rails",
    "learn to code in Java",
    "Learn Java and Python",
    "C++",
    ".NET",
    "R programming",
    "React Native",
    "game development in Python",
    "Oracle SQL",
    "SQL Server",
    "Excel VBA",
    "小程序开发",
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
    "react to stress",
    "reach my goals",
    "data entry",
    "statement",
    "container ship captain",
    "Knitting for git users",
    "become a string quartet player",
    "message in a bottle",
    "learn Spanish",
    "数学",
    "Стать бэкенд-разработчиком",
    "プログラミングを学びたい",
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
        ("learn to code in C", "Programming basics"),
        ("container ship captain", "Docker"),
        ("learn rust", "Backend developer with Python"),
        ("docker and knitting", "Docker"),
    ],
)
def test_the_nearest_goal_of_a_refusal_is_listed_first(text: str, nearest: str) -> None:
    with pytest.raises(GoalNotCovered) as refusal:
        match_goal(CATALOG, text)
    assert refusal.value.nearest[0] == nearest


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Become a Rust developer", "Known, but not taught here: “Rust”."),
        ("Knit a sweater", "Not understood: “Knit”, “sweater”."),
        ("Tricoter un Chandail à Orléans", "Not understood: “Tricoter”, “un”, “Chandail”."),
        ("!!!", "It names no subject to learn."),
        ("developer", "Too little to go by: “developer”. Name a language, a tool or a role."),
        ("string theory", "Not clear together with the rest: “string”, “theory”."),
        ("Kubernetes without Docker", "Kubernetes comes to little without “Docker”."),
    ],
)
def test_a_refusal_says_why(text: str, reason: str) -> None:
    with pytest.raises(GoalNotCovered) as refusal:
        match_goal(CATALOG, text)
    assert f"No roadmap covers “{text}”. {reason} The nearest" in refusal.value.detail


def test_a_refusal_is_in_the_language_of_the_plan() -> None:
    with pytest.raises(GoalNotCovered) as refusal:
        match_goal(CHINESE, "学习 Rust")
    assert "目录中暂不教授：“Rust”。" in refusal.value.detail
    assert "、".join(refusal.value.nearest) in refusal.value.detail


def test_a_goal_that_cannot_do_without_the_unwanted_is_not_offered_again() -> None:
    with pytest.raises(GoalNotCovered) as refusal:
        match_goal(CATALOG, "backend developer without Python")
    assert "Backend developer with Node.js" in refusal.value.nearest
    assert "Backend developer with Python" not in refusal.value.nearest


def test_what_we_do_not_teach_is_near_to_goals_and_is_no_name_of_ours() -> None:
    for elsewhere in CATALOG.words.elsewhere:
        assert set(elsewhere.near) <= CATALOG.goals.keys()
        for name in elsewhere.names:
            with pytest.raises(GoalNotCovered):
                match_goal(CATALOG, name)


def test_whatever_a_theme_means_is_in_the_catalog_in_every_language() -> None:
    clusters = {concept.cluster for concept in CATALOG.concepts.values()}
    for group in CATALOG.words.groups:
        assert set(group.means) <= {*clusters, *CATALOG.alternatives, *CATALOG.concepts}
        for name in group.names:
            assert match_topic(CATALOG, name)
            assert match_topic(CATALOG, name) == match_topic(CHINESE, name)


@pytest.mark.parametrize("goal", CATALOG.goals.values(), ids=lambda goal: goal.id)
def test_every_name_and_alias_of_a_goal_finds_it(goal: Goal) -> None:
    for text in (goal.name, *goal.aliases):
        assert [entry.id for entry in match_goal(CATALOG, f"Learn {text}").entries] == [goal.id]


def test_every_name_of_a_concept_finds_something_that_teaches_it() -> None:
    for concept in CATALOG.concepts.values():
        found = match_topic(CATALOG, concept.name)
        assert found is not None, concept.name
        assert concept.id in CATALOG.ancestors(found), concept.name


def test_no_alias_is_claimed_by_two_goals() -> None:
    claims: defaultdict[str, set[str]] = defaultdict(set)
    for goal in CATALOG.goals.values():
        for text in (goal.name, *goal.aliases):
            claims[normalise(CATALOG, text)].add(goal.id)
    assert {text: ids for text, ids in claims.items() if len(ids) > 1} == {}


@pytest.mark.parametrize("goal", CATALOG.goals.values(), ids=lambda goal: goal.id)
def test_a_name_means_the_same_whatever_language_the_plan_is_in(goal: Goal) -> None:
    for text in (goal.name, CHINESE.goals[goal.id].name):
        assert match_goal(CATALOG, text).entries[0].id == goal.id
        assert match_goal(CHINESE, text).entries[0].id == goal.id


def test_the_index_of_a_catalog_is_built_once() -> None:
    assert index_of(CATALOG) is index_of(CATALOG)


def test_a_match_says_what_was_heard() -> None:
    match = match_goal(CATALOG, "FastAPI and Docker for my job at a hospital")
    heard = [(one.alias, one.entry_id) for one in match.heard]
    assert heard == [("fastapi", "fastapi"), ("docker", "docker")]
    assert all(0 < one.score < 1 for one in match.heard)
    assert sum(one.score for one in match.heard) < 1


def test_words_that_no_goal_explains_are_reported() -> None:
    assert match_goal(CATALOG, "SQL for my job at a hospital").ignored == ("hospital",)


@pytest.mark.parametrize(
    ("text", "entry", "unwanted"),
    [
        ("Python backend without Docker", "backend-developer-python", ("docker",)),
        ("frontend developer, no frameworks", "frontend-developer", ("frameworks",)),
        ("React but not TypeScript", "react", ("typescript",)),
        ("devops without Helm, Kubernetes or Terraform", "devops-engineer", THREE),
        ("不用框架的前端开发", "frontend-developer", ("框架",)),
        ("后端开发，除了 Docker", "backend-developer-python", ("docker",)),
        ("Python with no prior experience", "python-basics", ()),
        ("没有基础，想学 Python", "python-basics", ()),
    ],
)
def test_a_negated_part_is_not_matched_but_handed_on(
    text: str, entry: str, unwanted: tuple[str, ...]
) -> None:
    match = match_goal(CATALOG, text)
    assert [one.id for one in match.entries] == [entry]
    assert match.unwanted == unwanted


def test_frameworks_are_all_that_any_of_them_teaches() -> None:
    frameworks = match_topic(CATALOG, "frameworks") or frozenset()
    assert frameworks.issuperset(CATALOG.alternatives["component-framework"].members)
    assert frameworks >= {"fastapi-basics", "express", "react-forms"}
    assert frameworks.isdisjoint({"html-basics", "js-syntax", "http"})


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
        ("JavaScript", set(CATALOG.goals["javascript-basics"].targets.core)),
        ("loops", {"loops"}),
        ("变量", {"values-and-variables"}),
        ("first language", {"python-setup", "javascript-setup"}),
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


@pytest.mark.parametrize(
    ("word", "known"),
    [
        ("pyhton", "python"),
        ("phyton", "python"),
        ("javascrpit", "javascript"),
        ("kuberntes", "kubernetes"),
        ("kubernates", "kubernetes"),
        ("dokcer", "docker"),
        ("linuxx", "linux"),
    ],
)
def test_a_slip_of_the_finger_is_forgiven(word: str, known: str) -> None:
    assert is_slip(word, known)


@pytest.mark.parametrize(
    ("word", "known"),
    [("reach", "react"), ("docket", "docker"), ("pedantic", "pydantic"), ("rest", "test")],
)
def test_another_word_is_no_slip(word: str, known: str) -> None:
    assert not is_slip(word, known)


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ("学习机器学习", ["学习", "机器学习"]),
        ("成为数据分析师", ["成为", "数据分析师"]),
        ("数学", ["数学"]),
        ("机器学系", ["机器学习"]),
        ("织毛衣", ["织毛衣"]),
    ],
)
def test_chinese_is_cut_at_the_words_that_explain_most(run: str, words: list[str]) -> None:
    known = Segmenter(["学习", "学", "机器学习", "成为", "数据分析", "数据分析师"])
    assert [piece.text for piece in known.cut(run)] == words
