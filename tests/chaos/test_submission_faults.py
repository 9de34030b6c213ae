"""Submissions repeated, raced and cut off: one task for each key, one end for each task."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import httpx2

from api_service.cancellation import cancel
from api_service.problems import Problem
from api_service.submission import Submissions
from shared.database import Database
from shared.roadmap import RoadmapRequest
from tests.chaos.roles import Crew
from tests.conftest import Servers
from tests.eventually import eventually
from tests.factories import event_types, leases_of, new_task, row, rows, small_roadmap
from tests.http import PROBLEM
from waymark.processes import LOCALHOST, pick_port
from worker_service.leases import Lease, Leases

CONNECTIONS = 64
KEYS = 1000


# --- one task for each key ---


class Wanted:
    """Posts that are still to be answered: those of one key right after each other, so that they
    are under way at the same time. What each was answered with in the end, and before."""

    def __init__(self, *, keys: int, posts: int) -> None:
        self._next = (f"key-{number // posts}" for number in range(keys * posts))
        self.total = keys * posts
        self.ids: defaultdict[str, list[str]] = defaultdict(list)
        self.refused: Counter[str] = Counter()

    @property
    def answered(self) -> int:
        return sum(map(len, self.ids.values()))

    async def has_come_to(self, *, answered: float = 0, refused: int = 0) -> None:
        async def check() -> None:
            assert self.answered >= answered
            assert self.refused.total() >= refused

        await eventually(check)

    async def post_all(self, port: int) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(CONNECTIONS):
                group.create_task(self._post_some(port))

    async def _post_some(self, port: int) -> None:
        async with Line(port) as line:
            for key in self._next:
                while True:
                    try:
                        status, document = await line.post(key)
                    except (OSError, EOFError):
                        self.refused["no answer"] += 1
                    else:
                        if status == 202:
                            break
                        self.refused[document["code"]] += 1
                    await asyncio.sleep(0.05)
                self.ids[key].append(document["id"])


class Line:
    """One connection that is kept, and opened again when it breaks. A client library would take
    more time than the API."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def __aenter__(self) -> Line:
        return self

    async def __aexit__(self, *_error: object) -> None:
        if self._streams:
            _, writer = self._streams
            self._streams = None
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def post(self, key: str) -> tuple[int, dict[str, Any]]:
        """Raises OSError or EOFError when the connection breaks."""
        body = json.dumps({"input": {"goal": f"Learn {key}"}})
        head = (
            f"POST /v1/tasks HTTP/1.1\r\nHost: api\r\nContent-Type: application/json\r\n"
            f"Idempotency-Key: {key}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        try:
            return await self._exchange((head + body).encode())
        except (OSError, EOFError):
            await self.__aexit__()
            raise

    async def _exchange(self, request: bytes) -> tuple[int, dict[str, Any]]:
        self._streams = self._streams or await asyncio.open_connection(LOCALHOST, self.port)
        reader, writer = self._streams
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].split(maxsplit=1)[0])
        return int(head.split(maxsplit=2)[1]), json.loads(await reader.readexactly(length))


async def one_task_for_each_key(database: Database, wanted: Wanted) -> None:
    """Of all answers, and of all rows; each task with its message and the begin of a history."""
    assert len(wanted.ids) == KEYS
    assert wanted.answered == wanted.total
    ids = {key: set(answered) for key, answered in wanted.ids.items()}
    assert {len(one) for one in ids.values()} == {1}
    found = await rows(
        database,
        """
        SELECT idempotency_key, tasks.id, tasks.version, message.dispatch_no, seq, type
        FROM tasks
        LEFT JOIN outbox_messages AS message ON message.task_id = tasks.id
        LEFT JOIN task_events AS event ON event.task_id = tasks.id
        """,
    )
    assert {one["idempotency_key"]: {str(one["id"])} for one in found} == ids
    assert len(found) == KEYS
    facts = {(one["version"], one["dispatch_no"], one["seq"], one["type"]) for one in found}
    assert facts == {(1, 1, 1, "task.accepted")}
    counts = await row(
        database,
        """
        SELECT (SELECT count(*) FROM tasks) AS tasks, (SELECT count(*) FROM task_events) AS events,
               (SELECT count(*) FROM outbox_messages) AS messages
        """,
    )
    assert set(counts.values()) == {KEYS}


