"""The supervisor with stand-ins for the roles: real processes, real signals, no servers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import psutil
import pytest
from structlog.testing import capture_logs

from tests.eventually import eventually, eventually_sync
from waymark.processes import LOCALHOST, pick_port, port_is_free
from waymark.upkeep import Kept, KeptRole, News

ROOT = Path(__file__).parents[2]

SUPERVISE = """
import asyncio, sys
from pathlib import Path
from shared.errors import StartupError
from shared.logs import set_up_logs
from shared.process import refuse_to_start
from shared.settings import load_settings
from waymark.data_dir import DataDir
from waymark.supervisor import Plan, Supervisor

folder, port = Path(sys.argv[1]), int(sys.argv[2])

def migrate(url, enough):
    if (folder / "migration-is-slow").exists():
        (folder / "diary").write_text("migration began 0\\n")
        enough.wait(60)
    print("migrated", url, flush=True)

async def supervise(data_dir):
    supervisor = Supervisor(
        data_dir,
        load_settings(),
        Plan(port=port, worker=2),
        migrate=migrate,
        announce=lambda url: print("ready", url, flush=True),
        command=lambda role: [sys.executable, "-S", str(folder / "role.py"), role],
    )
    return await supervisor.run()

set_up_logs(load_settings(), "supervisor")
try:
    with DataDir(folder / "data") as data_dir:
        code = asyncio.run(supervise(data_dir))
except StartupError as error:
    code = refuse_to_start(error)
sys.exit(code)
"""

# What a role does is decided by files beside it, so that a test can change it as it runs.
ROLE = """
import os, signal, sys, time
from pathlib import Path

role, folder = sys.argv[1], Path(__file__).parent

def note(what):
    with (folder / "diary").open("a") as diary:
        diary.write(f"{role} {what} {time.monotonic()}\\n")

def leave(*_):
    note("left")
    sys.exit(0)

note("began")
if (folder / f"{role}-is-broken").exists():
    sys.exit(3)
signal.signal(signal.SIGTERM, signal.SIG_IGN if (folder / f"{role}-is-deaf").exists() else leave)
os.write(int(os.environ["WAYMARK_READY_FD"]), b"ready\\n")
if (folder / f"{role}-is-weak").exists():
    sys.exit(4)
while True:
    signal.pause()
"""


SLOW_ROLE = """
import os, signal, sys
from pathlib import Path

diary = Path(__file__).with_name("diary")

def tell(*_):
    os.write(int(os.environ["WAYMARK_READY_FD"]), b"ready")
    diary.write_text("began told")
    sys.exit(0)

