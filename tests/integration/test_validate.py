"""POST /v1/tasks:validate: what a goal would come to, with nothing written, whatever dies."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import pytest

from api_service.estimating import usual_plan
from api_service.model_costs import ASSUMED
from api_service.planner import Plan, Planner, Refusal
from api_service.problems import Problem
from shared.database import Database
from shared.roadmap import GeneratedBy, RoadmapRequest
from shared.settings import Settings
from tests.conftest import TABLES, Servers
from tests.eventually import eventually, eventually_sync
from tests.factories import accept, execute, leases_of, row, small_roadmap
from tests.http import Api, a_goal, assert_problem, in_process

TODAY = date(2026, 11, 25)


async def validated(client: httpx2.AsyncClient, **given: Any) -> dict[str, Any]:
    answer = await client.post("/v1/tasks:validate", json=a_goal(**given))
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def is_known(process: int) -> bool:
    """Also when it has ended, until its parent has noticed."""
    return Path(f"/proc/{process}").exists()


def planners_of(process: int) -> list[int]:
    """The ids of its children that plan."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            command = (folder / "cmdline").read_bytes()
        except OSError:  # it has just ended
            continue
        if int(parent) == process and b"worker_service.generators.offline" in command:
            found.append(int(folder.name))
    return found


def lives(process: int) -> bool:
    """Also a dead one that nobody has asked after yet counts as ended."""
    stat = Path(f"/proc/{process}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


async def counts(database: Database) -> dict[str, int]:
    columns = (f"(SELECT count(*) FROM {name.strip()}) AS {name}" for name in TABLES.split(","))
    return dict(await row(database, f"SELECT {', '.join(columns)}"))


# --- what is answered ---


async def test_a_goal_of_the_catalog_is_sized_as_its_plan_would_be(
    client: httpx2.AsyncClient,
) -> None:
    found = await validated(client, hours_per_week=6.0)
    assert found["valid"] is True
    assert found["problem"] is None
    estimate = found["estimate"]
    assert (estimate["goal"], estimate["feasible"]) == ("SQL and PostgreSQL", True)
    assert estimate["model"] is None
    assert estimate["stages"] >= 3
    assert estimate["concepts"] > estimate["stages"]
    assert estimate["hours"] / 6 <= estimate["weeks"]


async def test_a_request_comes_back_as_it_would_be_kept(client: httpx2.AsyncClient) -> None:
    body = a_goal(goal="  Learn ＳＱＬ ", study_days=["sun", "sat"]) | {"metadata": {"a": "1"}}
    answer = await client.post("/v1/tasks:validate", json=body)
    normalized = answer.json()["normalized"]
    assert normalized["input"]["goal"] == "Learn SQL"
    assert normalized["input"]["study_days"] == ["sat", "sun"]
    assert normalized["input"]["hours_per_week"] == 5
    assert (normalized["priority"], normalized["metadata"]) == ("normal", {"a": "1"})


async def test_a_goal_that_is_not_covered_is_named_with_the_nearest_ones(
    client: httpx2.AsyncClient,
) -> None:
    found = await validated(client, goal="Become a test pilot")
    assert found["valid"] is True
    assert found["estimate"] is None
    assert found["problem"]["code"] == "goal_not_covered"
    assert len(found["problem"]["nearest"]) == 5


async def test_a_chinese_goal_is_understood_and_refused_in_chinese(
    client: httpx2.AsyncClient,
) -> None:
    found = await validated(client, goal="学习机器学习", language="zh")
    assert found["estimate"]["goal"] == "机器学习"
    refused = await validated(client, goal="成为试飞员", language="zh")
    assert "最接近的目标有" in refused["problem"]["detail"]


async def test_a_plan_that_does_not_fit_its_weeks_says_so(client: httpx2.AsyncClient) -> None:
    found = await validated(client, weeks=1, hours_per_week=1.0)
    assert found["estimate"]["feasible"] is False
    assert found["estimate"]["weeks"] > 1


async def test_a_learner_who_knows_it_all_is_told_so(client: httpx2.AsyncClient) -> None:
    found = await validated(client, goal="window functions", known_topics=["window functions"])
    assert found["estimate"] is None
    assert found["problem"]["code"] == "nothing_left_to_learn"


@pytest.mark.parametrize(
    "broken",
    [
        {"content": b"{"},
        {"content": b"goal=x", "headers": {"Content-Type": "application/x-www-form-urlencoded"}},
        {"json": {}},
        {"json": {"input": {"goal": "x"}}},
        {"json": a_goal(hours_per_wek=3)},
        {"json": a_goal() | {"priorty": "high"}},
        {"json": a_goal(weeks=3, until="2026-12-31")},
    ],
)
async def test_what_a_submission_is_refused_for_is_refused_here_in_the_same_words(
    client: httpx2.AsyncClient, broken: dict[str, Any]
) -> None:
    submitted = await client.post("/v1/tasks", **broken)
    refused = await client.post("/v1/tasks:validate", **broken)
    assert refused.status_code == submitted.status_code >= 400
    assert refused.json() | {"request_id": ""} == submitted.json() | {"request_id": ""}


@pytest.mark.parametrize(
    ("method", "address", "body", "refused"),
    [
        ("POST", "/v1/tasks", a_goal(hours=6), "/input/hours .* mean hours_per_week\\?"),
        ("POST", "/v1/tasks", a_goal() | {"goal": "x"}, "/goal .* mean input.goal\\?"),
        ("POST", "/v1/tasks:batch", {"tasks": [a_goal(gaol=6)]}, "/tasks/0/input/gaol .* goal\\?"),
        ("GET", "/v1/tasks?state=queued", None, "/query/state .* mean status\\?"),
        ("GET", "/v1/ops/audit?actr=me", None, "/query/actr .* mean actor\\?"),
        ("POST", "/v1/tasks", a_goal(xyzzy=6), "/input/xyzzy is not a known field$"),
    ],
)
async def test_an_unknown_field_is_refused_with_the_one_that_was_meant(
    client: httpx2.AsyncClient, method: str, address: str, body: object, refused: str
) -> None:
    answer = await client.request(method, address, json=body)
    problem = assert_problem(answer, 422, answer.json()["code"])
    told = [f"{one['pointer']} {one['detail']}" for one in problem["errors"]]
    assert any(re.match(refused, one) for one in told), told


async def test_an_unknown_field_of_a_patched_input_is_refused_with_the_one_that_was_meant(
    client: httpx2.AsyncClient, database: Database
) -> None:
    task_id = await made_by(database, "gpt-x", {})
    patch = {"input": {"hours": 6}}
    problem = assert_problem(
        await client.post(f"/v1/tasks/{task_id}/retry", json=patch), 422, "validation-failed"
    )
    (told,) = problem["errors"]
    assert told["pointer"] == "/input/hours"
    assert told["detail"].endswith("(did you mean hours_per_week?)")


async def test_a_validation_writes_nothing(client: httpx2.AsyncClient, database: Database) -> None:
    await accept(database)
    before = await counts(database)
    answers = [
        await client.post(
            "/v1/tasks:validate", json=a_goal(goal=goal), headers={"Idempotency-Key": "the key"}
        )
        for goal in ("Learn SQL", "Learn SQL", "Become a test pilot")
    ]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert await counts(database) == before
    assert before["tasks"] == 1


# --- the planner's process ---


async def test_fifty_at_once_are_each_answered_for_themselves_by_one_planner(
    api: Api, client: httpx2.AsyncClient
) -> None:
    paces = [1 + one / 2 for one in range(50)]
    answers = await asyncio.gather(*(validated(client, hours_per_week=pace) for pace in paces))
    assert [one["normalized"]["input"]["hours_per_week"] for one in answers] == paces
    weeks = [one["estimate"]["weeks"] for one in answers]
    assert weeks == sorted(weeks, reverse=True)
    assert weeks[0] > weeks[-1]
    assert len(planners_of(api.process.pid)) == 1


@pytest.mark.parametrize("noticed", [False, True])
async def test_a_planner_that_is_killed_is_replaced_for_the_next_request(
    api: Api, client: httpx2.AsyncClient, noticed: bool
) -> None:
    await validated(client)
    (killed,) = planners_of(api.process.pid)
    os.kill(killed, signal.SIGKILL)

    async def reaped() -> None:
        assert not is_known(killed)

    if noticed:
        await eventually(reaped)
    assert (await validated(client))["estimate"]
    (new,) = planners_of(api.process.pid)
    assert new != killed


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_planner_ends_with_its_api_however_that_ends(
    servers: Servers, database: Database, tmp_path: Path, number: signal.Signals
) -> None:
    api = Api.start(tmp_path, servers.environment())
    try:
        await asyncio.to_thread(eventually_sync, lambda: api.has_logged("api_ready"))
        assert planners_of(api.process.pid) == [], "it starts with the first request"
        async with httpx2.AsyncClient(base_url=api.url, timeout=30, verify=False) as client:
            await validated(client)
        (planner,) = planners_of(api.process.pid)
    finally:
        api.process.send_signal(number)
        api.process.wait(30)

    async def ended() -> None:
        assert not lives(planner)

    await eventually(ended)


async def test_a_planner_that_hangs_is_ended_and_the_next_request_is_served() -> None:
    planner = Planner(patience=3)
    try:
        request = {"goal": "Learn SQL"}
        first = await planner.plan(request, TODAY)
        (hung,) = planners_of(os.getpid())
        os.kill(hung, signal.SIGSTOP)
        with pytest.raises(Problem) as raised:
            await planner.plan(request, TODAY)
        assert raised.value.slug == "planner-unavailable"
        assert not lives(hung)
        assert await planner.plan(request, TODAY) == first
    finally:
        await planner.close()
    assert planners_of(os.getpid()) == []


async def test_who_gives_up_waiting_leaves_the_answers_of_the_others_in_order() -> None:
    planner = Planner()
    try:
        impatient = [
            asyncio.create_task(planner.plan({"goal": "Learn SQL"}, TODAY)) for _ in range(3)
        ]
        await asyncio.sleep(0)
        for one in impatient:
            one.cancel()
        found = await planner.plan({"goal": "machine learning"}, TODAY)
        assert isinstance(found, Plan)
        assert found.goal == "Machine learning"
        await asyncio.gather(*impatient, return_exceptions=True)
    finally:
        await planner.close()


async def test_beyond_so_many_that_wait_a_request_is_refused_at_once() -> None:
    planner = Planner(most_waiting=2)
    try:
        asked = [asyncio.create_task(planner.plan({"goal": "Learn SQL"}, TODAY)) for _ in range(3)]
        found = await asyncio.gather(*asked, return_exceptions=True)
        refused = [one for one in found if isinstance(one, Problem)]
        assert [one.slug for one in refused] == ["overloaded"]
        assert sum(isinstance(one, Plan) for one in found) == 2
    finally:
        await planner.close()


async def test_who_still_waits_when_the_api_stops_is_told() -> None:
    planner = Planner()
    asked = [asyncio.create_task(planner.plan({"goal": "Learn SQL"}, TODAY)) for _ in range(3)]
    await asyncio.sleep(0.05)
    await planner.close()
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert {one.slug for one in found if isinstance(one, Problem)} == {"planner-unavailable"}
    assert all(isinstance(one, Problem) for one in found)


async def test_a_request_that_breaks_the_planner_costs_nobody_else_anything() -> None:
    planner = Planner()
    try:
        with pytest.raises(Problem) as raised:
            await planner.plan({"goal": 7}, TODAY)
        assert raised.value.slug == "planner-unavailable"
        (process,) = planners_of(os.getpid())
        assert isinstance(await planner.plan({"goal": "Become a test pilot"}, TODAY), Refusal)
        assert planners_of(os.getpid()) == [process]
    finally:
        await planner.close()


# --- where a model makes the roadmaps ---

PRICED = {"llm_model": "gpt-x", "llm_price_in": 1.0, "llm_price_out": 10.0}


async def test_with_a_model_any_goal_is_served_by_assumed_sizes(
    settings: Settings, database: Database
) -> None:
    async with in_process(settings.model_copy(update=PRICED)) as client:
        found = await validated(client, goal="Become a test pilot", weeks=4, hours_per_week=5.0)
    estimate, model = found["estimate"], found["estimate"]["model"]
    assert found["problem"] is None
    assert (estimate["goal"], estimate["hours"], estimate["weeks"]) == (
        "Become a test pilot",
        20,
        4,
    )
    assert (model["name"], model["calls"]) == ("gpt-x", 3 + estimate["concepts"])
    priced = (model["tokens_in"] * 1.0 + model["tokens_out"] * 10.0) / 1e6
    assert model["cost_usd"] == pytest.approx(priced, abs=1e-4)
    assert "usual size" in model["based_on"]
    assert ASSUMED.based_on in model["based_on"]


async def test_without_prices_the_cost_is_not_known(settings: Settings, database: Database) -> None:
    async with in_process(settings.model_copy(update={"llm_model": "gpt-x"})) as client:
        found = await validated(client)
    assert found["estimate"]["goal"] == "SQL and PostgreSQL"
    assert found["estimate"]["model"]["cost_usd"] is None
    assert found["estimate"]["model"]["based_on"].startswith("the catalog's plan; ")


async def test_what_the_model_took_here_before_counts_and_other_models_do_not(
    settings: Settings, database: Database
) -> None:
    await made_by(database, "gpt-x", {"understand": 100, "design": 300, "lesson:a": 40})
    await made_by(database, "gpt-x", {"understand": 200, "lesson:a": 60, "lesson:b": 80})
    await made_by(database, "gpt-other", {"design": 10**6, "lesson:a": 10**6})
    async with in_process(settings.model_copy(update=PRICED)) as client:
        found = await validated(client)
    concepts, model = found["estimate"]["concepts"], found["estimate"]["model"]
    assert model["calls"] == round(1.5 + concepts)
    assert model["tokens_in"] == 300 + concepts * 60
    assert model["tokens_out"] == 2 * model["tokens_in"]
    assert "the last 2 roadmaps" in model["based_on"]


async def made_by(database: Database, model: str, steps: dict[str, int]) -> UUID:
    """A task that succeeded, with a call for each step and so many tokens in, twice as many out."""
    task_id = await accept(database)
    leases = leases_of(database)
    lease = await leases.acquire(task_id)
    assert lease is not None
    roadmap = small_roadmap(RoadmapRequest(goal="Learn SQL"), today=TODAY)
    by = GeneratedBy(name="llm", version="1", model=model)
    await leases.complete(lease, roadmap.model_copy(update={"generated_by": by}))
    for step, tokens in steps.items():
        sql = """
            INSERT INTO task_steps
                (task_id, step, step_version, input_hash, lease_token, entry_id, tries, failures,
                 output, calls, tokens_in, tokens_out, cost, seconds, finished_at)
            VALUES (:task_id, :step, 1, '', :token, gen_random_uuid(), 1, 0,
                    CAST(CAST(:output AS text) AS jsonb), 1, CAST(:tokens AS integer),
                    2 * CAST(:tokens AS integer), 0, 1, now())
        """
        what = {"task_id": task_id, "step": step, "token": lease.token, "tokens": tokens}
        await execute(database, sql, **what, output=json.dumps({}))
    return task_id


@pytest.mark.parametrize(
    ("asked", "concepts", "hours", "weeks"),
    [
        ({}, 30, 75, 15),
        ({"weeks": 2}, 4, 10, 2),
        ({"weeks": 1, "hours_per_week": 1.0}, 1, 1, 1),
        ({"weeks": 100}, 30, 75, 15),
    ],
)
def test_an_unknown_goal_is_of_usual_size_or_as_large_as_the_time_allows(
    asked: dict[str, Any], concepts: int, hours: float, weeks: int
) -> None:
    plan = usual_plan(RoadmapRequest(goal="Become a test pilot", **asked), TODAY)
    assert (plan.concepts, plan.hours, plan.weeks) == (concepts, hours, weeks)
    assert 1 <= plan.stages <= plan.concepts
