"""The ground everything stands on: make, the locks, the import law, the wheel."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PACKAGES = ("shared", "api_service", "relay_service", "worker_service", "waymark")
LOCKS = ("requirements.lock", "requirements-dev.lock")


def make(*words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    unmade = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "GOAL")}
    return subprocess.run(["make", *words], cwd=cwd, env=unmade, capture_output=True, text=True)


@pytest.mark.parametrize("words", [(), ("help",)])
def test_make_tells_what_can_be_made(words: tuple[str, ...]) -> None:
    told = re.findall(r"^make (\w+) +\w+", make(*words).stdout, re.MULTILINE)
    assert {
        "setup",
        "demo",
        "up",
        "test",
        "check",
        "bench",
        "help",
        "fmt",
        "lock",
        "mutants",
        "fuzz",
    } == set(told)


@pytest.mark.parametrize(
    "goal",
    [
        """Don't say "stop" """,
        "earn $5, not $HOME or $(shell id) or `id`",
        "$(open",
        "a\\nb # c",
        "-v",
    ],
)
def test_a_goal_reaches_the_demo_as_it_was_typed(goal: str, tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    program = tmp_path / ".venv" / "bin" / "waymark"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\nprintf "%s|" "$@"\nexit 3\n', encoding="utf-8")
    program.chmod(0o755)
    made = make("--old-file=setup", "demo", f"GOAL={goal}", cwd=tmp_path)
    assert made.stdout == f"demo|--|{goal}|"
    assert made.returncode != 0, "the failure of the demo must be the failure of make"


@pytest.mark.parametrize(
    ("python", "advice"),
    [
        ("no-such-python", "There is no no-such-python: install Python 3.11 or newer"),
        ("./too-old", "needs Python 3.11 or newer and ./too-old is older"),
    ],
)
def test_a_python_that_will_not_do_is_refused_in_one_sentence(
    python: str, advice: str, tmp_path: Path
) -> None:
    for name in ("Makefile", "pyproject.toml", *LOCKS):
        shutil.copy(ROOT / name, tmp_path)
    old = tmp_path / "too-old"
    old.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    old.chmod(0o755)
    made = make("setup", f"PYTHON={python}", cwd=tmp_path)
    said = [line for line in made.stderr.splitlines() if not line.startswith("make")]
    assert made.returncode != 0
    assert len(said) == 1
    assert advice in said[0]
    assert not (tmp_path / ".venv").exists()


def pins(lock: str) -> dict[str, str]:
    """Name to pinned version; fails for a line that pins nothing or carries no hash."""
    text = (ROOT / lock).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    found: dict[str, str] = {}
    for line in lines:
        pin = re.fullmatch(r"([\w.-]+)==(\S+)((?: +--hash=sha256:[0-9a-f]{64})+) *", line)
        assert pin, f"{lock} has a line that is not a pin with hashes: {line[:100]}"
        found[canonicalize_name(pin[1])] = pin[2]
    return found


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_holds_pins_and_hashes_and_names_no_index(lock: str) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8")
    assert pins(lock)
    assert not re.search(r"://|--(extra-)?index-url|--find-links|--trusted-host", text)


@pytest.mark.parametrize(
    ("lock", "wanted"),
    [
        ("requirements.lock", PROJECT["dependencies"]),
        (
            "requirements-dev.lock",
            PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"],
        ),
    ],
)
def test_every_direct_dependency_is_locked_within_its_bounds(lock: str, wanted: list[str]) -> None:
    pinned = pins(lock)
    for requirement in map(Requirement, wanted):
        assert pinned[canonicalize_name(requirement.name)] in requirement.specifier


def test_tests_run_on_the_versions_that_are_deployed() -> None:
    assert pins("requirements.lock").items() <= pins("requirements-dev.lock").items()


@pytest.mark.parametrize(("system", "platform"), [("Linux", "linux"), ("Darwin", "darwin")])
@pytest.mark.parametrize("python", ["3.11.0", "3.12.0", "3.13.0", "3.14.0"])
def test_the_lock_is_complete_on_every_python_we_support(
    python: str, system: str, platform: str
) -> None:
    """With hashes, pip refuses what only another Python than the locker's would need."""
    environment = {
        "python_full_version": python,
        "python_version": python.removesuffix(".0"),
        "platform_system": system,
        "sys_platform": platform,
        "extra": "",
    }
    pinned = pins("requirements-dev.lock").keys()
    needed = {
        canonicalize_name(requirement.name)
        for name in pinned
        for requirement in map(Requirement, metadata.requires(name) or ())
        if requirement.marker is None or requirement.marker.evaluate(environment)
    }
    assert needed - pinned == set()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The five packages and their project file, alone."""
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    for package in PACKAGES:
        no_bytecode = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=no_bytecode)
    return tmp_path


def lint_imports(tree: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [program, "--no-cache", "--no-logo"],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
    )


def test_the_import_law_is_kept(tree: Path) -> None:
    report = lint_imports(tree)
    assert report.returncode == 0, report.stdout


@pytest.mark.parametrize(
    ("package", "statement"),
    [
        ("api_service", "import redis"),
        ("api_service", "from dramatiq.brokers.redis import RedisBroker"),
        ("api_service", "import relay_service"),
        ("relay_service", "import fastapi"),
        ("worker_service", "import relay_service"),
        ("shared", "import redis"),
        ("shared", "import worker_service"),
        ("waymark", "import api_service"),
    ],
)
def test_a_forbidden_import_breaks_the_law(tree: Path, package: str, statement: str) -> None:
    planted = tree / package / "planted.py"
    planted.write_text(f"{statement}\n", encoding="utf-8")
    report = lint_imports(tree)
    assert report.returncode != 0
    assert f"{package}.planted" in report.stdout


def test_the_wheel_carries_every_file_of_the_packages(tree: Path) -> None:
    present = {
        str(file.relative_to(tree))
        for package in PACKAGES
        for file in (tree / package).rglob("*")
        if file.is_file()
    }
    build = "from setuptools.build_meta import build_wheel; build_wheel('dist')"
    built = subprocess.run([sys.executable, "-c", build], cwd=tree, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (wheel,) = (tree / "dist").glob("*.whl")
    assert present - set(zipfile.ZipFile(wheel).namelist()) == set()


def test_every_direct_dependency_is_named_among_the_third_parties() -> None:
    named = set(re.findall(r"[\w-]+", (ROOT / "THIRD_PARTY.md").read_text(encoding="utf-8")))
    wanted = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]
    assert {Requirement(one).name for one in wanted} <= named