signal.signal(signal.SIGTERM, tell)
diary.write_text("began")
signal.pause()
"""


@dataclass
class Stack:
    """A supervisor in a process of its own, and what it does to its stand-ins."""

    folder: Path
    port: int = field(default_factory=pick_port)
    process: subprocess.Popen[str] | None = None

    def start(self) -> Stack:
        (self.folder / "role.py").write_text(ROLE)
        servers = {
            "WAYMARK_DATABASE_URL": "postgresql://elsewhere/waymark",
            "WAYMARK_REDIS_URL": "redis://elsewhere",
        }
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SUPERVISE, str(self.folder), str(self.port)],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=ROOT,
                env=os.environ | servers,
            )
        return self

    @property
    def running(self) -> subprocess.Popen[str]:
        assert self.process is not None
        return self.process

    def ready(self) -> Stack:
        assert self._line() == "migrated postgresql://elsewhere/waymark\n"
        assert self._line() == f"ready {self.url}\n"
        return self

    def _line(self) -> str:
        output: IO[str] | None = self.running.stdout
        assert output is not None
        return output.readline()

    @property
    def url(self) -> str:
        return f"http://{LOCALHOST}:{self.port}"

    @property
    def stack_file(self) -> Path:
        return self.folder / "data" / "stack.json"

    def pids(self) -> dict[int, str]:
        stack: dict[str, Any] = json.loads(self.stack_file.read_text())
        return {process["pid"]: process["role"] for process in stack["processes"]}

    def pid_of(self, role: str) -> int:
        return next(pid for pid, name in self.pids().items() if name == role)

    def diary(self, what: str) -> list[tuple[str, float]]:
        diary = self.folder / "diary"
        text = diary.read_text() if diary.exists() else ""
        lines = (line.split() for line in text.splitlines())
        return [(role, float(at)) for role, did, at in lines if did == what]

    def send(self, number: signal.Signals) -> None:
        self.running.send_signal(number)

    def ends_with(self) -> int:
        return self.running.wait(30)

    def log(self) -> str:
        return (self.folder / "log").read_text()


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(tmp_path)
    yield stack
    if stack.process is not None:
        stack.process.kill()
        stack.process.communicate()


def gone(*pids: int) -> None:
    assert [pid for pid in pids if psutil.pid_exists(pid)] == []


def test_ready_is_said_when_all_roles_are_and_stack_json_names_them(stack: Stack) -> None:
    stack.start().ready()
    found = json.loads(stack.stack_file.read_text())
    assert found["api_url"] == stack.url
    assert found["database_url"] == "postgresql://elsewhere/waymark"
    assert found["redis_url"] == "redis://elsewhere"
    roles = [process["role"] for process in found["processes"]]
    assert roles == ["api", "relay", "worker", "worker"]
    assert all(psutil.pid_exists(process["pid"]) for process in found["processes"])
    assert all(process["started_at"].endswith("+00:00") for process in found["processes"])
    assert stack.stack_file.stat().st_mode & 0o777 == 0o600


def test_sigterm_drains_api_then_relay_then_workers(stack: Stack) -> None:
    stack.start().ready()
    pids = stack.pids()
    stack.send(signal.SIGTERM)
    assert stack.ends_with() == 0
    assert [role for role, _ in stack.diary("left")] == ["api", "relay", "worker", "worker"]
    assert not stack.stack_file.exists()
    gone(*pids)


def test_ctrl_c_drains_too_and_is_told_by_the_exit_code(stack: Stack) -> None:
    stack.start().ready()
    stack.send(signal.SIGINT)
    assert stack.ends_with() == 130
    assert len(stack.diary("left")) == 4


def test_a_signal_during_the_start_is_obeyed(stack: Stack) -> None:
    (stack.folder / "relay-is-broken").touch()
    stack.start()

    def begun() -> None:
        assert stack.diary("began")

    eventually_sync(begun)
    stack.send(signal.SIGTERM)
    assert stack.ends_with() in (0, 1)  # 1 if the third try of the relay was faster
    assert not stack.stack_file.exists()


def test_a_signal_during_the_migration_ends_it_and_is_obeyed_at_once(stack: Stack) -> None:
    (stack.folder / "migration-is-slow").touch()
    stack.start()
    eventually_sync(lambda: _has_begun(stack, "migration"))
    stack.send(signal.SIGINT)
    assert stack.running.wait(5) == 130
    assert _begun(stack, "api") == []


def test_a_role_stopped_as_it_starts_finds_somebody_to_tell_that_it_is_ready(
    tmp_path: Path,
) -> None:
    (tmp_path / "role.py").write_text(SLOW_ROLE)
    (tmp_path / "diary").touch()

    async def begun() -> None:
        assert (tmp_path / "diary").read_text() == "began"

    async def stop_during_the_start() -> None:
        news = News()
        news.listen()
        argv = [sys.executable, "-S", str(tmp_path / "role.py")]
        role = KeptRole(
            *("worker", news, lambda: None), argv=argv, environment=os.environ, patience=20, drain=5
        )
        starting = asyncio.create_task(role.launch())
        await eventually(begun)
        starting.cancel()
        await asyncio.wait({starting})
        await role.stop()

    asyncio.run(stop_during_the_start())
    assert (tmp_path / "diary").read_text() == "began told"


def test_a_second_signal_kills_at_once(stack: Stack) -> None:
    (stack.folder / "api-is-deaf").touch()
    stack.start().ready()
    pids = stack.pids()
    stack.send(signal.SIGTERM)
    eventually_sync(lambda: _logged(stack, "stopping"))
    stack.send(signal.SIGTERM)
    assert stack.running.wait(5) == 143
    assert not stack.stack_file.exists()
    eventually_sync(lambda: gone(*pids))


def test_a_killed_role_is_started_again_and_stack_json_says_so(stack: Stack) -> None:
    stack.start().ready()
    before = stack.pids()
    victim = stack.pid_of("relay")
    os.kill(victim, signal.SIGKILL)

    def replaced() -> None:
        assert stack.pid_of("relay") not in (victim, None)

    eventually_sync(replaced)
    assert psutil.pid_exists(stack.pid_of("relay"))
    untouched = {pid for pid, role in before.items() if role != "relay"}
    assert untouched < set(stack.pids())


def test_a_role_that_dies_again_and_again_is_started_ever_more_slowly(stack: Stack) -> None:
    stack.start().ready()
    (stack.folder / "relay-is-weak").touch()
    os.kill(stack.pid_of("relay"), signal.SIGKILL)

    def often() -> None:
        assert len(_begun(stack, "relay")) >= 5

    eventually_sync(often)
    starts = _begun(stack, "relay")[1:5]
    pauses = [later - earlier for earlier, later in pairwise(starts)]
    assert all(pause >= least for pause, least in zip(pauses, (0.2, 0.4, 0.8), strict=True))


def test_a_role_that_never_gets_ready_stops_everything_with_a_clear_line(stack: Stack) -> None:
    (stack.folder / "worker-is-broken").touch()
    stack.start()
    assert stack.ends_with() == 1
    assert "cannot start: the worker did not become ready in 3 tries" in stack.log()
    assert "exit code 3" in stack.log()
    assert "Traceback" not in stack.log()
    assert not stack.stack_file.exists()


def test_a_port_in_use_is_refused_before_anything_starts(stack: Stack) -> None:
    with socket.create_server((LOCALHOST, stack.port)):
        stack.start()
        assert stack.ends_with() == 1
    assert f"port {stack.port} is in use: choose another with --port" in stack.log()
    assert not (stack.folder / "diary").exists()


def test_a_second_stack_on_the_directory_names_the_first_and_harms_nothing(stack: Stack) -> None:
    stack.start().ready()
    pids = stack.pids()
    second = Stack(stack.folder).start()
    assert second.ends_with() == 1
    second.running.communicate()
    assert f"process {stack.running.pid} runs a stack on it and serves {stack.url}" in stack.log()
    assert stack.pids() == pids
    assert all(psutil.pid_exists(pid) for pid in pids)


def test_no_role_survives_a_killed_supervisor_and_the_next_start_is_clean(stack: Stack) -> None:
    stack.start().ready()
    pids = stack.pids()
    stack.send(signal.SIGKILL)
    stack.running.communicate()
    eventually_sync(lambda: gone(*pids))
    assert stack.stack_file.exists()
    stack.start().ready()
    assert not set(stack.pids()) & set(pids)


def test_a_role_left_by_a_crash_is_stopped_and_a_stranger_with_its_number_is_not(
    stack: Stack,
) -> None:
    data = stack.folder / "data"
    data.mkdir()
    pause = ["-S", "-c", "import signal; signal.pause()"]
    left = subprocess.Popen([sys.executable, "-X", f"waymark.stack={data}", *pause])
    stranger = subprocess.Popen([sys.executable, *pause])
    processes = [
        {"role": "worker", "pid": child.pid, "started_at": ""} for child in (left, stranger)
    ]
    stack.stack_file.write_text(json.dumps({"api_url": "", "processes": processes}))
    stack.start().ready()
    assert left.wait(5) == -signal.SIGTERM
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_a_role_that_overstays_its_drain_is_killed(tmp_path: Path) -> None:
    (tmp_path / "role.py").write_text(ROLE)
    (tmp_path / "worker-is-deaf").touch()

    async def overstay() -> tuple[str | None, int | None, int | None]:
        news = News()
        news.listen()
        argv = [sys.executable, "-S", str(tmp_path / "role.py"), "worker"]
        role = KeptRole(
            *("worker", news, lambda: None),
            argv=argv,
            environment=os.environ,
            patience=20,
            drain=0.2,
        )
        failure = await role.launch()
        pid = role.pid
        await role.stop()
        return failure, pid, role.pid

    failure, pid, left = asyncio.run(overstay())
    assert (failure, left) == (None, None)
    assert pid is not None
    gone(pid)


def test_ports_of_servers_lie_outside_of_the_ephemeral_range() -> None:
    port = pick_port()
    assert 20_000 <= port < 32_000
    assert port_is_free(port)
    with socket.create_server((LOCALHOST, port)):
        assert not port_is_free(port)
        assert pick_port(port) != port
    assert pick_port(port) == port


def _begun(stack: Stack, role: str) -> list[float]:
    return [at for name, at in stack.diary("began") if name == role]


def _has_begun(stack: Stack, role: str) -> None:
    assert _begun(stack, role)


def _logged(stack: Stack, event: str) -> None:
    assert f'"event": "{event}"' in stack.log()


class Hopeless(Kept):
    """A server that lived long, once, and cannot be started any more."""

    pid = None
    launches = 0

    async def launch(self) -> str:
        self.launches += 1
        return "the disk is full"

    async def stop(self) -> None: ...

    def kill(self) -> None: ...


async def test_a_server_that_cannot_be_started_again_is_tried_ever_more_slowly() -> None:
    hopeless = Hopeless("postgres", News(), lambda: None)
    with capture_logs() as lines:
        keeping = asyncio.create_task(hopeless.keep())

        async def tried() -> None:
            assert hopeless.launches == 3

        await eventually(tried)
        keeping.cancel()
    pauses = [line["restart_in"] for line in lines if line["event"] == "process_died"]
    assert pauses[:3] == [0.1, 0.2, 0.4]
