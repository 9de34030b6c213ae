"""The low-water mark: it may lag, it may never pass a message that waits or is still to come."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from relay_service.lanes import (
    MAX_LANES,
    NIL,
    START,
    Backlog,
    Lane,
    Lanes,
    Mark,
    Position,
    Snapshot,
)


@dataclass
class Server:
    """One lane as PostgreSQL keeps it: transactions get an id, insert, and commit in any order."""

    clock: int = 0
    next_xid: int = 100
    last_ended: int = 99
    open: dict[int, list[Position]] = field(default_factory=dict)
    waiting: set[Position] = field(default_factory=set)
    mark: Mark = field(default_factory=Mark)

    def begin(self) -> None:
        self.open[self.next_xid] = []
        self.next_xid += 1
        self.insert(0)

    def insert(self, which: int) -> None:
        """Later than the transaction got its id, as clock_timestamp() is."""
        if self.open:
            self.clock += 1
            at = START.available_at + timedelta(microseconds=self.clock)
            xid = sorted(self.open)[which % len(self.open)]
            self.open[xid].append(Position(at, UUID(int=self.clock)))

    def end(self, which: int, *, commit: bool) -> None:
        if self.open:
            xid = sorted(self.open)[which % len(self.open)]
            self.last_ended = max(self.last_ended, xid)
            rows = self.open.pop(xid)
            self.waiting.update(rows if commit else [])

    def look_and_settle(self, count: int) -> None:
        self.clock += 1
        now = START.available_at + timedelta(microseconds=self.clock)
        assert all(position >= self.mark.floor for position in self.waiting)
        seen = sorted(self.waiting)
        xmax = self.last_ended + 1  # PostgreSQL's own: younger ones may be open
        snapshot = Snapshot(now, min([*self.open, xmax]), self.next_xid)
        self.mark.learn(Backlog(len(seen), seen[0] if seen else None, None), snapshot)
        self.waiting.difference_update(seen[:count])


steps = st.one_of(
    st.just(("begin",)),
    st.tuples(st.just("insert"), st.integers(0, 9)),
    st.tuples(st.just("commit"), st.integers(0, 9)),
    st.tuples(st.just("abort"), st.integers(0, 9)),
    st.tuples(st.just("look"), st.integers(0, 5)),
)


@given(st.lists(steps, max_size=60))
def test_in_any_order_of_commits_no_waiting_message_is_ever_below_the_floor(
    history: list[tuple[str, int]],
) -> None:
    server = Server()
    for step in history:
        match step:
            case ("begin",):
                server.begin()
            case ("insert", which):
                server.insert(which)
            case ("commit", which):
                server.end(which, commit=True)
            case ("abort", which):
                server.end(which, commit=False)
            case ("look", count):
                server.look_and_settle(count)
    while server.open:
        server.end(0, commit=True)
    server.look_and_settle(0)


def test_the_floor_follows_what_was_settled() -> None:
    server = Server()
    for _ in range(10):
        server.begin()
        server.end(0, commit=True)
    for _ in range(12):
        server.look_and_settle(1)
    assert server.mark.floor > START
    assert server.waiting == set()


def test_a_transaction_that_stays_open_holds_the_floor_for_as_long_as_ours_may_live() -> None:
    mark = Mark()
    late = START.available_at + timedelta(days=1)
    for seconds in (0, 1, 29):
        mark.learn(Backlog(0, None, None), Snapshot(late + timedelta(seconds=seconds), 5, 9))
    assert mark.floor == START
    mark.learn(Backlog(0, None, None), Snapshot(late + timedelta(seconds=31), 5, 9))
    assert mark.floor == Position(late, NIL)


def test_what_a_full_look_finds_below_takes_the_floor_back() -> None:
    mark = Mark()
    late = START.available_at + timedelta(days=1)
    for _ in range(3):
        mark.learn(Backlog(0, None, None), Snapshot(late, 9, 9))
    assert mark.floor > START
    missed = Position(START.available_at + timedelta(hours=1), NIL)
    mark.learn(Backlog(1, missed, None), Snapshot(late, 9, 9))
    assert mark.floor == missed


def test_of_too_many_lanes_the_longest_empty_are_forgotten() -> None:
    lanes = Lanes()
    now = START.available_at + timedelta(days=1)
    head = Position(now, NIL)
    busy = Lane("busy", 2)
    backlogs = {Lane(f"tenant {n}", 2): Backlog(0, None, None) for n in range(MAX_LANES)}
    lanes.learn({busy: Backlog(1, head, None)} | backlogs, Snapshot(now, 9, 9))
    assert len(lanes.marks) == MAX_LANES
    assert busy in lanes.marks
