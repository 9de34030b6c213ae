"""A contestant has a process of its own: it is told when to go, and says how long it took.

Two can go at once, none is slowed down by who measures, and each logs as in production.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass

from benchmarks.servers import Place

PATIENCE, GOODBYE = 300.0, 10.0
"""Seconds for one run, and for ending."""


@dataclass(frozen=True, slots=True)
class Run:
    """How much was done, and when, by the clock that all processes of a machine share."""

    done: int
    begun: float
    ended: float

    @property
    def rate(self) -> float:
        return together(self)


def together(*runs: Run) -> float:
    """The rate of runs that were side by side."""
    span = max(run.ended for run in runs) - min(run.begun for run in runs)
    return sum(run.done for run in runs) / span


class Contestant:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin
        assert process.stdout
        self._orders, self._answers = process.stdin, process.stdout

    async def go(self, amount: int) -> Run:
        self._orders.write(f"{amount}\n".encode())
        async with asyncio.timeout(PATIENCE):
            answer = await self._answers.readline()
        if not answer:
            raise RuntimeError("a contestant gave up; its log is the last thing printed")
        return Run(**json.loads(answer))


@asynccontextmanager
async def contestant(
    place: Place, module: str, who: str, **changed: object
) -> AsyncIterator[Contestant]:
    """``python -m benchmarks.{module} {who}``."""
    log = place.folder / f"{module}-{who}.log"
    with log.open("ab") as stderr:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            f"benchmarks.{module}",
            who,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
            env=place.environment(**changed),
        )
    try:
        yield Contestant(process)
    except RuntimeError:
        sys.stderr.write(log.read_text()[-3000:])
        raise
    finally:
        assert process.stdin
        process.stdin.close()  # that is the order to end
        try:
            await asyncio.wait_for(process.wait(), GOODBYE)
        except TimeoutError:
            process.kill()
            await process.wait()


async def compete(work: Callable[[int], Awaitable[int]]) -> None:
    """The contestant's side: do ``work`` whenever told to, until there is nobody to tell."""
    while order := await asyncio.to_thread(sys.stdin.readline):
        begun = time.monotonic()
        done = await work(int(order))
        print(json.dumps(asdict(Run(done, begun, time.monotonic()))), flush=True)
