"""The doorbell: what one side writes the other side reads, and nothing else is read."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.messages import Doorbell

TASK, DEPLOYMENT = UUID(int=1), UUID(int=2)
GOOD: dict[str, Any] = {
    "task_id": str(TASK),
    "dispatch_no": 1,
    "deployment_id": str(DEPLOYMENT),
    "traceparent": None,
}

doorbells = st.builds(
    Doorbell,
    task_id=st.uuids(),
    dispatch_no=st.integers(min_value=1, max_value=2**31 - 1),
    deployment_id=st.uuids(),
    traceparent=st.none() | st.from_regex(r"\A00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]\Z"),
)


@given(doorbells)
def test_a_doorbell_survives_its_way_through_json(doorbell: Doorbell) -> None:
    assert Doorbell.from_kwargs(json.loads(json.dumps(doorbell.as_kwargs()))) == doorbell


@given(doorbells, doorbells)
def test_two_doorbells_share_their_id_iff_task_and_number_are_the_same(
    one: Doorbell, other: Doorbell
) -> None:
    same = (one.task_id, one.dispatch_no) == (other.task_id, other.dispatch_no)
    assert (one.message_id == other.message_id) == same


@pytest.mark.parametrize(
    "change",
    [
        {"extra": 1},
        {"task_id": TASK},
        {"task_id": 5},
        {"task_id": None},
        {"task_id": "not-a-uuid"},
        {"task_id": ""},
        {"task_id": f"{{{TASK}}}"},
        {"task_id": f"urn:uuid:{TASK}"},
        {"task_id": TASK.hex},
        {"dispatch_no": "1"},
        {"dispatch_no": 1.0},
        {"dispatch_no": None},
        {"dispatch_no": True},
        {"dispatch_no": False},
        {"deployment_id": "elsewhere"},
        {"deployment_id": None},
        {"traceparent": 7},
        {"traceparent": ["00"]},
    ],
    ids=str,
)
def test_anything_else_than_a_doorbell_is_refused(change: dict[str, Any]) -> None:
    assert Doorbell.from_kwargs(GOOD).task_id == TASK
    with pytest.raises(ValueError):  # noqa: PT011 - whatever the sentence
        Doorbell.from_kwargs(GOOD | change)


@pytest.mark.parametrize("missing", GOOD)
def test_a_doorbell_that_lacks_a_part_is_refused(missing: str) -> None:
    with pytest.raises(ValueError, match="not a doorbell"):
        Doorbell.from_kwargs({name: part for name, part in GOOD.items() if name != missing})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*GOOD, "other"]), json_values))
def test_garbage_raises_nothing_but_a_value_error(garbage: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever the sentence
        Doorbell.from_kwargs(garbage)