async def test_twenty_posts_at_once_under_each_of_a_thousand_keys_make_a_thousand_tasks(
    crew: Crew, database: Database
) -> None:
    api = crew.start("api")
    wanted = Wanted(keys=KEYS, posts=20)
    await wanted.post_all(crew.port)
    assert wanted.refused == {}
    await one_task_for_each_key(database, wanted)
    api.kill()


async def test_posts_repeated_until_they_are_answered_make_one_task_while_postgres_restarts_twice(
    crew: Crew, servers: Servers, database: Database
) -> None:
    crew.start("api")
    wanted = Wanted(keys=KEYS, posts=10)
    posting = asyncio.create_task(wanted.post_all(crew.port))
    for share in (0.2, 0.5):
        await wanted.has_come_to(answered=share * wanted.total)
        servers.postgres.stop("immediate")
        try:
            await wanted.has_come_to(refused=wanted.refused.total() + 1)
        finally:
            servers.postgres.start()
    await posting
    assert set(wanted.refused) <= {"database-unavailable", "idempotency-in-progress"}
    await database.close()  # this test's own connections died too
    await one_task_for_each_key(database, wanted)


# --- one end for each task ---


async def test_a_cancel_that_races_a_completion_has_one_winner_a_thousand_times(
    database: Database,
) -> None:
    leases = leases_of(database)
    ends: Counter[str] = Counter()
    for _ in range(50):
        held = await taken(database, leases, 20)
        races = [race(database, leases, lease) for lease in held]
        for lease, end in zip(held, await asyncio.gather(*races), strict=True):
            ends[end] += 1
            await has_ended(database, lease.task_id, end)
    assert ends["succeeded"] + ends["canceled"] == 1000
    assert min(ends.values()) > 10, f"nobody raced: {ends}"
    counts = await row(
        database,
        "SELECT (SELECT count(*) FROM roadmaps), (SELECT count(*) FROM outbox_messages) AS open",
    )
    assert dict(counts) == {"count": ends["succeeded"], "open": 0}


async def taken(database: Database, leases: Leases, number: int) -> list[Lease]:
    submissions = Submissions(database)
    made = await asyncio.gather(*(submissions.submit(new_task()) for _ in range(number)))
    held = await asyncio.gather(*(leases.acquire(one.task["id"]) for one in made))
    return [lease for lease in held if lease is not None]


async def race(database: Database, leases: Leases, lease: Lease) -> str:
    """How it ends; each side has heard the same."""
    first, second = random.sample((0.0, random.uniform(0, 0.004)), 2)
    completed, canceled = await asyncio.gather(
        after(first, leases.complete(lease, a_roadmap(lease))),
        after(second, is_canceled(database, lease.task_id)),
    )
    assert completed != canceled
    if canceled:  # it was asked for in time, and the worker does it
        assert await leases.cancel(lease)
    return "canceled" if canceled else "succeeded"


async def after(seconds: float, deed: Any) -> bool:  # Any: an awaitable that tells who has won
    await asyncio.sleep(seconds)
    return bool(await deed)


async def is_canceled(database: Database, task_id: UUID) -> bool:
    try:
        return (await cancel(database, "default", task_id)).requested
    except Problem as problem:
        if problem.slug == "task-already-ended":
            return False
        raise


async def has_ended(database: Database, task_id: UUID, end: str) -> None:
    asked = ["task.cancel_requested"] if end == "canceled" else []
    history = ["task.accepted", "task.started", *asked, f"task.{end}"]
    assert await event_types(database, task_id) == history


def a_roadmap(lease: Lease) -> Any:
    request = RoadmapRequest.model_validate_json(lease.input)
    return small_roadmap(request, today=lease.accepted_on)


# --- nothing of one caller is told to another ---

CANARY = "zanzibarquokka"


