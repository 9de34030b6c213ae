"""What operators see and do over HTTP: figures that add up, lists, decisions on dead letters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
import redis
from sqlalchemy import text

from api_service import cursors
from api_service.ops_schemas import Overview
from api_service.overview import Overviews
from relay_service.publisher import Publisher, connect
from relay_service.relay import Relay
from relay_service.wakeup import Wakeup
from shared import operating
from shared.database import Database, sqlstate
from shared.errors import Permanent
from shared.messages import Doorbell
from shared.settings import Settings
from tests.factories import (
    accept,
    event_types,
    execute,
    fill,
    leases_of,
    orphan_message,
    row,
    rows,
    task,
)
from tests.http import a_goal, assert_problem, in_process
from worker_service.leases import Lease

WHY = {"reason": "the catalog was mended", "actor": "ann"}
NOTHING = "Nothing is left to learn."
REPLAY, DISCARD = "/v1/ops/dead-letters:replay", "/v1/ops/dead-letters:discard"


@pytest.fixture
async def client(database: Database, settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    async with in_process(settings) as client:
        yield client


async def taken(database: Database, task_id: UUID) -> Lease:
    lease = await leases_of(database).acquire(task_id)
    assert lease is not None
    return lease


async def died(database: Database, detail: str = NOTHING, **body: Any) -> tuple[UUID, int]:
    """A task that failed for good, and the number of its dead letter."""
    task_id = await accept(database, **body)
    assert await leases_of(database).fail(await taken(database, task_id), Permanent(detail))
    return task_id, await letter_of(database, task_id)


async def buried(database: Database, task_id: UUID, reason: str = "task_missing") -> int:
    """The number of the dead letter of a message that no worker could use."""
    await leases_of(database).bury(Doorbell(task_id, 1, uuid4()), reason)
    return await letter_of(database, task_id)


async def letter_of(database: Database, task_id: UUID) -> int:
    sql = "SELECT max(id) AS id FROM dead_letters WHERE task_id = :id"
    return int((await row(database, sql, id=task_id))["id"])


async def letter(database: Database, number: int) -> Any:  # Any: a row
    return await row(database, "SELECT * FROM dead_letters WHERE id = :id", id=number)


async def acts(database: Database) -> list[Any]:  # Any: rows
    return list(await rows(database, "SELECT * FROM operator_acts ORDER BY id"))


async def get(client: httpx2.AsyncClient, path: str, **params: Any) -> Any:  # Any: a document
    answer = await client.get(path, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def looked(client: httpx2.AsyncClient, path: str, **chosen: Any) -> Any:  # Any: as above
    answer = await client.post(path, json={"dry_run": True, **chosen})
    assert answer.status_code == 200, answer.text
    return answer.json()


def acting_on(preview: Any, **more: Any) -> dict[str, Any]:  # Any: a document
    shown = {"preview_token": preview["preview_token"], "expected_count": preview["matched"]}
    return shown | WHY | more


# --- the overview ---


async def test_an_empty_database_adds_up(client: httpx2.AsyncClient) -> None:
    found = await get(client, "/v1/ops/overview")
    assert set(found["tasks"].values()) == {0}
    assert found["conservation"] == {
        "holds": True,
        "sentence": "0 accepted = 0 succeeded + 0 failed + 0 canceled + 0 open",
        "differences": [],
    }
    assert found["outbox"]["oldest_waiting_seconds"] is None
    assert (found["paused"], found["intake_paused"]) == (None, None)
    assert (found["workers"], found["relays"]) == (0, 0)


async def test_the_overview_counts_each_task_where_it_stands(
    client: httpx2.AsyncClient, database: Database
) -> None:
    await died(database)
    await died(database)
    await buried(database, uuid4())
    await taken(database, await accept(database))
    canceled, waiting, dispatched, delayed = [await accept(database) for _ in range(4)]
    assert (await client.post(f"/v1/tasks/{canceled}/cancel")).status_code == 200
    later = "UPDATE outbox_messages SET available_at = now() + CAST(:by AS text)::interval"
    await execute(database, f"{later} WHERE task_id = :id", by="1 hour", id=delayed)
    await execute(database, f"{later} WHERE task_id = :id", by="-90 seconds", id=waiting)
    rung = "UPDATE outbox_messages SET dispatched_at = now() WHERE task_id = :id"
    await execute(database, rung, id=dispatched)
    for role, seen in (("worker", "0"), ("worker", "1 hour"), ("relay", "0")):
        await execute(database, PROCESS, id=uuid4(), role=role, ago=seen)

    found = await get(client, "/v1/ops/overview")

    assert found["tasks"] == {
        "accepted": 7,
        "queued": 3,
        "running": 1,
        "succeeded": 0,
        "failed": 2,
        "canceled": 1,
        "open": 4,
    }
    assert found["conservation"]["holds"]
    assert found["conservation"]["sentence"] == (
        "7 accepted = 0 succeeded + 2 failed + 1 canceled + 4 open"
    )
    assert 90 <= found["outbox"].pop("oldest_waiting_seconds") < 150
    assert found["outbox"] == {"waiting": 1, "delayed": 1, "in_flight": 1}
    assert found["dead_letters"] == {"open": 3, "groups": 2}
    assert (found["workers"], found["relays"]) == (1, 1)
    assert found["taken_at"].endswith("Z")


PROCESS = """
    INSERT INTO processes (id, role, name, version, seen_at, gone_after)
    VALUES (:id, :role, 'host:1', '1', now() - CAST(:ago AS text)::interval, interval '30 s')
