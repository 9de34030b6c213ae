"""The API, one process: submissions, looks at a task, lists, beside routes that do nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from statistics import median

from benchmarks import http_load, reading
from benchmarks.contestant import contestant
from benchmarks.load import Load
from benchmarks.report import Figure, at_least, at_most, beside, for_orientation
from benchmarks.servers import Place, Servers
from benchmarks.submitting import AT_ONCE, COUNT
from benchmarks.tables import empty
from benchmarks.yardstick import Rounds, in_turns
from waymark.processes import pick_port

CALM = 0.008
"""The empty route's p99 on a machine on which ours may take 30 ms."""

BATCH = "SELECT count(*)::float8 / count(DISTINCT created_at) FROM tasks"


async def measure(servers: Servers, _long: bool) -> list[Figure]:
    return [
        *await _over_http(await servers.place()),
        await _in_process(await servers.place()),
        await reading.help_figure(),
    ]


async def _over_http(place: Place) -> list[Figure]:
    async with _both_apis(place) as (ours, stand_in, task_id):
        loads = {
            "ours": Load(ours, "202", http_load.post("/v1/tasks")),
            "nothing": Load(stand_in, "202", http_load.post("/v1/nothing")),
            "objects": Load(stand_in, "202", http_load.post("/v1/objects")),
        }
        rounds = await in_turns({name: load.run for name, load in loads.items()})
        submissions = _figures(rounds, {name: load.p99 for name, load in loads.items()})
        return submissions + await reading.measure(place, ours, stand_in, task_id)


async def _in_process(place: Place) -> Figure:
    """By hand, with the size of batch that ours came to: tasks of one commit are of one time."""
    batches: list[int] = []
    connection = await place.connect()
    async with (
        contestant(place, "submitting", "ours") as ours,
        contestant(place, "submitting", "by_hand") as by_hand,
    ):

        async def submit() -> float:
            await empty(connection)
            run = await ours.go(COUNT)
            batches.append(round(await connection.fetchval(BATCH)))
            return run.rate

        async def insert() -> float:
            await empty(connection)
            return (await by_hand.go(batches[-1])).rate

        rounds = await in_turns({"ours": submit, "by_hand": insert})
    await connection.close()
    return at_least(
        0.5,
        "submissions in process beside inserts by hand",
        rounds.ratio("ours", "by_hand"),
        "×",
        f"{AT_ONCE} at once, at least 0.5 × a hand-written insert of as many rows at a time "
        "into the same three tables through bare asyncpg",
        seen=beside(rounds.median("ours"), rounds.median("by_hand"))
        + f", {round(median(batches))} at a time",
    )


@asynccontextmanager
async def _both_apis(place: Place) -> AsyncIterator[tuple[int, int, str]]:
    ours, stand_in = pick_port(), pick_port()
    answer = place.folder / "answer.json"
    # A limit that no round reaches, so that counting is measured and refusing is not.
    async with place.process("api_service", api_port=ours, api_rate=100_000_000):
        document = await asyncio.to_thread(http_load.post_one, ours)
        answer.write_bytes(document)
        async with place.process("benchmarks.empty_api", str(answer), api_port=stand_in):
            yield ours, stand_in, reading.task_id_of(document)


def _figures(rounds: Rounds, p99: dict[str, float]) -> list[Figure]:
    rate = {name: rounds.median(name) for name in p99}
    slower = max(1.0, p99["nothing"] / CALM)
    return [
        at_least(
            0.5,
            "submissions beside an empty route",
            rounds.ratio("ours", "nothing"),
            "×",
            "at least 0.50 × the same route doing nothing but validation, one process, "
            f"{http_load.CONNECTIONS} connections",
            seen=beside(rate["ours"], rate["nothing"]),
        ),
        at_least(
            5,
            "submissions beside two ORM objects",
            rounds.ratio("ours", "objects"),
            "×",
            "at least 5 × the same route adding two ORM objects to a session",
            seen=beside(rate["ours"], rate["objects"]),
        ),
        at_most(
            30 * slower,
            "submission p99",
            1000 * p99["ours"],
            "ms",
            "at most 30 ms where the empty route's p99 is at most 8 ms"
            + (f"; here that is {1000 * p99['nothing']:.1f} ms, and the bar scales" * (slower > 1)),
            seen=f"empty route {1000 * p99['nothing']:.1f} ms",
        ),
        for_orientation(
            "submissions per second", rate["ours"], "/s", "over HTTP, one API process, durable"
        ),
    ]
