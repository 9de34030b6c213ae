"""Looks at tasks over HTTP: one, an unchanged one, lists of a million; and streams of events."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from statistics import median

import httpx2

from benchmarks import http_load
from benchmarks.load import Load
from benchmarks.report import Figure, at_least, at_most, beside
from benchmarks.servers import Place
from benchmarks.tables import settle
from benchmarks.yardstick import in_turns, percentile
from waymark.processes import LOCALHOST

TASKS = 1_000_000
PAGE = 1000
"""The page that is compared with the first."""

STREAMS = 500
NEWS = 30
"""Events that each stream gets."""

CALM = 0.1
"""Seconds in which a bare Python process says --help on a machine where ours may take 0.4 s."""

FILL = """
    INSERT INTO tasks (id, request_hash, input, status, stage, finished_at, error)
    SELECT uuidv7(make_interval(secs => n - 1000000)), '', '{"goal": "Learn SQL"}',
           'failed', 'done', now(), '{"code": "x", "detail": "x", "retryable": false}'
    FROM generate_series($1::integer, $2::integer) AS n
"""

EVENT = """
    WITH task AS (UPDATE tasks SET version = version + 1 WHERE id = $1 RETURNING id, version)
    INSERT INTO task_events (task_id, seq, type) SELECT id, version, 'task.progress' FROM task
"""


async def measure(place: Place, ours: int, stand_in: int, task_id: str) -> list[Figure]:
    """``task_id``: one that waits, and is not carried."""
    return [
        *await _looks(ours, stand_in, task_id),
        await _pages(place, ours),
        await _streams(place, ours, task_id),
    ]


async def _looks(ours: int, stand_in: int, task_id: str) -> list[Figure]:
    one, nothing = f"/v1/tasks/{task_id}", f"/v1/nothing/{task_id}"
    known = {"if_none_match": '"1.0"'}
    loads = {
        "task": Load(ours, "200", http_load.get(one)),
        "no task": Load(stand_in, "200", http_load.get(nothing)),
        "unchanged": Load(ours, "304", http_load.get(one, **known)),
        "no change": Load(stand_in, "304", http_load.get(nothing, **known)),
    }
    rounds = await in_turns({name: load.run for name, load in loads.items()})
    return [
        at_least(
            bar,
            name,
            rounds.ratio(ours_is, yardstick),
            "×",
            f"at least {bar:.2f} × the same route with nothing behind it",
            seen=beside(rounds.median(ours_is), rounds.median(yardstick)),
        )
        for bar, name, ours_is, yardstick in (
            (0.5, "GET of a task", "task", "no task"),
            (0.6, "GET of an unchanged task (304)", "unchanged", "no change"),
        )
    ]


async def _pages(place: Place, port: int) -> Figure:
    connection = await place.connect()
    for start in range(1, TASKS, 50_000):
        await connection.execute(FILL, start, start + 49_999, timeout=300)
    await settle(connection)
    await connection.close()
    async with httpx2.AsyncClient(base_url=f"http://{LOCALHOST}:{port}", verify=False) as client:
        cursor = await _cursor_of_page(client, PAGE)

        async def first() -> float:
            return await _seconds(client, {})

        async def far() -> float:
            return await _seconds(client, {"cursor": cursor})

        rounds = await in_turns({"first": first, "far": far}, 9)
    return at_most(
        1.5,
        f"page {PAGE:,} of {TASKS:,} tasks beside the first",
        rounds.ratio("far", "first"),
        "×",
        "at most 1.5 × the time of the first page",
        seen=beside(1000 * rounds.median("far"), 1000 * rounds.median("first"), " ms"),
    )


async def _cursor_of_page(client: httpx2.AsyncClient, number: int) -> str:
    cursor: dict[str, str] = {}
    for _ in range(number - 1):
        page = (await client.get("/v1/tasks", params={"limit": "20", **cursor})).json()
        cursor = {"cursor": page["next_cursor"]}
    return cursor["cursor"]


async def _seconds(client: httpx2.AsyncClient, cursor: dict[str, str]) -> float:
    """Of one page: the median of some."""
    took = []
    for _ in range(20):
        begun = time.perf_counter()
        answer = await client.get("/v1/tasks", params={"limit": "20", **cursor})
        took.append(time.perf_counter() - begun)
        assert len(answer.json()["data"]) == 20
    return median(took)


async def _streams(place: Place, port: int, task_id: str) -> Figure:
    connection = await place.connect()
    async with _open_streams(port, task_id) as streams:
        delays: list[float] = []
        for _ in range(NEWS):
            heard = [asyncio.ensure_future(_next_event(reader)) for reader in streams]
            await connection.execute(EVENT, task_id)
            committed = time.perf_counter()
            delays += [at - committed for at in await asyncio.gather(*heard)]
    await connection.close()
    return at_most(
        300,
        f"an event reaches {STREAMS} streams, p99",
        1000 * percentile(delays, 99),
        "ms",
        f"at most 300 ms from its commit on, {NEWS} events, readers in one process beside",
        seen=f"median {1000 * median(delays):.0f} ms",
    )


@asynccontextmanager
async def _open_streams(port: int, task_id: str) -> AsyncIterator[Sequence[asyncio.StreamReader]]:
    request = http_load.get(f"/v1/tasks/{task_id}/events", accept="text/event-stream")
    pairs = []
    for _ in range(STREAMS):
        reader, writer = await asyncio.open_connection(LOCALHOST, port)
        writer.write(request)
        pairs.append((reader, writer))
    for reader, _ in pairs:
        await _next_event(reader)  # the snapshot
    yield [reader for reader, _ in pairs]
    for _, writer in pairs:
        writer.close()


async def _next_event(reader: asyncio.StreamReader) -> float:
    """When the next event was here."""
    while not (await reader.readline()).startswith(b"data: "):
        pass
    return time.perf_counter()


async def help_figure() -> Figure:
    """``waymark --help`` beside a Python that only imports what it is written with."""

    async def run(*words: str) -> float:
        begun = time.perf_counter()
        process = await asyncio.create_subprocess_exec(
            sys.executable, *words, stdout=asyncio.subprocess.DEVNULL
        )
        assert await process.wait() == 0
        return time.perf_counter() - begun

    rounds = await in_turns(
        {
            "help": lambda: run("-m", "waymark", "--help"),
            "bare": lambda: run("-c", "import json, typer"),
        }
    )
    slower = max(1.0, rounds.median("bare") / CALM)
    return at_most(
        400 * slower,
        "waymark --help",
        1000 * rounds.median("help"),
        "ms",
        "at most 400 ms where Python with typer starts in 100 ms; else the bar scales",
        seen=beside(1000 * rounds.median("help"), 1000 * rounds.median("bare"), " ms"),
    )


def task_id_of(answer: bytes) -> str:
    return str(json.loads(answer)["id"])
