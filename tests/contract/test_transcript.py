"""``docs/http.md`` is what the API really answers."""

from __future__ import annotations

from pathlib import Path

from shared.database import Database
from tests.conftest import Servers
from tests.transcript import PAGE, Session, stack


async def test_the_page_shows_what_the_api_answers(
    servers: Servers, database: Database, valkey: object, tmp_path: Path
) -> None:
    """If it does not any more: look at what changed, then ``python -m tests.transcript``."""
    written = PAGE.read_text()
    with stack(servers, tmp_path) as url:
        assert Session(url).renewed(written) == written
