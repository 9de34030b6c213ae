"""The API for tests: as a process, and in this one; and what its problems have in common."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from api_service.app import create_app
from api_service.problems import TYPES
from shared.settings import Settings
from waymark.processes import LOCALHOST, pick_port

JSON = {"Content-Type": "application/json"}
PROBLEM = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Api:
    """A running ``python -m api_service`` and its log."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @classmethod
    def start(cls, folder: Path, environment: dict[str, str]) -> Api:
        port, log = pick_port(), folder / "api.log"
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "api_service"],
                env=os.environ | environment | {"WAYMARK_API_PORT": str(port)},
                stderr=stderr,
            )
        return cls(process, port, log)

    @property
    def url(self) -> str:
        return f"http://{LOCALHOST}:{self.port}"

    def has_logged(self, event: str) -> None:
        assert self.process.poll() is None, self.log.read_text()
        assert f'"{event}"' in self.log.read_text()

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)


@asynccontextmanager
async def in_process(settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    """The application without a server, for what a server would not let through."""
    app = create_app(settings)
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://api") as client,
    ):
        yield client


async def raw(api: Api, request: bytes) -> tuple[int, bytes]:
    """Send bytes as they are; the status and the whole answer."""
    reader, writer = await asyncio.open_connection(LOCALHOST, api.port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return int(answer.split(maxsplit=2)[1]), answer


def a_goal(**more: Any) -> dict[str, Any]:
    return {"input": {"goal": "Learn SQL"} | more}


def assert_problem(answer: httpx2.Response, status: int, slug: str) -> dict[str, Any]:
    """It has the one form: five members, a type that is an address, and advice."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == PROBLEM
    body: dict[str, Any] = answer.json()
    members = {"type", "title", "status", "detail", "code", "request_id"}
    assert set(body) - {"errors"} == members
    assert body["request_id"] == answer.headers["request-id"]
    assert body["type"] == f"/problems/{slug}"
    assert body["status"] == status
    assert body["code"] == slug
    assert body["title"] == TYPES[slug].title
    assert body["detail"].endswith(f". {TYPES[slug].advice}")
    assert body["detail"][0] != " "
    return body
