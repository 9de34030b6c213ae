"""A task that is to be written down, and what that led to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from api_service.schemas import TaskSubmission
from shared.lifecycle import Priority, Stage, TaskStatus

CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


def fingerprint(method: str, path: str, document: object) -> bytes:
    """What a key stands for: the same request again has the same, however its JSON is written."""
    return hashlib.sha256(f"{method} {path}\n{CANONICAL.encode(document)}".encode()).digest()


@dataclass(frozen=True, slots=True)
class NewTask:
    """All that the insert needs, in the order of its columns.

    The id is chosen here, so that a repeated insert is the same.
    """

    id: UUID
    tenant_id: str
    idempotency_key: str | None
    request_hash: bytes
    input: str
    priority: Priority
    traceparent: str | None
    deadline_seconds: int | None
    not_before: datetime | None
    metadata: str
    parent_id: UUID | None

    @classmethod
    def of(
        cls,
        body: TaskSubmission,
        *,
        tenant_id: str,
        key: str | None,
        traceparent: str | None,
        request_hash: bytes | None = None,
        parent_id: UUID | None = None,
    ) -> NewTask:
        """``request_hash``: of the request that led to it, unless the body is all of it."""
        if request_hash is None:
            document = body.model_dump(mode="json", exclude_defaults=True)
            request_hash = fingerprint("POST", "/v1/tasks", document)
        return cls(
            id=uuid7(),
            tenant_id=tenant_id,
            idempotency_key=key,
            request_hash=request_hash,
            input=body.input.model_dump_json(),
            priority=body.rank,
            traceparent=traceparent,
            deadline_seconds=body.deadline_seconds,
            not_before=body.not_before,
            metadata=CANONICAL.encode(body.metadata) if body.metadata else "{}",
            parent_id=parent_id,
        )


@dataclass(frozen=True, slots=True)
class Submission:
    """What a submission led to: a new task, or the one that an earlier submission had made."""

    task: Mapping[str, Any]
    """Its row. Of a new task it is known without reading: what was sent, and the defaults."""
    replayed: bool = False
    """Not when our own first try, thought lost, had made it."""

    @classmethod
    def made(cls, new: NewTask, at: datetime) -> Submission:
        due_at = max(at, new.not_before or at)
        seconds = new.deadline_seconds
        return cls(
            DEFAULTS
            | {
                "id": new.id,
                "request_hash": new.request_hash,
                "priority": new.priority,
                "input": json.loads(new.input),
                "metadata": json.loads(new.metadata),
                "parent_id": new.parent_id,
                "created_at": at,
                "available_at": due_at,
                "due_at": due_at,
                "not_before": new.not_before,
                "delayed": due_at > at,
                "deadline_at": None if seconds is None else at + timedelta(seconds=seconds),
            }
        )


DEFAULTS = {
    "status": TaskStatus.QUEUED,
    "stage": Stage.ACCEPTED,
    "version": 1,
    "attempts": 0,
    "takeovers": 0,
    "roadmap_id": None,
    "error": None,
    "dispatch_no": 1,
    "message_no": 1,
    "rung_at": None,
    "position": None,
    "progress": 0,
    "progress_message": None,
    "usage": None,
    "cancel_requested_at": None,
    "dispatched_at": None,
    "started_at": None,
    "finished_at": None,
    "deleted_at": None,
}
