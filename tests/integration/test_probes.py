"""The probes over real HTTP: of loops that turn and hang, of servers that answer and do not."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from functools import partialmethod
from http.client import HTTPConnection
from http.server import ThreadingHTTPServer
from pathlib import Path
from socketserver import BaseServer
from typing import NamedTuple

import pytest
import redis
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from sqlalchemy import text

from shared import probes
from shared.database import Database
from shared.errors import StartupError
from shared.probes import Check, Probes, serve_metrics
from shared.settings import Settings
from tests.conftest import Servers
from tests.eventually import eventually, eventually_sync
from tests.integration.test_startup import NOBODY, Role
from tests.wire import Wire
from waymark.processes import LOCALHOST, pick_port


class Answer(NamedTuple):
    status: int
    body: str
    content_type: str | None
    length: int

    @property
    def document(self) -> dict[str, str]:
        found: dict[str, str] = json.loads(self.body)
        return found


def ask(port: int, path: str, method: str = "GET") -> Answer:
    connection = HTTPConnection(LOCALHOST, port, timeout=20)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        body = response.read().decode()
        length = int(response.headers["Content-Length"])
        return Answer(response.status, body, response.headers["Content-Type"], length)
    finally:
        connection.close()


class Process:
    """A process in small: its event loop has a thread of its own, so that it may hang."""

    def __init__(self) -> None:
        self.port = pick_port()
        self.probes = Probes(Settings(metrics_port=self.port))
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    def do(self, work: Coroutine[None, None, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self.loop).result(20)

    def serve(self, **ready: Check) -> None:
        async def serve() -> None:
            self.probes.serve(ready=ready)

        self.do(serve())

    def ask(self, path: str, method: str = "GET") -> Answer:
        return ask(self.port, path, method)

    def end(self) -> None:
        async def cancel_all() -> None:
            rest = asyncio.all_tasks() - {asyncio.current_task()}
            for task in rest:
                task.cancel()
            await asyncio.gather(*rest, return_exceptions=True)

        self.do(cancel_all())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Iterator[Process]:
    quick_to_close = partialmethod(BaseServer.serve_forever, poll_interval=0.02)
    monkeypatch.setattr(ThreadingHTTPServer, "serve_forever", quick_to_close, raising=False)
    process = Process()
    yield process
    process.probes.close()
    if not process.loop.is_closed():
        process.end()


async def fine() -> None:
    pass


async def hangs() -> None:
    await asyncio.Event().wait()


async def breaks() -> None:
    raise ConnectionError("nobody at home\nsecond line")


def turning(beat: Callable[[], None]) -> Coroutine[None, None, None]:
    async def turn() -> None:
        while True:
            beat()
            await asyncio.sleep(0.005)

    return turn()


# --- alive ---


def test_a_process_whose_loops_turn_is_alive(process: Process) -> None:
    process.probes.pulse("relay", within=60)
    process.serve()
    assert process.ask("/livez")[:3] == (200, "ok\n", "text/plain; charset=utf-8")


def test_a_hanging_event_loop_is_not_alive_until_it_turns_again(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "PATIENCE", 0.3)
    pulse = process.probes.pulse("relay", within=0.5)
    process.probes.pulse("sweeper", within=60)
    process.serve(PostgreSQL=fine)
    asyncio.run_coroutine_threadsafe(turning(pulse.beat), process.loop)

    def alive(status: int) -> Callable[[], None]:
        def check() -> None:
            assert process.ask("/livez").status == status

        return check

    eventually_sync(alive(200))
    released = threading.Event()
    process.loop.call_soon_threadsafe(released.wait)
    try:
        eventually_sync(alive(503))
        said = process.ask("/livez").body
        assert said.startswith("relay has not turned for ")
        assert said.endswith(" s, 0.5 are allowed\n")
        assert "sweeper" not in said
        assert process.ask("/metrics").status == 200
        ready = process.ask("/readyz")
        assert ready.status == 503
        assert ready.document == {"status": "not ready", "event loop": "does not answer"}
    finally:
        released.set()
    eventually_sync(alive(200))
    assert process.ask("/readyz").status == 200


# --- ready ---


def test_a_process_is_ready_when_all_that_it_needs_answers(process: Process) -> None:
    process.serve(PostgreSQL=fine, Redis=fine)
    answer = process.ask("/readyz")
    assert (answer.status, answer.content_type) == (200, "application/json")
    assert answer.document == {"status": "ok", "PostgreSQL": "ok", "Redis": "ok"}


def test_what_breaks_and_what_hangs_is_named_beside_what_answers(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "PATIENCE", 0.3)
    process.serve(PostgreSQL=fine, Redis=breaks, Model=hangs)
    answer = process.ask("/readyz")
    assert answer.status == 503
    assert answer.document == {
        "status": "not ready",
        "PostgreSQL": "ok",
        "Redis": "nobody at home",
        "Model": "does not answer within 0.3 s",
    }


def test_checks_are_made_side_by_side(process: Process) -> None:
    met = threading.Barrier(2)

    async def meets() -> None:
        await asyncio.to_thread(met.wait, 1)

    process.serve(PostgreSQL=meets, Redis=meets)
    assert process.ask("/readyz").status == 200


def test_a_check_that_cannot_be_stopped_is_not_started_again(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "PATIENCE", 0.05)
    started = []
    heals = asyncio.Event()

    async def stubborn() -> None:
        started.append(1)
        while not heals.is_set():
            try:
                await heals.wait()
            except asyncio.CancelledError:
                continue

    process.serve(Redis=stubborn)
    for _ in range(3):
        assert process.ask("/readyz").status == 503
    assert len(started) == 1
    process.loop.call_soon_threadsafe(heals.set)

    def ready() -> None:
        assert process.ask("/readyz").status == 200

    eventually_sync(ready)


def test_a_process_whose_loop_has_ended_is_not_ready(process: Process) -> None:
    process.serve(PostgreSQL=fine)
    process.end()
    answer = process.ask("/readyz")
    assert answer.status == 503
    assert answer.document == {"status": "not ready", "event loop": "has ended"}


async def test_a_server_that_goes_and_comes_back_is_seen(
    settings: Settings, servers: Servers, database: Database
) -> None:
    wire = Wire(servers.valkey.url)
    await wire.open()
    place = int(wire.url.rpartition(":")[2].partition("/")[0])
    client = redis.asyncio.Redis.from_url(wire.url, retry=Retry(NoBackoff(), 0))
    port = pick_port()
    served = Probes(settings.model_copy(update={"metrics_port": port}))

    async def select_one() -> None:
        async with database.autocommit() as connection:
            await connection.execute(text("SELECT 1"))

    async def ready() -> None:
        assert (await asyncio.to_thread(ask, port, "/readyz")).status == 200

    served.serve(ready={"PostgreSQL": select_one, "Redis": client.ping})
    try:
        await eventually(ready)
        await wire.close()
        answer = await asyncio.to_thread(ask, port, "/readyz")
        assert (answer.status, answer.document["PostgreSQL"]) == (503, "ok")
        assert answer.document["Redis"] != "ok"
        await wire.open(place)
        await eventually(ready)
    finally:
        served.close()
        await client.aclose()
        await wire.close()


async def test_a_relay_that_waits_for_redis_is_alive_and_not_ready(
    servers: Servers, tmp_path: Path
) -> None:
    port = pick_port()
    environment = servers.environment(
        WAYMARK_REDIS_URL=f"redis://{NOBODY}", WAYMARK_METRICS_PORT=str(port)
    )
    with ExitStack() as running:
        relay = Role.start("relay", tmp_path, environment)
        running.callback(relay.kill)
        await relay.logs("relay_waits")
        assert (await asyncio.to_thread(ask, port, "/livez")).status == 200
        answer = await asyncio.to_thread(ask, port, "/readyz")
        assert (answer.status, answer.document["PostgreSQL"]) == (503, "ok")


# --- the server ---


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/nothing"])
def test_head_says_the_same_without_the_body(process: Process, path: str) -> None:
    process.serve(Redis=breaks)
    whole, head = process.ask(path), process.ask(path, "HEAD")
    assert whole.body
    assert head.body == ""
    assert (head.status, head.content_type) == (whole.status, whole.content_type)
    if path != "/metrics":  # which differs from one moment to the next
        assert head.length == whole.length == len(whole.body)


def test_metrics_are_prometheus_text_and_may_be_asked_for_with_a_query(process: Process) -> None:
    process.serve()
    answer = process.ask("/metrics?source=prometheus")
    assert answer.status == 200
    assert answer.content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert "\n# TYPE waymark_outbox_oldest_pending_seconds gauge\n" in answer.body


def test_another_path_is_not_found_and_another_method_not_supported(process: Process) -> None:
    process.serve()
    assert process.ask("/").status == 404
    assert process.ask("/livez/").status == 404
    assert process.ask("/livez", "POST").status == 501


def test_a_caller_that_hangs_up_disturbs_nobody(
    process: Process, capfd: pytest.CaptureFixture[str]
) -> None:
    process.serve()
    for _ in range(3):
        with socket.create_connection((LOCALHOST, process.port)) as caller:
            caller.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
    assert process.ask("/livez").status == 200
    eventually_sync(all_are_answered)
    assert "Traceback" not in capfd.readouterr().err


def all_are_answered() -> None:
    """Of those who hung up it is known only once their threads have ended."""
    assert not [one for one in threading.enumerate() if "process_request" in one.name]


def test_metrics_alone_are_served_without_an_event_loop() -> None:
    port = pick_port()
    serve_metrics(Settings(metrics_port=port))
    assert ask(port, "/metrics").status == 200
    assert ask(port, "/livez").status == 404


def test_a_port_in_use_is_named() -> None:
    with socket.create_server((LOCALHOST, 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(StartupError, match=rf"{LOCALHOST}:{port} .*WAYMARK_METRICS_PORT"):
            serve_metrics(Settings(metrics_port=port))


def test_an_address_that_is_not_ours_is_named() -> None:
    with pytest.raises(StartupError, match=r"cannot serve metrics on 192\.0\.2\.1:"):
        serve_metrics(Settings(metrics_port=pick_port(), metrics_host="192.0.2.1"))


async def test_without_a_port_nothing_is_served() -> None:
    before = threading.active_count()
    served = Probes(Settings())
    served.pulse("relay", within=1).beat()
    served.serve(ready={"Redis": fine})
    served.close()
    assert threading.active_count() == before