async def test_a_learners_words_and_a_password_show_up_in_no_log_no_metric_and_no_other_answer(
    crew: Crew, servers: Servers, database: Database
) -> None:
    ports = {name: pick_port() for name in ("api", "relay", "worker")}
    for name in ("api", "relay", "worker"):
        failing = {"failpoints": "worker.generated=raise@1"} if name == "worker" else {}
        crew.start(name, metrics_port=str(ports[name]), log_level="debug", **failing)
    async with httpx2.AsyncClient(base_url=crew.url, timeout=30, verify=False) as client:
        owned = [await submitted(client, key, body) for key, body in enumerate(tellings())]
        refused = [answer async for answer in prying(client, owned)]
        broken = [await client.post("/v1/tasks", json=body) for body in nonsense()]
        await cut_sessions(database)
        await ended(client, owned)
    async with httpx2.AsyncClient(timeout=30, verify=False) as scraper:
        shown = [
            (await scraper.get(f"http://{LOCALHOST}:{port}/metrics")).text
            for port in ports.values()
        ]
    assert {answer.status_code // 100 for answer in broken} == {4}
    assert {answer.headers["content-type"] for answer in refused} == {PROBLEM}
    told = "\n".join([crew.log.read_text(), *shown, *(answer.text for answer in refused)])
    for secret in (CANARY, *passwords(servers)):
        assert secret not in told
    assert "task_succeeded" in told


def tellings() -> Iterator[dict[str, Any]]:
    """What a learner may say, everywhere: one that can be planned, one that cannot."""
    yield {
        "input": {"goal": "Learn SQL", "known_topics": [CANARY], "exclude": [CANARY]},
        "metadata": {CANARY: CANARY},
    }
    yield {"input": {"goal": f"Become a {CANARY}"}, "metadata": {"note": CANARY}}


def nonsense() -> Iterator[Any]:
    yield {"input": {"goal": CANARY, CANARY: CANARY}}
    yield {"input": {"goal": CANARY, "level": CANARY, "weeks": CANARY}}
    yield CANARY


async def submitted(client: httpx2.AsyncClient, key: int, body: dict[str, Any]) -> str:
    assert (await client.post("/v1/tasks:validate", json=body)).status_code == 200
    headers = {"Idempotency-Key": f"key-{key}"}
    answer = await client.post("/v1/tasks", json=body, headers=headers)
    assert answer.status_code == 202
    return str(answer.json()["id"])


async def prying(client: httpx2.AsyncClient, owned: list[str]) -> AsyncIterator[httpx2.Response]:
    """Problems that others may be shown about these tasks, before and after their end."""
    other = {"input": {"goal": "Learn Rust"}}
    await ended(client, owned)
    for key, task_id in enumerate(owned):
        headers = {"Idempotency-Key": f"key-{key}"}
        yield await client.post("/v1/tasks", json=other, headers=headers)
        yield await client.post(f"/v1/tasks/{task_id}/cancel")
        yield await client.post(f"/v1/tasks/{task_id}/cancel", headers={"If-Match": '"99.0"'})
        yield await client.post(f"/v1/tasks/{task_id}/retry", json={"input": {"weeks": 0}})
        yield await client.get(f"/v1/tasks/{task_id}/nowhere")


async def ended(client: httpx2.AsyncClient, owned: list[str]) -> None:
    async def all_ended() -> None:
        found = [(await client.get(f"/v1/tasks/{one}")).json() for one in owned]
        assert [one["status"] for one in found] == ["succeeded", "failed"]

    await eventually(all_ended)


async def cut_sessions(database: Database) -> None:
    """What is logged about lost connections must not tell how to connect."""
    await rows(
        database,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )


def passwords(servers: Servers) -> list[str]:
    found = [urlsplit(url).password for url in (servers.postgres.url, servers.valkey.url)]
    return [one for one in found if one]


def test_a_process_that_cannot_start_does_not_tell_its_passwords(servers: Servers) -> None:
    nowhere = servers.postgres.url.replace(f":{urlsplit(servers.postgres.url).port}/", ":1/")
    environment = servers.environment(
        WAYMARK_DATABASE_URL=nowhere, WAYMARK_STARTUP_TIMEOUT="0.5", WAYMARK_LOG_LEVEL="debug"
    )
    for service in ("api_service", "relay_service", "worker_service"):
        done = subprocess.run(
            [sys.executable, "-m", service], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 1
        assert "cannot start" in done.stderr
        for password in passwords(servers):
            assert password not in done.stdout + done.stderr
