"""Load over HTTP as a contender: a client process for each round."""

from __future__ import annotations

import asyncio
import json
import sys
from statistics import median

from benchmarks import http_load

SECONDS = 2.0
"""Of one round."""


class Load:
    """A client process for each round: nothing of it runs while others are measured."""

    def __init__(self, port: int, status: str, request: bytes) -> None:
        self.arguments = (str(port), str(SECONDS), status)
        self.request = request
        self.p99s: list[float] = []

    @property
    def p99(self) -> float:
        return median(self.p99s[1:])  # the first round was to warm up

    async def run(self) -> float:
        client = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            http_load.__name__,
            *self.arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await client.communicate(self.request)
        found = json.loads(said)
        self.p99s.append(found["p99"])
        return float(found["rate"])
