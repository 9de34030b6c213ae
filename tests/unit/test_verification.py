"""The relay's verdicts: pure, and right for every case there is."""

from __future__ import annotations

import json
import math
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_service import verification
from relay_service.outbox import Claimed, TaskFact
from relay_service.verification import (
    Bury,
    Deliver,
    Doubts,
    Drop,
    LookAgain,
    OtherDeployment,
    verify,
)
from shared.lifecycle import TaskStatus
from shared.messages import Doorbell

HERE = UUID(int=1)

claimed = st.builds(Claimed, task_id=st.uuids(), dispatch_no=st.integers(1, 5))
facts = st.builds(
    TaskFact,
    status=st.sampled_from([str(status) for status in TaskStatus]),
    dispatch_no=st.integers(1, 5),
    traceparent=st.none() | st.just("00-trace"),
    deployment_id=st.just(HERE),
)


@given(claimed, st.none() | facts, st.booleans())
def test_every_message_gets_exactly_the_right_verdict(
    message: Claimed, task: TaskFact | None, last_look: bool
) -> None:
    verdict = verify(message, task, deployment_id=HERE, last_look=last_look)
    if task is None and last_look:
        assert verdict == Bury(message, "task_missing")
    elif task is None:
        assert verdict == LookAgain(message)
    elif task.status == "canceled":
        assert verdict == Drop(message, "canceled")
    elif task.status in ("succeeded", "failed"):
        assert verdict == Drop(message, "ended")
    elif task.status == "running":
        assert verdict == Drop(message, "taken")
    elif message.dispatch_no < task.dispatch_no:
        assert verdict == Drop(message, "superseded")
    else:
        assert isinstance(verdict, Deliver)
        sent = Doorbell(message.task_id, message.dispatch_no, HERE, task.traceparent)
        assert (verdict.message, verdict.message_id) == (message, sent.message_id)
        assert json.loads(verdict.body)["kwargs"] == sent.as_kwargs()


def test_what_cannot_be_a_message_is_buried_and_stops_nobody() -> None:
    message = Claimed(UUID(int=1), 1)
    task = TaskFact("queued", 1, "x" * 500, HERE)
    verdict = verify(message, task, deployment_id=HERE, last_look=False)
    assert verdict == Bury(message, "unpublishable")


@given(claimed, facts, st.booleans())
def test_a_message_is_never_settled_against_another_deployment(
    message: Claimed, task: TaskFact, last_look: bool
) -> None:
    with pytest.raises(OtherDeployment, match=f"{HERE}.*{UUID(int=2)}"):
        verify(message, task, deployment_id=UUID(int=2), last_look=last_look)


class Clock:
    """Time that moves when told to."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(verification, "time", clock)
    return clock


def test_without_doubts_nothing_rests_and_patience_has_no_end() -> None:
    doubts = Doubts(tries=5, step=0.05)
    assert doubts.resting() == []
    assert doubts.patience() == math.inf
    assert not doubts.is_last_look(uuid4())


def test_a_message_in_doubt_rests_longer_each_time_and_its_fifth_look_is_the_last(
    clock: Clock,
) -> None:
    doubts, missing = Doubts(tries=5, step=0.05), uuid4()
    for look in (1, 2, 3, 4):
        assert not doubts.is_last_look(missing)
        doubts.looked([missing], settled=[])
        assert doubts.resting() == [missing]
        assert doubts.patience() == pytest.approx(0.05 * look)
        clock.now += 0.05 * look - 0.001
        assert doubts.resting() == [missing]
        clock.now += 0.002
        assert doubts.resting() == []
    assert doubts.is_last_look(missing)


def test_with_a_single_try_the_first_look_is_the_last() -> None:
    assert Doubts(tries=1, step=0.05).is_last_look(uuid4())


def test_patience_ends_with_the_first_message_to_look_at_again(clock: Clock) -> None:
    doubts, old, new = Doubts(tries=5, step=1), uuid4(), uuid4()
    doubts.looked([old], settled=[])
    clock.now += 0.4
    doubts.looked([new], settled=[])
    assert doubts.patience() == pytest.approx(0.6)
    clock.now += 0.7
    assert doubts.resting() == [new]
    assert doubts.patience() == pytest.approx(0.3)


def test_a_settled_message_is_forgotten(clock: Clock) -> None:
    doubts, found = Doubts(tries=2, step=1), uuid4()
    doubts.looked([found], settled=[])
    assert doubts.is_last_look(found)
    doubts.looked([], settled=[found])
    assert doubts.resting() == []
    assert not doubts.is_last_look(found)


def test_a_message_that_another_relay_settled_is_forgotten_after_a_minute(clock: Clock) -> None:
    doubts, gone = Doubts(tries=2, step=1), uuid4()
    doubts.looked([gone], settled=[])
    clock.now += 60
    doubts.resting()
    assert doubts.is_last_look(gone)
    clock.now += 1.5
    doubts.resting()
    assert not doubts.is_last_look(gone)
