"""The offline planner as a process beside the API, which may not import it: one for each API."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from contextvars import Context
from dataclasses import dataclass
from datetime import date
from typing import Any

import structlog

from api_service.problems import Problem

log = structlog.get_logger()

COMMAND = (sys.executable, "-m", "worker_service.generators.offline", "serve")

MOST_WAITING = 64
"""Plans that may wait for their turn. Each takes some 20 ms, so the last waits about a second."""

PATIENCE = 10.0
"""Seconds for one plan, with the planner's start if it is the first."""

TRIES = 2
"""That a planner has died shows only when it is asked again, for a plan that is not to blame."""

Document = Mapping[str, Any]  # Any: JSON


@dataclass(frozen=True, slots=True)
class Plan:
    """What a roadmap would come to. ``goal`` is the catalog's name for it."""

    goal: str
    feasible: bool
    stages: int
    concepts: int
    hours: float
    weeks: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """There is no plan. ``error`` is what a task would fail with."""

    error: Document


class Planner:
    """Its process starts with the first question, and again after a crash; it ends with ours,
    however that ends, because then its input does."""

    def __init__(self, *, most_waiting: int = MOST_WAITING, patience: float = PATIENCE) -> None:
        self.patience = patience
        self._questions: asyncio.Queue[_Question] = asyncio.Queue(most_waiting)
        self._loop: asyncio.Task[None] | None = None
        self._process: Process | None = None

    async def plan(self, request: Document, today: date) -> Plan | Refusal:
        """Raises Problem: overloaded when too many wait, planner-unavailable when it fails."""
        line = json.dumps({"request": request, "today": today.isoformat()}) + "\n"
        question = _Question(line.encode(), asyncio.get_running_loop().create_future())
        try:
            self._questions.put_nowait(question)
        except asyncio.QueueFull:
            waiting = self._questions.maxsize
            raise Problem("overloaded", f"{waiting} estimates are waited for.") from None
        if self._loop is None:
            # In a context of its own: what it logs is not about the request that came first.
            self._loop = asyncio.create_task(self._run(), name="planner", context=Context())
        return _understood(await question.answer)

    async def close(self) -> None:
        """End the process, whatever it is at. Who still waits is told."""
        if self._loop:
            self._loop.cancel()
            await asyncio.wait([self._loop])
        while not self._questions.empty():
            self._questions.get_nowait().fail("The API is stopping.")

    async def _run(self) -> None:
        """One question at a time, whoever asks: no question may get another one's answer."""
        try:
            while True:
                await self._run_once(await self._questions.get())
        finally:
            await self._end()

    async def _run_once(self, question: _Question) -> None:
        if question.answer.done():  # who asked has gone
            return
        try:
            async with asyncio.timeout(self.patience):
                question.settle(await self._answer_to(question))
        except asyncio.CancelledError:
            question.fail("The API is stopping.")
            raise
        except Exception as error:  # noqa: BLE001 - whoever comes next is to be answered
            log.warning("planner_failed", error=type(error).__name__)
            await self._end()
            question.fail("The planner did not answer.")

    async def _answer_to(self, question: _Question) -> bytes:
        """Raises ConnectionError when the process dies over it each time."""
        for _ in range(TRIES):
            process = self._process or await self._start()
            with contextlib.suppress(ConnectionError):
                if (answer := await _exchange(process, question.line)).endswith(b"\n"):
                    return answer
            await self._end()
        raise ConnectionError

    async def _start(self) -> Process:
        process = await asyncio.create_subprocess_exec(*COMMAND, stdin=PIPE, stdout=PIPE)
        log.info("planner_started", planner=process.pid)
        self._process = process
        return process

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        log.info("planner_ended", planner=process.pid, code=await process.wait())


@dataclass(frozen=True, slots=True)
class _Question:
    line: bytes
    answer: asyncio.Future[bytes]

    def settle(self, answer: bytes) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)

    def fail(self, why: str) -> None:
        if not self.answer.done():
            self.answer.set_exception(Problem("planner-unavailable", why))


async def _exchange(process: Process, line: bytes) -> bytes:
    """The answer; a part of it, or nothing, if the process has ended."""
    assert process.stdin is not None  # noqa: S101 - both are pipes
    assert process.stdout is not None  # noqa: S101
    if process.stdin.is_closing():  # its end has been noticed: uvloop would raise RuntimeError
        return b""
    process.stdin.write(line)
    await process.stdin.drain()
    return await process.stdout.readline()


def _understood(answer: bytes) -> Plan | Refusal:
    document = json.loads(answer)
    match document:
        case {"error": error}:
            return Refusal(error)
        case {"broke": what}:
            log.error("planner_broke", what=what)
            raise Problem("planner-unavailable", "The planner broke over it; the error is logged.")
        case _:
            return Plan(**document)
