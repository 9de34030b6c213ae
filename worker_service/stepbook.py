"""Where the steps of all tasks of a process are written down, and looked up before they are run."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from shared.database import Database
from shared.shared_commit import SharedCommit
from worker_service import statements
from worker_service.generators.port import Job
from worker_service.leases import columns

CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


class Key(NamedTuple):
    """What an output is kept under, inside of its task."""

    step: str
    version: int
    input_hash: bytes

    @classmethod
    def of(cls, job: Job[Any]) -> Key:
        digest = hashlib.sha256(CANONICAL.encode(job.inputs).encode())
        return cls(job.step.name, job.step.version, digest.digest())


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What a step leaves behind at one moment, in the order of the statement's arrays."""

    task_id: UUID
    token: int
    step: str
    version: int
    input_hash: bytes
    tries: int = 0
    failures: int = 0
    output: str | None = None
    error: str | None = None
    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0
    seconds: float = 0.0
    events: str = "[]"
    progress: int | None = None
    message: str | None = None
    entry_id: UUID = field(default_factory=uuid4)
    """Written again, because the answer to its COMMIT was lost, it is recognised by it."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What is known of a step from earlier attempts: its output, or how often it failed."""

    failures: int
    output: str | None
    error: dict[str, Any] | None
    cost: float


class StepBook:
    """The steps of all tasks of this process: what comes at the same moment shares a commit."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._recording = SharedCommit(self._record, side_by_side=1)

    async def record(self, entry: Entry, patience: float | None = None) -> bool:
        """Whether the lease was still ours; then it is committed. The same entry may be recorded
        again: it is written once. ``patience``: seconds, as for any statement if None."""
        patience = patience or self.database.settings.database_command_timeout
        return await self._recording.write(entry, asyncio.get_running_loop().time() + patience)

    async def kept(self, task_id: UUID) -> dict[Key, Kept]:
        async with self.database.autocommit() as connection:
            rows = (await connection.execute(statements.KEPT_STEPS, {"task_id": task_id})).all()
        return {
            Key(row.step, row.step_version, row.input_hash): Kept(
                row.failures, row.output, row.error, row.cost
            )
            for row in rows
        }

    async def _record(self, entries: Sequence[Entry]) -> list[bool]:
        async with self.database.autocommit() as connection:
            rows = await connection.exec_driver_sql(statements.RECORD, tuple(columns(entries)))
            written = set(rows.scalars())
        return [place in written for place in range(1, len(entries) + 1)]
