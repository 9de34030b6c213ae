"""Shares: all of the room is used, the urgent lead, nothing starves, tenants share by weight."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from relay_service.fairness import AGED_TURN, Shares
from relay_service.lanes import START, Backlog, Lane, Position

NOW = START.available_at + timedelta(days=1)
AGEING = 60.0
HIGH, NORMAL, LOW = 1, 2, 3


def backlog(waiting: int, age: float = 0) -> Backlog:
    head = Position(NOW - timedelta(seconds=age), UUID(int=1)) if waiting else None
    return Backlog(waiting, head, None)


def shares(**weights: int) -> Shares:
    return Shares(weights, AGEING)


lanes = st.builds(Lane, st.sampled_from("abcde"), st.sampled_from([HIGH, NORMAL, LOW]))
backlogs = st.dictionaries(
    lanes, st.builds(backlog, st.integers(0, 300), st.floats(0, 200)), max_size=15
)


@given(backlogs, st.integers(1, 500), st.dictionaries(st.sampled_from("abcde"), st.integers(-2, 9)))
def test_room_is_used_up_and_nobody_gets_more_than_waits_or_may_run(
    found: dict[Lane, Backlog], room: int, spare: dict[str, int]
) -> None:
    quotas = shares().allot(found, NOW, room, spare)
    per_tenant: Counter[str] = Counter()
    for lane, quota in quotas.items():
        assert 0 < quota <= found[lane].waiting
        per_tenant[lane.tenant_id] += quota
    assert all(per_tenant[tenant] <= max(0, limit) for tenant, limit in spare.items())
    available: Counter[str] = Counter()
    for lane, one in found.items():
        available[lane.tenant_id] += one.waiting
    takable = sum(min(n, max(0, spare.get(tenant, n))) for tenant, n in available.items())
    assert sum(quotas.values()) == min(room, takable)


@given(
    st.lists(st.integers(1, 4), min_size=2, max_size=5),
    st.lists(st.integers(1, 50), min_size=1, max_size=40),
)
def test_tenants_with_a_backlog_share_by_weight_whatever_the_room(
    weights: list[int], rooms: list[int]
) -> None:
    tenants = {f"t{n}": weight for n, weight in enumerate(weights)}
    turns = shares(**tenants)
    got: Counter[str] = Counter()
    for room in rooms:
        found = {Lane(tenant, NORMAL): backlog(10_000) for tenant in tenants}
        for lane, quota in turns.allot(found, NOW, room).items():
            got[lane.tenant_id] += quota
    served = {tenant: got[tenant] / weight for tenant, weight in tenants.items()}
    # A tenant is at most one turn of its own ahead of any other.
    assert max(served.values()) - min(served.values()) <= 1.0001


@given(st.integers(1, 100), st.lists(st.integers(1, 9), min_size=1, max_size=30))
def test_what_is_aged_gets_every_fourth_turn_and_the_urgent_the_others(
    waiting: int, rooms: list[int]
) -> None:
    turns = shares()
    aged = 0
    for room in rooms:
        found = {Lane("a", HIGH): backlog(1000), Lane("a", LOW): backlog(1000, age=AGEING)}
        aged += turns.allot(found, NOW, room).get(Lane("a", LOW), 0)
    assert aged == sum(rooms) // AGED_TURN


def test_the_urgent_go_first_then_the_usual_then_the_rest() -> None:
    found = {
        Lane("a", LOW): backlog(5),
        Lane("b", NORMAL): backlog(5),
        Lane("c", HIGH): backlog(5),
    }
    assert shares().allot(found, NOW, 7) == {Lane("c", HIGH): 5, Lane("b", NORMAL): 2}


def test_a_tenant_that_rested_has_saved_nothing_up() -> None:
    turns = shares()
    crowd = {Lane("a", NORMAL): backlog(1000), Lane("b", NORMAL): backlog(1000)}
    for _ in range(50):
        turns.allot(crowd, NOW, 10)
    late = crowd | {Lane("c", NORMAL): backlog(1000)}
    assert set(turns.allot(late, NOW, 30).values()) == {10}


def test_room_for_one_at_a_time_still_goes_round() -> None:
    turns = shares()
    found = {Lane(tenant, NORMAL): backlog(1000) for tenant in "abc"}
    got = Counter(lane.tenant_id for _ in range(30) for lane in turns.allot(found, NOW, 1))
    assert set(got.values()) == {10}
