"""What people read: each problem has a page, the API's description can be tried out, offline."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import httpx2
import pytest

from api_service.explanations import EXPLANATIONS
from api_service.pages import START
from api_service.problem_pages import STYLE, source_hash
from api_service.problems import TYPES
from shared.settings import Settings
from tests.http import assert_problem, in_process

ADDRESSES = ["/problems", "/problems/validation-failed", "/docs"]


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    async with in_process(settings) as client:
        yield client


def test_every_type_of_problem_is_explained() -> None:
    assert set(EXPLANATIONS) == set(TYPES)


@pytest.mark.parametrize("slug", TYPES)
async def test_a_problem_has_a_page_that_says_what_to_do(
    client: httpx2.AsyncClient, slug: str
) -> None:
    answer = await client.get(f"/problems/{slug}", headers={"Accept": "text/html"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert f"Status {TYPES[slug].status} " in answer.text
    assert "What to do" in answer.text
    assert f"&quot;code&quot;: &quot;{slug}&quot;" in answer.text


@pytest.mark.parametrize("slug", TYPES)
async def test_who_wants_plain_text_gets_it(client: httpx2.AsyncClient, slug: str) -> None:
    answer = await client.get(f"/problems/{slug}", headers={"Accept": "text/plain"})
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["vary"] == "Accept"
    assert answer.text.startswith(f"{TYPES[slug].status} {TYPES[slug].title}\n")
    assert "<" not in answer.text.split("{")[0]


async def test_a_page_names_the_addresses_that_answer_with_its_problem(
    client: httpx2.AsyncClient,
) -> None:
    page = (await client.get("/problems/precondition-failed")).text
    assert re.findall(r"<code>(\w+ /v1/[^<]+)</code>", page) == [
        "DELETE /v1/tasks/{task_id}",
        "POST /v1/tasks/{task_id}/cancel",
    ]
    assert "Every address" in (await client.get("/problems/rate-limited")).text


@pytest.mark.parametrize("accept", ["text/html", "text/plain"])
async def test_all_types_are_listed(client: httpx2.AsyncClient, accept: str) -> None:
    listed = (await client.get("/problems", headers={"Accept": accept})).text
    assert all(f"/problems/{slug}" in listed for slug in TYPES)


@pytest.mark.parametrize("address", ADDRESSES)
async def test_a_page_takes_nothing_from_another_origin(
    client: httpx2.AsyncClient, address: str
) -> None:
    page = (await client.get(address)).text
    loaded = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert loaded
    assert all(one.startswith("/") and not one.startswith("//") for one in loaded)
    for one in loaded:
        assert (await client.get(one)).status_code == 200, one
    assert "://" not in page


@pytest.mark.parametrize("address", ADDRESSES)
async def test_a_pages_policy_allows_its_own_parts_and_no_others(
    client: httpx2.AsyncClient, address: str
) -> None:
    answer = await client.get(address)
    policy = answer.headers["content-security-policy"]
    assert policy.startswith(("default-src 'none';", "default-src 'self';"))
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "frame-ancestors 'none'" in policy
    for inline in re.findall(r"<(?:script|style)>(.*?)</(?:script|style)>", answer.text, re.DOTALL):
        assert inline in (START, STYLE)
        assert source_hash(inline) in policy
    assert not re.search(r"\sstyle=|\son\w+=", answer.text)


async def test_what_the_docs_load_is_kept_for_good_under_an_address_of_its_content(
    client: httpx2.AsyncClient,
) -> None:
    page = (await client.get("/docs")).text
    for address in re.findall(r'(?:src|href)="(/docs/[^"]*)"', page):
        asset = await client.get(address)
        assert "immutable" in asset.headers["cache-control"]
        tag = asset.headers["etag"]
        again = await client.get(address, headers={"If-None-Match": tag})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == tag


@pytest.mark.parametrize(
    "address", ["/problems/none", "/docs/0/swagger-ui.css", "/docs/0/..%2fpages.py", "/docs/x"]
)
async def test_what_is_not_there_is_a_problem(client: httpx2.AsyncClient, address: str) -> None:
    assert_problem(await client.get(address), 404, "not-found")
