"""The message between relay and worker: a doorbell. It carries ids only; the truth is the row."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

QUEUE = "roadmaps"
ACTOR = "generate_roadmap"
NAMESPACE = "waymark"
"""Prefix of every key in Redis."""

DEPLOYMENT_KEY = f"{NAMESPACE}:deployment"
"""Which database the workers behind this Redis serve; another one refuses to start."""

INCARNATION_KEY = f"{NAMESPACE}:incarnation"
"""Gone or changed when Redis lost its memory: then all doorbells are rung again."""

SLOTS_KEY = f"{NAMESPACE}:slots"
"""Sorted set of live workers, ``"<slots> <owner>"`` each, by the Redis time (ms) at which they
count as gone. The relay fills Redis only as far as these can use."""

OUTBOX_CHANNEL = "waymark_outbox"
"""PostgreSQL channel on which the API tells the relay that something was committed."""


@dataclass(frozen=True, slots=True)
class Doorbell:
    """The arguments of the actor. The same task and dispatch number are the same message."""

    task_id: UUID
    dispatch_no: int
    deployment_id: UUID
    traceparent: str | None = None

    @property
    def message_id(self) -> str:
        """Derived, so that publishing again what Redis still holds is recognised."""
        return f"{self.task_id}:{self.dispatch_no}"

    def as_kwargs(self) -> dict[str, Any]:
        return asdict(self) | {
            "task_id": str(self.task_id),
            "deployment_id": str(self.deployment_id),
        }

    @classmethod
    def from_kwargs(cls, kwargs: dict[str, Any]) -> Doorbell:
        """Raises ValueError on anything but exactly what ``as_kwargs`` makes."""
        match kwargs:
            case {
                "task_id": str(task_id),
                "dispatch_no": int(dispatch_no),
                "deployment_id": str(deployment_id),
                "traceparent": str() | None as traceparent,
                **rest,
            } if not rest and not isinstance(dispatch_no, bool):
                doorbell = cls(UUID(task_id), dispatch_no, UUID(deployment_id), traceparent)
                if doorbell.as_kwargs() == kwargs:  # UUID() also reads braces and urn:uuid:
                    return doorbell
        raise ValueError(f"not a doorbell: {sorted(kwargs)}")