"""


async def test_a_broken_conservation_is_named_with_its_ids(
    client: httpx2.AsyncClient, database: Database
) -> None:
    lost, stuck, ended = [await accept(database) for _ in range(3)]
    (unheard,) = await fill(database, 1)
    orphan = await orphan_message(database)
    await execute(database, "DELETE FROM tasks WHERE id = :id", id=lost)
    await execute(database, "DELETE FROM outbox_messages WHERE task_id = :id", id=stuck)
    await execute(database, ENDED_AN_HOUR_AGO, id=ended)
    await execute(database, "UPDATE outbox_messages SET available_at = now() - interval '1 h'")

    found = (await get(client, "/v1/ops/overview"))["conservation"]

    assert not found["holds"]
    assert {(UUID(one["task_id"]), one["what"]) for one in found["differences"]} == {
        (lost, "was accepted, and is not there"),
        (lost, "has an outbox message, and is not there"),
        (stuck, "is queued, and has no outbox message"),
        (ended, "has ended, and its outbox message is still there"),
        (unheard, "is there, and was never accepted"),
        (orphan, "has an outbox message, and is not there"),
    }


ENDED_AN_HOUR_AGO = """
    UPDATE tasks SET status = 'canceled', stage = 'done', version = version + 1,
        finished_at = now() - interval '1 h'
    WHERE id = :id
