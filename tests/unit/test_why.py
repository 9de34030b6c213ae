"""Why a task does not go on: every sentence, and which fact comes before which."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from api_service.facts import Facts, Lease, Lock, Message, Paused, Relays, Workers
from api_service.process_schemas import WaitsFor
from api_service.why import why
from shared.lifecycle import TaskStatus

RELAYS = Relays(alive=2, with_redis=2, redis_reason=None, unseen_seconds=1)
NO_RELAY = Relays(alive=0, with_redis=0, redis_reason=None, unseen_seconds=40)
NO_REDIS = replace(RELAYS, with_redis=0, redis_reason="Connection refused")
WORKERS = Workers(alive=2, draining=0, slots=8, busy=3, mean_seconds=2.5, unseen_seconds=1)
NO_WORKER = Workers(alive=0, draining=0, slots=0, busy=0, mean_seconds=None, unseen_seconds=None)
WAITING = Message("waiting", seconds=3, position=1)
DISPATCHED = Message("dispatched", seconds=3, position=1)
LEASE = Lease("host:1", seconds_left=48, running_seconds=12, unseen_seconds=4, gone=False)
PAUSED = Paused(by="ann", reason="a deploy", seconds=75)
NOON = datetime(2030, 1, 31, 12, tzinfo=UTC)


def queued(message: Message | None = WAITING, **more: Any) -> Facts:
    """All is well, but for what is given."""
    found: dict[str, Any] = {"relays": RELAYS, "workers": WORKERS} | more
    return Facts(status=TaskStatus.QUEUED, message=message, **found)


def running(lease: Lease = LEASE, **more: Any) -> Facts:
    return queued(None, lease=lease, **more)


def test_a_task_that_has_ended_waits_for_nothing() -> None:
    facts = replace(queued(None), status=TaskStatus.SUCCEEDED, finished_at=NOON)
    found = why(facts)
    assert found.waits_for == "nothing"
    assert found.sentence == "It waits for nothing: it ended as succeeded at 2030-01-31T12:00:00Z."


@pytest.mark.parametrize(
    ("facts", "waits_for", "sentence"),
    [
        (
            queued(paused=PAUSED),
            "paused_relays",
            "ann paused the relays 75 s ago (a deploy); `waymark outbox resume` lets them go on.",
        ),
        (
            queued(relays=NO_RELAY),
            "relay",
            "It waits for a relay: none has been seen for 40 s; start one with "
            "`python -m relay_service`.",
        ),
        (
            queued(relays=replace(NO_RELAY, unseen_seconds=None)),
            "relay",
            "It waits for a relay: none is running; start one with `python -m relay_service`.",
        ),
        (
            queued(relays=NO_REDIS),
            "redis",
            "It waits for Redis, which answers no relay (Connection refused): start it, or "
            "correct WAYMARK_REDIS_URL. Nothing is lost meanwhile.",
        ),
        (
            queued(workers=NO_WORKER),
            "worker",
            "It waits for a worker: none is running; start one with `python -m worker_service`.",
        ),
        (
            queued(workers=replace(NO_WORKER, unseen_seconds=3000)),
            "worker",
            "It waits for a worker: none has been seen for 50 min; start one with "
            "`python -m worker_service`.",
        ),
        (
            queued(replace(WAITING, position=20)),
            "turn",
            "It waits for its turn: it is number 20 in its queue, and 3 of 8 slots are busy, so "
            "about 7.5 s at their pace. More `python -m worker_service` make it quicker.",
        ),
        (
            queued(replace(WAITING, position=20), workers=replace(WORKERS, mean_seconds=None)),
            "turn",
            "It waits for its turn: it is number 20 in its queue, and 3 of 8 slots are busy. "
            "More `python -m worker_service` make it quicker.",
        ),
        (
            queued(),
            "relay",
            "It is its turn: a relay publishes it within about a second.",
        ),
    ],
)
def test_a_message_that_is_due_waits_for_what_keeps_the_relays(
    facts: Facts, waits_for: WaitsFor, sentence: str
) -> None:
    found = why(facts)
    assert (found.waits_for, found.sentence) == (waits_for, sentence)


@pytest.mark.parametrize(
    ("facts", "waits_for", "sentence"),
    [
        (
            queued(DISPATCHED, relays=NO_REDIS),
            "redis",
            "It was published 3.0 s ago, and Redis does not answer any more (Connection "
            "refused): start it again. What it has forgotten is published anew.",
        ),
        (
            queued(DISPATCHED, workers=NO_WORKER),
            "worker",
            "It waits for a worker: none is running; start one with `python -m worker_service`.",
        ),
        (
            queued(DISPATCHED, workers=replace(WORKERS, alive=1, draining=1, slots=0)),
            "worker",
            "It waits for a worker: the only one drains. Start another with "
            "`python -m worker_service`, or let one go on: `waymark workers undrain`.",
        ),
        (
            queued(DISPATCHED, workers=replace(WORKERS, draining=2, slots=0)),
            "worker",
            "It waits for a worker: all 2 drain. Start another with "
            "`python -m worker_service`, or let one go on: `waymark workers undrain`.",
        ),
        (
            queued(DISPATCHED, workers=replace(WORKERS, busy=8)),
            "worker",
            "It was published 3.0 s ago and waits for a free slot: all 8 are busy. "
            "Another `python -m worker_service` makes it quicker.",
        ),
        (
            queued(DISPATCHED),
            "worker",
            "It was published 3.0 s ago: a worker with a free slot takes it in a moment. "
            "If none does, it is published again after a minute.",
        ),
        (
            queued(DISPATCHED, relays=NO_RELAY, paused=PAUSED),
            "worker",
            "It was published 3.0 s ago: a worker with a free slot takes it in a moment. "
            "If none does, it is published again after a minute.",
        ),
    ],
)
def test_a_message_that_was_published_waits_for_a_worker(
    facts: Facts, waits_for: WaitsFor, sentence: str
) -> None:
    found = why(facts)
    assert (found.waits_for, found.sentence) == (waits_for, sentence)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (
            {"put_off": {"reason": "retry", "code": "model_busy"}},
            "Its last attempt ended with model_busy; the next one may begin in 30 s.",
        ),
        (
            {"not_before": NOON},
            "It was submitted not to begin before 2030-01-31T12:00:00Z: in 30 s.",
        ),
        ({}, "It is due in 30 s; nothing needs to be done."),
        (
            {"put_off": {"reason": "worker_stopping"}, "relays": NO_RELAY, "paused": PAUSED},
            "It is due in 30 s; nothing needs to be done.",
        ),
    ],
)
def test_a_message_that_is_not_due_waits_for_its_time_whoever_is_there(
    more: dict[str, Any], sentence: str
) -> None:
    found = why(queued(Message("delayed", seconds=30, position=1), **more))
    assert (found.waits_for, found.sentence) == ("due_time", sentence)


@pytest.mark.parametrize(
    ("facts", "waits_for", "sentence"),
    [
        (
            running(),
            "generation",
            "It waits for nothing but its generation: host:1 has been at it for 12 s.",
        ),
        (
            running(progress="lessons 12 of 40, 58 %"),
            "generation",
            "It waits for nothing but its generation: host:1 has been at it for 12 s "
            "(lessons 12 of 40, 58 %).",
        ),
        (
            running(canceling_seconds=0.6),
            "worker_to_cancel",
            "It is being canceled: host:1 was asked 0.6 s ago and lets go of it within two "
            "seconds, or else when its lease runs out, in 48 s.",
        ),
        (
            running(replace(LEASE, gone=True, unseen_seconds=33)),
            "lease",
            "Its worker host:1 was last seen 33 s ago. Unless it comes back, it runs again when "
            "its lease runs out, in 48 s.",
        ),
        (
            running(replace(LEASE, gone=True, unseen_seconds=33), canceling_seconds=5),
            "lease",
            "Its worker host:1 was last seen 33 s ago. Unless it comes back, it ends as canceled "
            "when its lease runs out, in 48 s.",
        ),
        (
            running(replace(LEASE, seconds_left=-2)),
            "lease",
            "The lease of host:1 ran out 2.0 s ago; it runs again as soon as a relay comes by, "
            "within seconds.",
        ),
        (
            running(replace(LEASE, seconds_left=-2), canceling_seconds=50, relays=NO_RELAY),
            "relay",
            "The lease of host:1 ran out 2.0 s ago; it ends as canceled once a relay is there: "
            "none has been seen for 40 s; start one with `python -m relay_service`.",
        ),
    ],
)
def test_a_task_that_runs_waits_for_its_worker_or_for_its_lease_to_run_out(
    facts: Facts, waits_for: WaitsFor, sentence: str
) -> None:
    found = why(facts)
    assert (found.waits_for, found.sentence) == (waits_for, sentence)


@pytest.mark.parametrize("facts", [queued(paused=PAUSED), queued(DISPATCHED), running()])
def test_a_row_that_is_locked_for_long_comes_before_all_else(facts: Facts) -> None:
    found = why(replace(facts, lock=Lock(4711, "waymark-relay", seconds=90)))
    assert found.waits_for == "row_lock"
    assert found.sentence == (
        "A session of waymark-relay has locked its row for 90 s. It goes on when that "
        "transaction ends; if its process hangs, end it, or the session with "
        "SELECT pg_terminate_backend(4711)."
    )


def test_a_lock_in_passing_is_not_worth_a_word() -> None:
    facts = queued(paused=PAUSED, lock=Lock(4711, "waymark-relay", seconds=0.1))
    assert why(facts).waits_for == "paused_relays"


def test_a_session_without_a_name_is_told_as_unknown() -> None:
    assert "A session of an unknown program" in why(queued(lock=Lock(1, "", 5))).sentence


def test_a_queued_task_without_a_message_needs_an_operator() -> None:
    found = why(queued(None))
    assert found.waits_for == "operator"
    assert "without an outbox message" in found.sentence
    assert "Cancel it, submit it again" in found.sentence


@pytest.mark.parametrize(
    ("seconds", "span"),
    [
        (-1, "0.0 s"),
        (9.96, "10.0 s"),
        (10, "10 s"),
        (599, "599 s"),
        (600, "10 min"),
        (90_000, "25 h"),
    ],
)
def test_a_span_is_told_in_the_unit_that_fits(seconds: float, span: str) -> None:
    facts = queued(relays=replace(NO_RELAY, unseen_seconds=seconds))
    assert f"none has been seen for {span};" in why(facts).sentence


def test_facts_are_told_without_what_is_not_known() -> None:
    told = queued(paused=PAUSED).told()
    assert set(told) == {"relays", "workers", "message", "paused"}
    assert told["paused"] == {"by": "ann", "reason": "a deploy", "seconds": 75}
