"""The examples of ``docs/python.md`` run as they stand, one after the other."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from shared.database import Database
from tests.conftest import Servers
from tests.transcript import SHOWN_URL, stack

PAGE = Path(__file__).parents[2] / "docs" / "python.md"
EXAMPLE = re.compile(r"(?<=^```python\n).*?(?=^```$)", re.DOTALL | re.MULTILINE)


async def test_the_examples_run(
    servers: Servers,
    database: Database,
    valkey: object,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    examples = EXAMPLE.findall(PAGE.read_text())
    with stack(servers, tmp_path) as url:
        await asyncio.to_thread(_run, examples, url)
    printed = capsys.readouterr().out
    assert "task.succeeded" in printed
    assert "/input/hours_per_week" in printed
    assert printed.endswith("['succeeded', 'succeeded']\n")


def _run(examples: list[str], url: str) -> None:
    names: dict[str, object] = {}
    for number, example in enumerate(examples, start=1):
        code = compile(example.replace(SHOWN_URL, url), f"example {number}", "exec")
        exec(code, names)  # noqa: S102 - our own page
