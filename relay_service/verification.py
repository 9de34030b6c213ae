"""Is there a task behind this message that still wants to run? Pure: facts in, verdict out."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from uuid import UUID

from relay_service.envelope import Unpublishable, encode
from relay_service.outbox import Claimed, TaskFact
from shared.backoff import linear
from shared.errors import WaymarkError
from shared.lifecycle import TaskStatus
from shared.messages import Doorbell


@dataclass(frozen=True, slots=True)
class Deliver:
    """The task is committed and waits: ring for it, with these bytes."""

    message: Claimed
    message_id: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Drop:
    """Nothing is left to ring for."""

    message: Claimed
    reason: str


@dataclass(frozen=True, slots=True)
class Bury:
    """This should be impossible: keep it for a person."""

    message: Claimed
    reason: str


@dataclass(frozen=True, slots=True)
class LookAgain:
    """No task yet: it may be a matter of milliseconds."""

    message: Claimed


Verdict = Deliver | Drop | Bury | LookAgain


class OtherDeployment(WaymarkError):
    """The verifying session reached another database: nothing here may be settled."""


def verify(
    message: Claimed, task: TaskFact | None, *, deployment_id: UUID, last_look: bool
) -> Verdict:
    """Judge one message by what a fresh session saw of its task (None: not found)."""
    if task is None:
        return Bury(message, "task_missing") if last_look else LookAgain(message)
    if task.deployment_id != deployment_id:
        raise OtherDeployment(
            f"the database is deployment {task.deployment_id} now, this relay was started on "
            f"{deployment_id}"
        )
    if task.status == TaskStatus.CANCELED:
        return Drop(message, "canceled")
    if TaskStatus(task.status).terminal:
        return Drop(message, "ended")
    if task.status == TaskStatus.RUNNING:
        return Drop(message, "taken")
    if message.dispatch_no < task.dispatch_no:
        return Drop(message, "superseded")
    doorbell = Doorbell(message.task_id, message.dispatch_no, deployment_id, task.traceparent)
    try:
        return Deliver(message, doorbell.message_id, encode(doorbell))
    except Unpublishable:
        return Bury(message, "unpublishable")


@dataclass(slots=True)
class Judged:
    """The verdicts of a batch, by kind."""

    deliver: list[Deliver] = field(default_factory=list)
    drop: list[Drop] = field(default_factory=list)
    bury: list[Bury] = field(default_factory=list)
    look_again: list[LookAgain] = field(default_factory=list)

    @classmethod
    def of(cls, verdicts: Iterable[Verdict]) -> Judged:
        judged = cls()
        for verdict in verdicts:
            match verdict:
                case Deliver():
                    judged.deliver.append(verdict)
                case Drop():
                    judged.drop.append(verdict)
                case Bury():
                    judged.bury.append(verdict)
                case LookAgain():
                    judged.look_again.append(verdict)
        return judged


class Doubts:
    """Messages whose task was not found: how often looked, and when to look again.

    They are left unclaimed in between, so that nobody waits for them with a lock in hand.
    """

    def __init__(self, tries: int, step: float) -> None:
        self.tries = tries
        self.step = step
        self._doubts: dict[UUID, tuple[int, float]] = {}  # looks so far, when to look again

    def resting(self) -> list[UUID]:
        """Messages that it is too early to look at; those another relay settled are let go."""
        now = time.monotonic()
        self._doubts = {one: doubt for one, doubt in self._doubts.items() if doubt[1] > now - 60}
        return [task_id for task_id, (_, again_at) in self._doubts.items() if again_at > now]

    def is_last_look(self, task_id: UUID) -> bool:
        return self._doubts.get(task_id, (0, 0))[0] + 1 >= self.tries

    def looked(self, again: Collection[UUID], settled: Collection[UUID]) -> None:
        for task_id in again:
            looks = self._doubts.get(task_id, (0, 0))[0] + 1
            self._doubts[task_id] = (looks, time.monotonic() + linear(looks, self.step))
        for task_id in settled:
            self._doubts.pop(task_id, None)

    def patience(self) -> float:
        """Seconds until the next look; infinite without doubts."""
        now = time.monotonic()
        return min((at - now for _, at in self._doubts.values() if at > now), default=math.inf)
