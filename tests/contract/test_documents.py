"""What the documents name exists: a reader can follow one submission by them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shared import logs
from shared.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")]
DOCUMENTS += sorted((ROOT / "docs").rglob("*.md"))
CODE = [
    path
    for package in ("shared", "*_service", "waymark", "tests", "benchmarks")
    for folder in ROOT.glob(package)
    for path in folder.rglob("*.py")
]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_and_name_in_a_document_exists(document: Path) -> None:
    for file, name in re.findall(r"([\w/]+\.py)(?:::(\w+))?", document.read_text()):
        found = [path for path in CODE if str(path).endswith(f"/{file}")]
        assert found, f"there is no {file}"
        defined = re.compile(rf"^ *(async )?(def|class) {name}\b", re.MULTILINE)
        assert not name or any(defined.search(path.read_text()) for path in found), name


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_setting_and_test_in_a_document_exists(document: Path) -> None:
    settings = {PREFIX + name.upper() for name in Settings.model_fields} | {"WAYMARK_URL"}
    text = document.read_text()
    assert set(re.findall(r"\bWAYMARK_[A-Z_]+\b", text)) <= settings
    tests = "\n".join(path.read_text() for path in CODE if path.name.startswith("test_"))
    for name in re.findall(r"\btest_\w+\b(?!\.py)", text):
        assert f"def {name}(" in tests, name


def test_the_architecture_tells_the_log_events_in_their_order() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    events = (
        logs.TASK_COMMITTED,
        logs.TASK_VERIFIED,
        logs.TASK_DISPATCHED,
        logs.TASK_FOUND,
        logs.TASK_SUCCEEDED,
    )
    places = [text.index(f"`{event}`") for event in events]
    assert places == sorted(places)
