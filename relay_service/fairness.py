"""Who goes first when more is due than Redis should hold. Pure, but for the turns it remembers."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime

from relay_service.lanes import Backlog, Lane

AGED_TURN = 4
"""Every so manieth message comes from the lanes that have waited too long, if there are any."""


class Shares:
    """High before normal before low; one turn in four for what has aged, so nothing starves.

    Tenants of one priority share by weight: stride scheduling (Waldspurger and Weihl, 1995). Each
    message advances its tenant by 1/weight; the tenant that is furthest behind goes next. One
    that comes back after a rest starts with the others: rest is not saved up.
    """

    def __init__(self, weights: Mapping[str, int], ageing: float) -> None:
        self.weights = weights
        self.ageing = ageing
        self._passes: dict[str, float] = {}
        self._reached = 0.0
        self._turns = 0

    def allot(
        self,
        backlogs: Mapping[Lane, Backlog],
        now: datetime,
        room: int,
        spare: Mapping[str, int] | None = None,
    ) -> dict[Lane, int]:
        """How many to take from each lane: ``room`` in all, or everything if that is less.

        ``spare`` is what tenants may still run, without a limit for those that are not named.
        """
        table = _Table(backlogs, spare or {})
        ages = {lane: backlog.age(now) for lane, backlog in backlogs.items()}
        aged = [lane for lane, age in ages.items() if age >= self.ageing]
        if aged and table.waits > room:
            turns, self._turns = self._turns, self._turns + room
            due = self._turns // AGED_TURN - turns // AGED_TURN
            room -= self._deal(table, sorted(aged, key=lambda lane: -ages[lane]), due)
        for priority in sorted({lane.priority for lane in backlogs}):
            lanes = [lane for lane in backlogs if lane.priority == priority]
            room -= self._deal(table, lanes, room)
        return table.taken

    def _deal(self, table: _Table, lanes: Iterable[Lane], room: int) -> int:
        """Deal up to ``room`` messages out, one by one; how many it were."""
        hands: defaultdict[str, list[Lane]] = defaultdict(list)
        for lane in lanes:
            if table.left(lane):
                hands[lane.tenant_id].append(lane)
        dealt = 0
        if len(hands) == 1:  # nobody to share with
            for lane in next(iter(hands.values())):
                dealt += table.take(lane, room - dealt)
            return dealt
        self._start_together(hands)
        turns = [(self._passes[tenant], tenant) for tenant in hands]
        heapq.heapify(turns)
        while turns and dealt < room:
            self._reached, tenant = turns[0]
            lane = hands[tenant][0]
            dealt += table.take(lane, 1)
            self._passes[tenant] = self._reached + 1 / self.weights.get(tenant, 1)
            while hands[tenant] and not table.left(hands[tenant][0]):
                hands[tenant].pop(0)
            if hands[tenant]:
                heapq.heapreplace(turns, (self._passes[tenant], tenant))
            else:
                heapq.heappop(turns)
        return dealt

    def _start_together(self, tenants: Iterable[str]) -> None:
        self._passes = {
            tenant: reached for tenant, reached in self._passes.items() if reached > self._reached
        }
        for tenant in tenants:
            self._passes.setdefault(tenant, self._reached)


class _Table:
    """What is left in the lanes and what was taken, within the tenants' limits."""

    def __init__(self, backlogs: Mapping[Lane, Backlog], spare: Mapping[str, int]) -> None:
        self.backlogs = backlogs
        self.spare = dict(spare)
        self.taken: dict[Lane, int] = {}
        self.waits = sum(backlog.waiting for backlog in backlogs.values())

    def left(self, lane: Lane) -> int:
        left = self.backlogs[lane].waiting - self.taken.get(lane, 0)
        return max(0, min(left, self.spare.get(lane.tenant_id, left)))

    def take(self, lane: Lane, room: int) -> int:
        taken = min(self.left(lane), room)
        if taken:
            self.taken[lane] = self.taken.get(lane, 0) + taken
            if lane.tenant_id in self.spare:
                self.spare[lane.tenant_id] -= taken
        return taken
