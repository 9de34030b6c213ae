"""What others wrote and we carry along is what they published, and nothing more is there."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
LISTED = dict(
    re.findall(
        r"^\| `([\w./-]+)` \| `([0-9a-f]{96})` \|$",
        (ROOT / "THIRD_PARTY.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
)
PRESENT = {
    str(file.relative_to(ROOT))
    for folder in ROOT.glob("*/vendor")
    for file in folder.rglob("*")
    if file.is_file()
}


def test_every_vendored_file_has_the_hash_that_is_written_down() -> None:
    assert LISTED
    found = {name: hashlib.sha384((ROOT / name).read_bytes()).hexdigest() for name in LISTED}
    assert found == LISTED


def test_no_other_file_lies_among_the_vendored_ones() -> None:
    assert set(LISTED) == PRESENT


def test_what_is_vendored_has_its_licence_beside_it() -> None:
    for name in PRESENT:
        assert (ROOT / name).with_name("LICENSE").is_file()