"""


async def test_a_task_too_many_makes_the_sum_unequal_and_says_so(
    client: httpx2.AsyncClient, database: Database
) -> None:
    await accept(database)
    await fill(database, 1)
    found = (await get(client, "/v1/ops/overview"))["conservation"]
    assert not found["holds"]
    assert found["sentence"] == "1 accepted ≠ 0 succeeded + 0 failed + 0 canceled + 2 open"


async def test_at_most_a_hundred_differences_are_named(
    client: httpx2.AsyncClient, database: Database
) -> None:
    await fill(database, 101)
    found = (await get(client, "/v1/ops/overview"))["conservation"]
    assert len(found["differences"]) == 100
    assert not found["holds"]


async def test_the_figures_add_up_at_each_moment_of_a_busy_system(
    client: httpx2.AsyncClient, database: Database
) -> None:
    busy = True

    async def live() -> None:
        while busy:
            answer = await client.post("/v1/tasks", json=a_goal())
            task_id = UUID(answer.json()["id"])
            if task_id.int % 3 == 0:
                await client.post(f"/v1/tasks/{task_id}/cancel")
            elif task_id.int % 3 == 1:
                lease = await taken(database, task_id)
                await leases_of(database).fail(lease, Permanent(NOTHING))

    lives = [asyncio.create_task(live()) for _ in range(4)]
    counts = [0]
    while counts[-1] < 60:  # each with a count of its own: no figure comes from before
        found = await Overviews(database).now()
        assert found.conservation.holds, found.conservation
        counts.append(found.tasks.accepted)
    busy = False
    await asyncio.gather(*lives)
    assert counts == sorted(counts)
    assert len(set(counts)) > 3, "nothing happened between the counts"


class Counted(Overviews):
    counts = 0

    async def _count(self) -> Overview:
        self.counts += 1
        return await super()._count()


async def test_a_count_that_fails_is_not_repeated_by_each_who_waits_for_it(
    settings: Settings, database: Database
) -> None:
    hasty = Database(settings.model_copy(update={"database_lock_timeout": 0.2}), "hasty")
    overviews = Counted(hasty)
    async with database.begin() as session:
        await session.execute(text("LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE"))
        asked = [overviews.now() for _ in range(5)]
        found = await asyncio.gather(*asked, return_exceptions=True)
    assert [sqlstate(one) for one in found if isinstance(one, Exception)] == ["55P03"] * 5
    assert overviews.counts == 1
    await hasty.close()


async def test_all_who_ask_at_once_share_one_count(
    client: httpx2.AsyncClient, database: Database
) -> None:
    taken_at = {
        one["taken_at"]
        for one in await asyncio.gather(*(get(client, "/v1/ops/overview") for _ in range(20)))
    }
    assert len(taken_at) == 1


# --- pauses ---


async def test_pausing_twice_is_one_act_and_keeps_the_first_reason(
    client: httpx2.AsyncClient, database: Database
) -> None:
    for what, shown in (("outbox", "paused"), ("intake", "intake_paused")):
        first = (await client.post(f"/v1/ops/{what}/pause", json=WHY)).json()
        assert first["act"] is not None
        assert first[shown]["by"] == "ann"
        assert first[shown]["reason"] == WHY["reason"]
        again = (await client.post(f"/v1/ops/{what}/pause", json={"reason": "me too"})).json()
        assert again == {"act": None, shown: first[shown]}
        over = (await client.post(f"/v1/ops/{what}/resume", json=WHY)).json()
        assert (over["act"], over[shown]) == (first["act"] + 1, None)
        assert (await client.post(f"/v1/ops/{what}/resume", json=WHY)).json()["act"] is None
    assert [(one["act"], one["actor"]) for one in await acts(database)] == [
        ("pause", "ann"),
        ("resume", "ann"),
        ("pause_intake", "ann"),
        ("resume_intake", "ann"),
    ]


async def test_the_overview_shows_who_holds_what_back_and_why(
    client: httpx2.AsyncClient, database: Database
) -> None:
    await client.post("/v1/ops/outbox/pause", json=WHY)
    await client.post("/v1/ops/intake/pause", json={"reason": "a deploy"})
    found = await get(client, "/v1/ops/overview")
    assert (found["paused"]["by"], found["paused"]["reason"]) == ("ann", WHY["reason"])
    assert found["intake_paused"]["by"].startswith("anonymous@")
    assert found["intake_paused"]["reason"] == "a deploy"


async def test_a_paused_intake_refuses_tasks_until_it_is_resumed(
    client: httpx2.AsyncClient, database: Database
) -> None:
    await client.post("/v1/ops/intake/pause", json=WHY)
    refused = await client.post("/v1/tasks", json=a_goal())
    assert_problem(refused, 503, "intake-paused")
    assert refused.headers["retry-after"]
    assert await rows(database, "SELECT 1 FROM tasks") == []
    await client.post("/v1/ops/intake/resume", json=WHY)
    assert (await client.post("/v1/tasks", json=a_goal())).status_code == 202


async def test_two_who_pause_at_once_leave_one_act(
    client: httpx2.AsyncClient, database: Database
) -> None:
    answers = await asyncio.gather(
        *(client.post("/v1/ops/outbox/pause", json={"reason": f"{one}"}) for one in range(8))
    )
    assert {answer.status_code for answer in answers} == {200}
    assert len([one for one in answers if one.json()["act"] is not None]) == 1
    assert len(await acts(database)) == 1


# --- what is said wrongly ---


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/ops/outbox/pause", "/v1/ops/outbox/resume"),
        *("/v1/ops/intake/pause", "/v1/ops/intake/resume"),
        *("/v1/ops/dead-letters/1/replay", "/v1/ops/dead-letters/1/discard"),
    ],
)
async def test_without_a_reason_nothing_is_done_and_the_field_is_named(
    client: httpx2.AsyncClient, database: Database, path: str
) -> None:
    for body in ({}, {"reason": None}, {"reason": ""}, {"reason": "  \n"}, {"reason": "x" * 501}):
        problem = assert_problem(await client.post(path, json=body), 422, "validation-failed")
        assert [one["pointer"] for one in problem["errors"]] == ["/reason"]
    for unstorable in ("a\0b", "\ud800"):
        answer = await client.post(path, content=f'{{"reason": "{ascii(unstorable)[1:-1]}"}}')
        assert answer.status_code in (400, 415, 422)
    assert await acts(database) == []


async def test_a_bulk_act_without_a_reason_names_the_field(
    client: httpx2.AsyncClient, database: Database
) -> None:
    await died(database)
    for path in (REPLAY, DISCARD):
        order = acting_on(await looked(client, path, filter={}))
        del order["reason"]
        problem = assert_problem(await client.post(path, json=order), 422, "validation-failed")
        assert [one["pointer"] for one in problem["errors"]] == ["/reason"]
    assert await acts(database) == []


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({}, ["/preview_token", "/expected_count", "/reason"]),
        ({"dry_run": True}, ["/filter"]),
        ({"dry_run": True, "filter": {}, "ids": [1]}, ["/ids"]),
        ({"dry_run": True, "ids": []}, ["/ids"]),
        ({"dry_run": True, "ids": [0]}, ["/ids/0"]),
        ({"dry_run": True, "ids": ["1"]}, ["/ids/0"]),
        ({"dry_run": True, "ids": [2**63]}, ["/ids/0"]),
        ({"dry_run": True, "ids": list(range(1, 1002))}, ["/ids"]),
        ({"dry_run": 1, "filter": {}}, ["/dry_run"]),
        ({"dry_run": True, "filter": {"colour": "red"}}, ["/filter/colour"]),
        ({"dry_run": True, "filter": {"fingerprint": "nine"}}, ["/filter/fingerprint"]),
        ({"dry_run": True, "filter": {"after": 7}}, ["/filter/after"]),
        ({"dry_run": True, "filter": {}, "preview_token": "x"}, ["/preview_token"]),
        ({"preview_token": "x", "expected_count": -1, **WHY}, ["/expected_count"]),
        ({"dry_run": True, "filter": {}, "rate_per_second": 5}, ["/rate_per_second"]),
        ({"preview_token": "x", "expected_count": 1, **WHY}, ["/preview_token"]),
        ({"preview_token": "x", "expected_count": 1, "ids": [1], **WHY}, ["/ids"]),
        ({"filter": {}, **WHY}, ["/filter", "/preview_token", "/expected_count"]),
    ],
)
async def test_an_unclear_bulk_order_is_refused_by_the_field(
    client: httpx2.AsyncClient, body: dict[str, Any], pointers: list[str]
) -> None:
    for path in (REPLAY, DISCARD):
        problem = assert_problem(await client.post(path, json=body), 422, "validation-failed")
        assert [one["pointer"] for one in problem["errors"]] == pointers


@pytest.mark.parametrize("rate", [0, 10_001, 1.5, True, "50"])
async def test_a_rate_that_is_none_is_refused(client: httpx2.AsyncClient, rate: object) -> None:
    body = {"preview_token": "x", "expected_count": 1, "rate_per_second": rate, **WHY}
    problem = assert_problem(await client.post(REPLAY, json=body), 422, "validation-failed")
    assert [one["pointer"] for one in problem["errors"]] == ["/rate_per_second"]


async def test_a_discard_has_no_rate(client: httpx2.AsyncClient, database: Database) -> None:
    await died(database)
    order = acting_on(await looked(client, DISCARD, filter={}), rate_per_second=50)
    problem = assert_problem(await client.post(DISCARD, json=order), 422, "validation-failed")
    assert [one["pointer"] for one in problem["errors"]] == ["/rate_per_second"]


@pytest.mark.parametrize(
    ("path", "name", "nearest"),
    [
        ("/v1/ops/outbox", "sate", "state"),
        ("/v1/ops/dead-letters", "fingerprints", "fingerprint"),
        ("/v1/ops/audit", "acter", "actor"),
    ],
)
async def test_an_unknown_parameter_is_refused_with_the_nearest_name(
    client: httpx2.AsyncClient, path: str, name: str, nearest: str
) -> None:
    answer = await client.get(path, params={name: "x"})
    (error,) = assert_problem(answer, 422, "validation-failed")["errors"]
    assert error["pointer"] == f"/query/{name}"
    assert nearest in error["detail"]


# --- lists ---


async def walked(client: httpx2.AsyncClient, path: str, **params: Any) -> list[Any]:  # Any: rows
    """All pages, by the Link header; each also names the next one in its body."""
    found: list[Any] = []
    answer = await client.get(path, params=params)
    while True:
        assert answer.status_code == 200, answer.text
        page = answer.json()
        found += page["data"]
        assert len(page["data"]) <= params.get("limit", 50)
        if not page["has_more"]:
            assert page["next_cursor"] is None
            assert "link" not in answer.headers
            return found
        address, _, relation = answer.headers["link"].partition("; ")
        assert relation == 'rel="next"'
        assert page["next_cursor"] in address
        answer = await client.get(address.strip("<>"))


async def test_the_outbox_is_listed_page_by_page_the_oldest_first(
    client: httpx2.AsyncClient, database: Database
) -> None:
    ids = [await accept(database) for _ in range(3)] + await fill(
        database, 4, tenant="acme", priority=1
    )
    await execute(database, "UPDATE outbox_messages SET available_at = now()")  # ids decide
    listed = await walked(client, "/v1/ops/outbox", limit=2)
    assert [one["task_id"] for one in listed] == sorted(map(str, ids))
    acme = await walked(client, "/v1/ops/outbox", limit=3, tenant="acme", priority="high")
    assert [one["task_id"] for one in acme] == sorted(map(str, ids[3:]))
    assert {one["priority"] for one in acme} == {"high"}
    (one,) = await walked(client, "/v1/ops/outbox", task_id=str(ids[0]))
    assert one["seconds"] >= 0
    assert one["state"] == "waiting"
    assert await walked(client, "/v1/ops/outbox", state="dispatched") == []
    assert len(await walked(client, "/v1/ops/outbox", state="waiting")) == 7


async def test_dead_letters_are_grouped_by_error_or_listed_one_by_one(
    client: httpx2.AsyncClient, database: Database
) -> None:
    numbers = [(await died(database, f"Step {n} broke."))[1] for n in range(3)]
    other = (await died(database, "Nobody knows."))[1]
    groups = await walked(client, "/v1/ops/dead-letters", limit=1)
    assert [(one["error"], one["open"], one["example"]) for one in groups] == [
        ("Step # broke.", 3, numbers[-1]),
        ("Nobody knows.", 1, other),
    ]
    by_group = await walked(
        client, "/v1/ops/dead-letters", limit=2, fingerprint=groups[0]["fingerprint"]
    )
    assert [one["id"] for one in by_group] == numbers
    assert {one["task_status"] for one in by_group} == {"failed"}
    every = await walked(client, "/v1/ops/dead-letters", limit=3, group_by="none")
    assert [one["id"] for one in every] == [*numbers, other]
    chosen = {"group_by": "fingerprint", "fingerprint": groups[1]["fingerprint"]}
    assert await walked(client, "/v1/ops/dead-letters", **chosen) == groups[1:]


async def test_groups_of_one_size_are_each_listed_once(
    client: httpx2.AsyncClient, database: Database
) -> None:
    for word in "abcdefg":
        await died(database, f"No {word}.")
    await execute(database, "UPDATE dead_letters SET created_at = '2026-01-02'")
    groups = await walked(client, "/v1/ops/dead-letters", limit=2)
    assert sorted(one["error"] for one in groups) == [f"No {word}." for word in "abcdefg"]


async def test_each_filter_of_dead_letters_chooses_what_it_says(
    client: httpx2.AsyncClient, database: Database
) -> None:
    _, mine = await died(database)
    (odd,) = await fill(database, 1, tenant="acme")
    lost = await buried(database, odd)
    await execute(
        database, "UPDATE dead_letters SET created_at = '2026-01-02' WHERE id = :id", id=lost
    )

    async def chosen(**params: Any) -> list[int]:
        listed = await walked(client, "/v1/ops/dead-letters", group_by="none", **params)
        found = [one["id"] for one in listed]
        assert (await looked(client, DISCARD, filter=params))["sample"] == found
        return found

    assert await chosen(tenant="acme") == [lost]
    assert await chosen(reason="task_missing") == [lost]
    assert await chosen(source="worker") == [mine, lost]
    assert await chosen(source="sweeper") == []
    assert await chosen(before="2026-01-02T00:00:01Z") == [lost]
    assert await chosen(after="2026-01-02T01:00:00+01:00") == [mine, lost]
    assert await chosen(after="2026-01-02T00:00:01Z") == [mine]


async def test_acts_are_listed_the_newest_first(
    client: httpx2.AsyncClient, database: Database
) -> None:
    for actor in ("ann", "bob", "ann"):
        for verb in ("pause", "resume"):
            await client.post(f"/v1/ops/outbox/{verb}", json={"reason": "x", "actor": actor})
    done = await walked(client, "/v1/ops/audit", limit=4)
    assert [(one["act"], one["actor"]) for one in done] == [
        *(("resume", "ann"), ("pause", "ann"), ("resume", "bob")),
        *(("pause", "bob"), ("resume", "ann"), ("pause", "ann")),
    ]
    assert await walked(client, "/v1/ops/audit", limit=1, actor="bob") == done[2:4]
    assert await walked(client, "/v1/ops/audit", act="pause", actor="ann") == [done[1], done[5]]
    assert await get(client, f"/v1/ops/audit/{done[0]['id']}") == done[0]
    assert_problem(await client.get("/v1/ops/audit/999"), 404, "act-not-found")


LISTS = ("/v1/ops/outbox", "/v1/ops/dead-letters", "/v1/ops/audit")


@pytest.mark.parametrize(
    "place",
    [
        {},
        {"id": 7},
        {"letter": "x"},
        {"letter": -1},
        {"act": 2**70},
        {"act": True},
        {"at": "2026-01-02T00:00:00", "id": str(uuid4())},
        {"at": "0001-01-01T00:00:00+23:00", "id": str(uuid4())},
        {"at": 7, "id": str(uuid4())},
        {"at": "2026-01-02T00:00:00Z", "id": 7},
        {"open": 2**70, "last": "2026-01-02T00:00:00Z", "id": "295a829d"},
        {"open": 1, "last": "2026-01-02T00:00:00Z", "id": "\0"},
    ],
)
async def test_a_cursor_that_was_put_together_by_hand_is_refused(
    client: httpx2.AsyncClient, place: dict[str, Any]
) -> None:
    for path in LISTS:
        answer = await client.get(path, params={"cursor": cursors.encode(place)})
        assert_problem(answer, 400, "invalid-cursor")


@pytest.mark.parametrize("cursor", ["x", "", "é", "W10", "bnVsbA", "x" * 500])
async def test_a_cursor_that_is_none_is_refused(client: httpx2.AsyncClient, cursor: str) -> None:
    for path in LISTS:
        answer = await client.get(path, params={"cursor": cursor})
        assert_problem(answer, 400, "invalid-cursor")


async def test_a_cursor_leads_nowhere_on_another_list(
    client: httpx2.AsyncClient, database: Database
) -> None:
    await fill(database, 2)
    for path in ("/v1/ops/outbox/pause", "/v1/ops/outbox/resume"):
        await client.post(path, json=WHY)
    for _ in range(2):
        await died(database)
    for own in LISTS:
        ungrouped = {"group_by": "none"} if own.endswith("letters") else {}
        page = await get(client, own, limit=1, **ungrouped)
        for path in set(LISTS) - {own}:
            answer = await client.get(path, params={"cursor": page["next_cursor"]})
            assert_problem(answer, 400, "invalid-cursor")


# --- one dead letter ---


async def test_a_dead_letter_tells_its_whole_story(
    client: httpx2.AsyncClient, database: Database
) -> None:
    task_id, number = await died(database, priority="high")
    story = await get(client, f"/v1/ops/dead-letters/{number}")
    assert story["task_id"] == story["task"]["id"] == str(task_id)
    assert (story["task"]["priority"], story["task"]["status"]) == ("high", "failed")
    assert story["task"]["error"]["detail"] == NOTHING
    assert (story["message"], story["acts"]) == (None, [])

    done = (await client.post(f"/v1/ops/dead-letters/{number}/replay", json=WHY)).json()

    story = await get(client, f"/v1/ops/dead-letters/{number}")
    (told,) = story["dead_letters"]
    assert (told["resolution"], told["act_id"]) == ("replayed", done["act"])
    assert told["replayed_as"] == done["data"][0]["replayed_as"]
    assert [(one["act"], one["actor"], one["reason"]) for one in story["acts"]] == [
        ("replay", "ann", WHY["reason"])
    ]
    assert_problem(await client.get("/v1/ops/dead-letters/999"), 404, "dead-letter-not-found")


async def test_a_dead_letter_without_a_task_has_a_story_too(
    client: httpx2.AsyncClient, database: Database
) -> None:
    sql = "INSERT INTO dead_letters (source, reason) VALUES ('relay', 'unpublishable')"
    await execute(database, sql)
    number = (await row(database, "SELECT id FROM dead_letters"))["id"]
    story = await get(client, f"/v1/ops/dead-letters/{number}")
    assert (story["task_id"], story["task"]) == (None, None)
    assert [one["id"] for one in story["dead_letters"]] == [number]


async def test_an_ended_task_is_replayed_as_a_new_one_at_once(
    client: httpx2.AsyncClient, database: Database
) -> None:
    old, number = await died(database)
    before = await task(database, old)

    done = (await client.post(f"/v1/ops/dead-letters/{number}/replay", json=WHY)).json()

    (one,) = done.pop("data")
    new = UUID(one["replayed_as"])
    assert (one["task_id"], one["dead_letters"]) == (str(old), [number])
    (act,) = await acts(database)
    counts = {"dead_letters": 1, "new_tasks": 1, "dispatched_again": 0}
    assert done == {"act": act["id"], "last_due_at": one["due_at"], **counts}
    assert (act["act"], act["actor"], act["reason"]) == ("replay", "ann", WHY["reason"])
    assert act["detail"] == {"ids": [number], **counts}
    assert await task(database, old) == before
    assert (await task(database, new))["parent_id"] == old
    assert await event_types(database, new) == ["task.accepted"]
    assert (await letter(database, number))["act_id"] == act["id"]
    assert datetime.fromisoformat(one["due_at"]) <= datetime.now(UTC) + timedelta(seconds=5)
    assert (await get(client, "/v1/ops/outbox", state="waiting"))["data"][0]["task_id"] == str(new)
    assert (await get(client, "/v1/ops/overview"))["conservation"]["holds"]


async def test_the_caller_is_the_actor_when_nobody_is_named(
    client: httpx2.AsyncClient, database: Database
) -> None:
    _, number = await died(database)
    await client.post(f"/v1/ops/dead-letters/{number}/discard", json={"reason": "a test"})
    (act,) = await acts(database)
    assert act["actor"].startswith("anonymous@")
    assert (act["act"], act["reason"]) == ("discard", "a test")


async def test_a_queued_task_is_dispatched_again(
    client: httpx2.AsyncClient, database: Database
) -> None:
    task_id = await accept(database)
    number = await buried(database, task_id)
    done = (await client.post(f"/v1/ops/dead-letters/{number}/replay", json=WHY)).json()
    assert (done["new_tasks"], done["dispatched_again"]) == (0, 1)
    assert done["data"][0]["replayed_as"] == str(task_id)
    assert await event_types(database, task_id) == ["task.accepted", "task.requeued"]


async def test_what_was_decided_on_is_decided_on(
    client: httpx2.AsyncClient, database: Database
) -> None:
    _, replayed = await died(database)
    _, discarded = await died(database)
    await client.post(f"/v1/ops/dead-letters/{replayed}/replay", json=WHY)
    await client.post(f"/v1/ops/dead-letters/{discarded}/discard", json=WHY)
    for number, was in ((replayed, "replayed"), (discarded, "discarded")):
        for verb in ("replay", "discard"):
            answer = await client.post(f"/v1/ops/dead-letters/{number}/{verb}", json=WHY)
            problem = assert_problem(answer, 409, "nothing-to-do")
            assert problem["detail"].startswith(f"Dead letter {number} was {was} already.")
    assert len(await acts(database)) == 2
    for verb in ("replay", "discard"):
        answer = await client.post(f"/v1/ops/dead-letters/999/{verb}", json=WHY)
        assert_problem(answer, 404, "dead-letter-not-found")


async def test_a_running_task_is_left_alone(client: httpx2.AsyncClient, database: Database) -> None:
    task_id = await accept(database)
    number = await buried(database, task_id)
    await taken(database, task_id)
    before = await task(database, task_id)
    answer = await client.post(f"/v1/ops/dead-letters/{number}/replay", json=WHY)
    assert "is running" in assert_problem(answer, 409, "nothing-to-do")["detail"]
    assert await task(database, task_id) == before
    assert await acts(database) == []


async def test_a_task_that_is_not_there_can_only_be_discarded(
    client: httpx2.AsyncClient, database: Database
) -> None:
    number = await buried(database, uuid4())
    answer = await client.post(f"/v1/ops/dead-letters/{number}/replay", json=WHY)
    assert "only be discarded" in assert_problem(answer, 409, "nothing-to-do")["detail"]
    assert (await looked(client, REPLAY, ids=[number]))["fates"] == {"missing": 1}
    answer = await client.post(f"/v1/ops/dead-letters/{number}/discard", json=WHY)
    assert answer.json()["dead_letters"] == 1
    assert answer.json()["data"] == []


async def test_an_erased_task_is_never_replayed(
    client: httpx2.AsyncClient, database: Database
) -> None:
    task_id, number = await died(database)
    assert (await client.delete(f"/v1/tasks/{task_id}")).status_code == 204
    answer = await client.post(f"/v1/ops/dead-letters/{number}/replay", json=WHY)
    assert_problem(answer, 409, "nothing-to-do")
    late = await buried(database, task_id, "invalid_message")  # came after the erasure
    answer = await client.post(f"/v1/ops/dead-letters/{late}/replay", json=WHY)
    assert "was erased" in assert_problem(answer, 409, "nothing-to-do")["detail"]
    async with database.begin() as session:  # even if it is erased while somebody decides
        act_id = await operating.record(session, "replay", actor="ann", reason="x", detail={})
        assert await operating.replay(session, act_id, {task_id: uuid4()}) == []
        await session.rollback()
    assert len(await rows(database, "SELECT 1 FROM tasks")) == 1
    assert await acts(database) == []
    answer = await client.post(f"/v1/ops/dead-letters/{late}/discard", json=WHY)
    assert answer.status_code == 200


# --- many at once ---


async def test_a_filter_is_shown_and_then_acted_on(
    client: httpx2.AsyncClient, database: Database
) -> None:
    numbers = [(await died(database))[1] for _ in range(7)]
    queued = await accept(database)
    await buried(database, queued)
    await buried(database, uuid4())
    running = await accept(database)
    await buried(database, running)
    await taken(database, running)

    preview = await looked(client, REPLAY, filter={"source": "worker"})

    assert (preview["matched"], preview["tasks"]) == (10, 10)
    assert preview["fates"] == {"new_task": 7, "dispatch_again": 1, "missing": 1, "running": 1}
    assert sorted(one["count"] for one in preview["groups"]) == [3, 7]
    assert preview["sample"] == numbers[:5]
    assert await acts(database) == []

    answer = await client.post(REPLAY, json=acting_on(preview, rate_per_second=100))

    done = answer.json()
    assert answer.status_code == 200, answer.text
    counts = {"dead_letters": 8, "new_tasks": 7, "dispatched_again": 1}
    assert counts.items() <= done.items()
    assert len(done["data"]) == 8
    (act,) = await acts(database)
    said = {"filter": {"source": "worker"}, "rate_per_second": 100}
    assert act["detail"] == said | counts
    assert (act["id"], act["actor"], act["reason"]) == (done["act"], "ann", WHY["reason"])
    open_still = await walked(client, "/v1/ops/dead-letters", group_by="none")
    assert {one["task_status"] for one in open_still} == {None, "running"}


async def test_named_dead_letters_are_shown_and_then_discarded(
    client: httpx2.AsyncClient, database: Database
) -> None:
    tasks_and_numbers = [await died(database) for _ in range(3)]
    numbers = [number for _, number in tasks_and_numbers]
    preview = await looked(client, DISCARD, ids=[*numbers[:2], 999])
    assert (preview["matched"], preview["fates"], preview["sample"]) == (2, {}, numbers[:2])
    done = (await client.post(DISCARD, json=acting_on(preview))).json()
    assert (done["dead_letters"], done["data"], done["last_due_at"]) == (2, [], None)
    (act,) = await acts(database)
    assert act["detail"] == {"ids": [*numbers[:2], 999], "dead_letters": 2}
    assert [(await letter(database, one))["resolution"] for one in numbers] == [
        *("discarded", "discarded"),
        None,
    ]


async def test_a_letter_that_joins_or_leaves_after_the_look_is_told_before_anything_is_done(
    client: httpx2.AsyncClient, database: Database
) -> None:
    numbers = [(await died(database))[1] for _ in range(2)]
    preview = await looked(client, REPLAY, filter={"source": "worker"})
    _, joined = await died(database)
    answer = await client.post(REPLAY, json=acting_on(preview))
    problem = assert_problem(answer, 409, "selection-changed")
    assert problem["detail"].startswith("3 dead letters match now.")

    await client.post(f"/v1/ops/dead-letters/{numbers[0]}/discard", json=WHY)
    answer = await client.post(REPLAY, json=acting_on(preview))  # as many, but not the same
    assert_problem(answer, 409, "selection-changed")
    await client.post(f"/v1/ops/dead-letters/{joined}/discard", json=WHY)
    answer = await client.post(REPLAY, json=acting_on(preview))
    assert_problem(answer, 409, "selection-changed")
    assert [one["act"] for one in await acts(database)] == ["discard", "discard"]

    fresh = await looked(client, REPLAY, filter={"source": "worker"})
    assert (await client.post(REPLAY, json=acting_on(fresh))).status_code == 200


async def test_a_count_that_was_not_shown_changes_nothing(
    client: httpx2.AsyncClient, database: Database
) -> None:
    await died(database)
    preview = await looked(client, REPLAY, filter={})
    answer = await client.post(REPLAY, json=acting_on(preview) | {"expected_count": 2})
    assert_problem(answer, 409, "selection-changed")
    assert await acts(database) == []


async def test_a_token_is_good_for_its_own_act_and_filter_only(
    client: httpx2.AsyncClient, database: Database
) -> None:
    await died(database)
    preview = await looked(client, DISCARD, filter={"source": "worker"})
    token = preview["preview_token"]
    place = cursors.decode(token, ("act", "filter", "hash"))
    for order in (
        acting_on(preview),
        acting_on(preview) | {"preview_token": token[:-3]},
        acting_on(preview) | {"preview_token": cursors.encode({"act": "replay"})},
        *(
            acting_on(preview) | {"preview_token": cursors.encode(place | {"act": "replay"} | bad)}
            for bad in ({"filter": {"id": 1}}, {"filter": None}, {"filter": 7}, {"ids": [1]})
        ),
    ):
        problem = assert_problem(await client.post(REPLAY, json=order), 422, "validation-failed")
        assert [one["pointer"] for one in problem["errors"]] == ["/preview_token"]
    widened = cursors.encode(place | {"filter": {"source": "relay"}})
    answer = await client.post(DISCARD, json=acting_on(preview) | {"preview_token": widened})
    assert_problem(answer, 409, "selection-changed")
    assert await acts(database) == []


async def test_as_many_as_may_be_named_fit_into_a_body_and_its_token(
    client: httpx2.AsyncClient, database: Database
) -> None:
    _, number = await died(database)
    ids = [number, *range(2**53 - 999, 2**53)]
    preview = await looked(client, DISCARD, ids=ids)
    assert preview["matched"] == 1
    assert (await client.post(DISCARD, json=acting_on(preview))).json()["dead_letters"] == 1


async def test_what_matches_more_than_one_act_may_change_has_to_be_narrowed(
    client: httpx2.AsyncClient, database: Database
) -> None:
    sql = (
        "INSERT INTO dead_letters (source, reason) SELECT 'relay', 'x' FROM generate_series(1, :n)"
    )
    await execute(database, sql, n=10_001)
    answer = await client.post(DISCARD, json={"dry_run": True, "filter": {"source": "relay"}})
    problem = assert_problem(answer, 422, "validation-failed")
    assert [one["pointer"] for one in problem["errors"]] == ["/filter"]
    assert "narrow it" in problem["detail"]
    await execute(
        database, "DELETE FROM dead_letters WHERE id = (SELECT max(id) FROM dead_letters)"
    )
    preview = await looked(client, DISCARD, filter={"source": "relay"})
    assert (await client.post(DISCARD, json=acting_on(preview))).json()["dead_letters"] == 10_000
    assert len(await acts(database)) == 1


async def test_nothing_that_matches_is_nothing_to_do(
    client: httpx2.AsyncClient, database: Database
) -> None:
    for path in (REPLAY, DISCARD):
        preview = await looked(client, path, filter={})
        assert preview["matched"] == 0
        answer = await client.post(path, json=acting_on(preview))
        assert_problem(answer, 409, "nothing-to-do")
    assert await acts(database) == []


# --- at a rate ---


async def due_times(database: Database) -> list[datetime]:
    found = await rows(database, "SELECT available_at FROM outbox_messages ORDER BY available_at")
    return [one["available_at"] for one in found]


async def test_replayed_tasks_are_due_one_after_the_other_the_first_now(
    client: httpx2.AsyncClient, database: Database
) -> None:
    for _ in range(6):
        await died(database)
    begun = (await row(database, "SELECT clock_timestamp() AS now"))["now"]
    preview = await looked(client, REPLAY, filter={})
    done = (await client.post(REPLAY, json=acting_on(preview, rate_per_second=2))).json()

    due = await due_times(database)

    ended = (await row(database, "SELECT clock_timestamp() AS now"))["now"]
    assert begun <= due[0] <= ended
    gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(due)]
    assert gaps == pytest.approx([0.5] * 5, abs=0.1)
    assert datetime.fromisoformat(done["last_due_at"]) == due[-1]
    told = [datetime.fromisoformat(one["due_at"]) for one in done["data"]]
    assert told == due
    overview = await get(client, "/v1/ops/overview")
    assert overview["conservation"]["holds"]
    assert overview["outbox"]["waiting"] + overview["outbox"]["delayed"] == 6


@pytest.fixture
async def relay(
    settings: Settings, database: Database, valkey: redis.Redis, deployment_id: UUID
) -> AsyncIterator[Relay]:
    client = connect(settings)
    yield Relay(settings, database, Publisher(client), Wakeup(database), deployment_id)
    await client.aclose()


async def test_a_relay_carries_what_is_due_and_leaves_the_rest_for_its_turn(
    client: httpx2.AsyncClient, database: Database, relay: Relay
) -> None:
    for _ in range(3):
        await died(database)
    preview = await looked(client, REPLAY, filter={})
    await client.post(REPLAY, json=acting_on(preview, rate_per_second=1))
    later = "UPDATE outbox_messages SET available_at = available_at + interval '1 h'"
    await execute(database, f"{later} WHERE available_at > now()")
    assert await relay.run_once() == 1
    assert await relay.run_once() == 0
    now = "UPDATE outbox_messages SET available_at = clock_timestamp()"
    await execute(database, f"{now} WHERE dispatched_at IS NULL")
    assert await relay.run_once() == 2


async def test_the_rate_holds_over_the_transactions_of_one_act(
    client: httpx2.AsyncClient, database: Database
) -> None:
    await fill(database, 1001)
    await execute(
        database,
        "INSERT INTO dead_letters (task_id, source, reason) SELECT id, 'relay', 'x' FROM tasks",
    )
    preview = await looked(client, REPLAY, filter={"source": "relay"})
    assert preview["fates"] == {"dispatch_again": 1001}
    done = (await client.post(REPLAY, json=acting_on(preview, rate_per_second=100))).json()
    assert done["dispatched_again"] == len(done["data"]) == 1001
    (act,) = await acts(database)
    assert act["detail"]["dead_letters"] == 1001
    due = await due_times(database)
    assert (due[-1] - due[0]).total_seconds() >= 10
    for first, hundredth in zip(due, due[100:], strict=False):
        assert (hundredth - first).total_seconds() > 0.9


# --- two at once ---


async def test_two_operators_with_one_preview_replay_each_task_once(
    client: httpx2.AsyncClient, database: Database
) -> None:
    for _ in range(30):
        await died(database)
    preview = await looked(client, REPLAY, filter={})
    answers = await asyncio.gather(
        *(client.post(REPLAY, json=acting_on(preview, actor=one)) for one in ("ann", "bob", "eve"))
    )
    assert {answer.status_code for answer in answers} <= {200, 409}
    done = [answer.json() for answer in answers if answer.status_code == 200]
    assert sum(one["new_tasks"] for one in done) == 30
    parents = await rows(database, "SELECT DISTINCT parent_id FROM tasks WHERE parent_id NOTNULL")
    assert len(parents) == 30
    assert len(await rows(database, "SELECT 1 FROM tasks WHERE parent_id NOTNULL")) == 30
    assert len(await acts(database)) == len(done)
    assert sum(one["detail"]["dead_letters"] for one in await acts(database)) == 30


async def test_of_a_replay_and_a_discard_at_once_each_letter_has_one(
    client: httpx2.AsyncClient, database: Database
) -> None:
    numbers = [(await died(database))[1] for _ in range(20)]
    answers = await asyncio.gather(
        *(
            client.post(f"/v1/ops/dead-letters/{number}/{verb}", json=WHY)
            for number in numbers
            for verb in ("replay", "discard")
        )
    )
    assert sorted(answer.status_code for answer in answers) == [200] * 20 + [409] * 20
    replayed = await rows(database, "SELECT 1 FROM dead_letters WHERE resolution = 'replayed'")
    assert len(await rows(database, "SELECT 1 FROM outbox_messages")) == len(replayed)
    assert len(await acts(database)) == 20
