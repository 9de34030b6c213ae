"""What the clients return: typed, and whole although the API knows more than they do."""

from __future__ import annotations

import subprocess
import sys
from datetime import date
from typing import Any

import pytest

from shared.roadmap import RoadmapRequest
from shared.views import TASK_EXAMPLE
from tests.factories import small_roadmap
from waymark.errors import ApiError, Conflict, RateLimited, ValidationFailed, refusal
from waymark.received import StoredRoadmap, Task, Validated

TASK = "01a20a9f-2bbd-728b-87a2-3d216770b6f7"


def a_roadmap() -> dict[str, Any]:
    request = RoadmapRequest(goal="Learn SQL")
    roadmap = small_roadmap(request, today=date(2027, 1, 4)).model_dump(mode="json")
    return roadmap | {"id": TASK, "task_id": TASK, "created_at": "2027-01-04T12:00:00Z"}


def test_a_task_is_typed_and_keeps_its_document() -> None:
    task = Task.of(TASK_EXAMPLE)
    assert str(task.id) == TASK
    assert not task.status.terminal
    assert task.document == TASK_EXAMPLE
    assert task["metadata"] == {"customer": "42"}


def test_members_of_a_newer_api_disturb_nothing_and_can_be_read() -> None:
    task = Task.of(TASK_EXAMPLE | {"cost_center": 7})
    assert task["cost_center"] == 7
    document = a_roadmap() | {"audience": "adults"}
    document["stages"][0]["modules"][0]["concepts"][0]["mood"] = "calm"
    document["fit"]["slack"] = 3
    roadmap = StoredRoadmap.of(document)
    assert roadmap.stages[0].modules[0].concepts[0].name == "SELECT"
    assert roadmap["audience"] == "adults"
    assert roadmap.document["fit"]["slack"] == 3


def test_a_validation_says_what_a_submission_would_come_to() -> None:
    failure = {"code": "goal_not_covered", "detail": "No.", "retryable": False, "nearest": ["SQL"]}
    document = {"normalized": {"goal": "Fly"}, "estimate": None, "problem": failure}
    validated = Validated.of({"valid": True} | document)
    assert (validated.normalized, validated.estimate) == ({"goal": "Fly"}, None)
    assert validated.problem is not None
    assert validated["problem"]["nearest"] == ["SQL"]


def test_an_answer_that_lacks_what_is_needed_is_an_error_that_names_it() -> None:
    without = {name: value for name, value in TASK_EXAMPLE.items() if name != "delivery"}
    with pytest.raises(ApiError, match="Task/delivery: Field required"):
        Task.of(without)


def test_an_error_has_the_class_of_its_problem() -> None:
    assert type(refusal({"code": "idempotency-key-reused"}, 422)) is Conflict
    assert type(refusal({"code": "validation-failed"}, 422)) is ValidationFailed
    assert type(refusal({}, 418)) is ApiError
    limited = refusal({"title": "Too many requests"}, 429, 7)
    assert isinstance(limited, RateLimited)
    assert limited.retry_after == 7
    assert limited.problem.status == 429
    assert limited.problem.title == str(limited) == "Too many requests"


def test_importing_the_package_loads_no_client() -> None:
    code = (
        "import sys, waymark; assert not {'httpx2', 'pydantic'} & set(sys.modules); "
        "assert waymark.Client and waymark.AsyncClient and waymark.ApiError"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
