"""A running API for the tests of one file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest

from tests.conftest import Servers
from tests.eventually import eventually_sync
from tests.http import Api


@pytest.fixture(scope="module")
def api(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    api = Api.start(tmp_path_factory.mktemp("api"), servers.environment())
    try:
        eventually_sync(lambda: api.has_logged("api_ready"))
        yield api
    finally:
        api.stop()


@pytest.fixture
async def client(api: Api) -> AsyncIterator[httpx2.AsyncClient]:
    # No TLS here, and loading the certificates takes 25 ms.
    async with httpx2.AsyncClient(base_url=api.url, timeout=30, verify=False) as client:
        yield client
