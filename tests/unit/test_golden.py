"""Plans are what a teacher of the field expected before they were made."""

from __future__ import annotations

import pytest

from tests.unit.golden import Golden, golden_requests, misses

GOLDEN = golden_requests()


def test_there_are_at_least_eighty_of_all_kinds() -> None:
    requests = [one.request for one in GOLDEN]
    assert len(requests) >= 80
    assert sum(one.weeks is not None for one in requests) >= 20
    assert sum(bool(one.known_topics) for one in requests) >= 20
    assert sum(one.language == "zh" for one in requests) >= 10
    assert {one.level for one in requests} == {"beginner", "intermediate", "advanced"}


@pytest.mark.parametrize(
    "golden", [one for one in GOLDEN if one.argued is None], ids=lambda one: one.name
)
def test_a_request_gets_what_was_expected(golden: Golden) -> None:
    assert misses(golden) == []


@pytest.mark.parametrize(
    "golden", [one for one in GOLDEN if one.argued is not None], ids=lambda one: one.name
)
def test_a_miss_that_is_argued_for_is_still_one(golden: Golden) -> None:
    assert misses(golden) != []


def test_few_expectations_are_missed() -> None:
    assert sum(one.argued is not None for one in GOLDEN) <= len(GOLDEN) / 10
