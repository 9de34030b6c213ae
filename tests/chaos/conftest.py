"""A crew for the tests that kill: real processes beside the test servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.chaos.roles import Crew, crew_of
from tests.conftest import Servers


@pytest.fixture
def crew(servers: Servers, valkey: redis.Redis, tmp_path: Path) -> Iterator[Crew]:
    with crew_of(servers, tmp_path) as crew:
        yield crew
