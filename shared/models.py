"""The tables. Each constraint and index names the rule or the query that it serves."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    MetaData,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import BigInteger, Double, LargeBinary, Numeric, SmallInteger, Text


class Base(DeclarativeBase):
    """Constraint names follow one convention, so that migrations are the same everywhere."""

    metadata = MetaData(
        naming_convention={
            "pk": "%(table_name)s_pk",
            "fk": "%(table_name)s_%(column_0_name)s_fk",
            "uq": "%(table_name)s_%(column_0_N_name)s_key",
            "ix": "%(table_name)s_%(column_0_N_name)s_idx",
            "ck": "%(table_name)s_%(constraint_name)s_check",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own protocol
        str: Text,
        datetime: TIMESTAMP(timezone=True),
        dict[str, Any]: JSONB,
        bytes: LargeBinary,
    }


class Task(Base):
    """A learner's request and its outcome. The row is its own timeline."""

    __tablename__ = "tasks"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(server_default="default")
    idempotency_key: Mapped[str | None]
    request_hash: Mapped[bytes]
    input: Mapped[dict[str, Any]]
    priority: Mapped[int] = mapped_column(SmallInteger, server_default="2")
    traceparent: Mapped[str | None]

    status: Mapped[str] = mapped_column(server_default="queued")
    stage: Mapped[str] = mapped_column(server_default="accepted")
    version: Mapped[int] = mapped_column(server_default="1")
    dispatch_no: Mapped[int] = mapped_column(server_default="1")
    attempts: Mapped[int] = mapped_column(server_default="0")
    takeovers: Mapped[int] = mapped_column(server_default="0")

    lease_token: Mapped[int] = mapped_column(BigInteger, server_default="0")
    lease_owner: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None]

    roadmap_id: Mapped[UUID | None] = mapped_column(
        # Both rows are written by one statement; the key is looked at when it ends.
        ForeignKey("roadmaps.id", use_alter=True)
    )
    error: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))

    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    available_at: Mapped[datetime] = mapped_column(server_default=func.now())
    dispatched_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    parent_id: Mapped[UUID | None]
    """The ended task that a retry, or an operator's replay, runs again as this one."""

    cancel_requested_at: Mapped[datetime | None]
    deadline_at: Mapped[datetime | None]
    progress: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    """Percent; never less than it was."""
    progress_message: Mapped[str | None]

    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata", server_default=text("'{}'"))
    """The client's own; SQLAlchemy keeps the plain name for itself."""
    not_before: Mapped[datetime | None]
    """As the client said it; ``available_at`` moves on with each retry."""
    deleted_at: Mapped[datetime | None]
    """When input and result were erased. The row stays, so that the id is known as deleted."""

    __table_args__ = (
        CheckConstraint(
            "status IN ('queued', 'running', 'succeeded', 'failed', 'canceled')", name="status"
        ),
        CheckConstraint("priority BETWEEN 1 AND 3", name="priority"),
        CheckConstraint("attempts >= 0 AND takeovers >= 0", name="budgets"),
        # A lease and the running state are one fact.
        CheckConstraint(
            "(status = 'running') = (lease_expires_at IS NOT NULL AND lease_owner IS NOT NULL)",
            name="running_is_leased",
        ),
        # One outcome: a roadmap iff succeeded, an error iff failed, an end iff terminal.
        CheckConstraint("(status = 'succeeded') = (roadmap_id IS NOT NULL)", name="one_roadmap"),
        CheckConstraint("(status = 'failed') = (error IS NOT NULL)", name="error_iff_failed"),
        CheckConstraint(
            "(status IN ('succeeded', 'failed', 'canceled')) = (finished_at IS NOT NULL)",
            name="finished_iff_terminal",
        ),
        # Who was told that a task is being canceled will not see it queued again, nor succeed.
        CheckConstraint(
            "cancel_requested_at IS NULL OR status IN ('running', 'canceled')", name="canceling"
        ),
        CheckConstraint("progress BETWEEN 0 AND 100", name="progress"),
        # A client's retry finds its first task, and waits for it while that one commits.
        Index(
            "tasks_tenant_id_idempotency_key_key",
            "tenant_id",
            "idempotency_key",
            unique=True,
            postgresql_where=text("idempotency_key IS NOT NULL"),
        ),
        # The sweeper's search for expired leases. Not on lease_expires_at: each heartbeat
        # would then write a new index entry instead of staying HOT.
        Index("tasks_running_idx", "id", postgresql_where=text("status = 'running'")),
        # The sweeper's search for tasks past their deadline; most tasks have none.
        Index(
            "tasks_deadline_at_idx",
            "deadline_at",
            postgresql_where=text("deadline_at IS NOT NULL AND finished_at IS NULL"),
        ),
        # The list of what went wrong: few among many, and dear to find by reading along the ids.
        Index(
            "tasks_unsuccessful_idx",
            "tenant_id",
            "status",
            "id",
            postgresql_where=text("status IN ('failed', 'canceled')"),
        ),
        # The list by metadata. Tasks without any cost nothing.
        Index(
            "tasks_metadata_idx",
            "metadata",
            postgresql_using="gin",
            postgresql_ops={"metadata": "jsonb_path_ops"},
            postgresql_where=text("metadata <> '{}'::jsonb"),
        ),
        # Retention: deleting a roadmap makes PostgreSQL look for a task that names it.
        Index(
            "tasks_roadmap_id_idx", "roadmap_id", postgresql_where=text("roadmap_id IS NOT NULL")
        ),
        {
            "postgresql_with": {
                # A run updates its row several times; room on the page keeps the updates HOT.
                "fillfactor": "70",
                # The reasons for these are in migration 0002, here and below.
                "autovacuum_vacuum_scale_factor": "0.02",
                "autovacuum_analyze_scale_factor": "0.02",
            }
        },
    )


class OutboxMessage(Base):
    """The durable intent to run a task; it lives until a worker has taken the task.

    At most one per task, so the task's id is the key. There is no foreign key to ``tasks``:
    one transaction inserts both, which is all that a key could prove, and its check would
    lock and rewrite each new task row on the hottest path. The relay verifies each task anyway.
    """

    __tablename__ = "outbox_messages"

    task_id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(server_default="default")
    dispatch_no: Mapped[int] = mapped_column(server_default="1")
    priority: Mapped[int] = mapped_column(SmallInteger, server_default="2")
    # Not now(), which is the transaction's start: the relay's low-water mark needs a time that
    # was read after the transaction got its id (docs/decisions/0007).
    available_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    dispatched_at: Mapped[datetime | None]

    __table_args__ = (
        # The claim: the due messages of one lane (tenant and priority) by age. dispatched_at is
        # in no index, so that settling a message is a HOT update.
        Index("outbox_messages_lane_idx", "tenant_id", "priority", "available_at", "task_id"),
        {
            "postgresql_with": {
                "fillfactor": "50",
                "autovacuum_vacuum_scale_factor": "0.01",
                "autovacuum_vacuum_threshold": "5000",
                "autovacuum_vacuum_cost_delay": "0",
                "vacuum_truncate": "false",
            }
        },
    )


class RoadmapRow(Base):
    """The result of a task. Its primary key is the task: there can be only one."""

    __tablename__ = "roadmaps"

    task_id: Mapped[UUID] = mapped_column(ForeignKey("tasks.id"), primary_key=True)
    id: Mapped[UUID]
    tenant_id: Mapped[str]
    lease_token: Mapped[int] = mapped_column(BigInteger)
    document: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (UniqueConstraint("id"),)


class TaskEvent(Base):
    """One row of a task's history. ``seq`` is the task's version at that moment: gapless."""

    __tablename__ = "task_events"

    task_id: Mapped[UUID] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    type: Mapped[str]
    data: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = ({"postgresql_with": {"autovacuum_vacuum_insert_scale_factor": "0.05"}},)


class TaskStep(Base):
    """One step of a generation, under all that its output depends on; what it took, and gave.

    A row without output was begun: by a worker that is at it, that failed, or that vanished.
    """

    __tablename__ = "task_steps"

    # The key is the promise that nothing is paid twice: a step is looked up by it before it is run.
    task_id: Mapped[UUID] = mapped_column(primary_key=True)
    step: Mapped[str] = mapped_column(primary_key=True)
    step_version: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    input_hash: Mapped[bytes] = mapped_column(primary_key=True)

    lease_token: Mapped[int] = mapped_column(BigInteger)
    """The lease under which the step was begun or finished last."""
    entry_id: Mapped[UUID]
    """Of what was written last: written again after a lost COMMIT, it is recognised."""
    tries: Mapped[int] = mapped_column(SmallInteger)
    failures: Mapped[int] = mapped_column(SmallInteger)
    output: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    error: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))

    calls: Mapped[int]
    tokens_in: Mapped[int] = mapped_column(BigInteger)
    tokens_out: Mapped[int] = mapped_column(BigInteger)
    cost: Mapped[Decimal] = mapped_column(Numeric(14, 8))
    """USD."""
    seconds: Mapped[float] = mapped_column(Double)

    begun_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint("(output IS NULL) = (finished_at IS NULL)", name="finished_iff_output"),
        {
            "postgresql_with": {
                "autovacuum_vacuum_scale_factor": "0.02",
                "autovacuum_vacuum_insert_scale_factor": "0.05",
            }
        },
    )


class DeadLetter(Base):
    """A buried message or a task failed for good, kept with its reason until a person decides."""

    __tablename__ = "dead_letters"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    task_id: Mapped[UUID | None]
    dispatch_no: Mapped[int | None]
    source: Mapped[str]
    reason: Mapped[str]
    detail: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    # What a person decided: by which act, and which task it became.
    resolution: Mapped[str | None]
    resolved_at: Mapped[datetime | None]
    act_id: Mapped[int | None] = mapped_column(BigInteger)
    replayed_as: Mapped[UUID | None]

    __table_args__ = (
        CheckConstraint(
            "(resolution IS NULL) = (resolved_at IS NULL)"
            " AND resolution IN ('replayed', 'discarded')",
            name="resolution",
        ),
        CheckConstraint("source IN ('relay', 'worker', 'sweeper')", name="source"),
        # The same message, redelivered, is the same dead letter.
        UniqueConstraint("task_id", "dispatch_no", "reason"),
    )


class OperatorAct(Base):
    """What a person did by hand, and why: it has to outlive logs."""

    __tablename__ = "operator_acts"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    actor: Mapped[str]
    act: Mapped[str]
    reason: Mapped[str]
    detail: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (
        CheckConstraint(
            "act IN ('replay', 'discard', 'pause', 'resume', 'pause_intake', 'resume_intake',"
            " 'drain', 'undrain')",
            name="act",
        ),
    )


class Process(Base):
    """A relay or a worker that runs, as it says itself every few seconds.

    For people only: no rule rests on it. Leases and row locks say who may do what.
    """

    __tablename__ = "processes"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    role: Mapped[str]
    name: Mapped[str]
    """Host and pid: a worker's leases carry the same as their owner."""
    version: Mapped[str]
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    seen_at: Mapped[datetime] = mapped_column(server_default=func.now())
    gone_after: Mapped[timedelta]
    """Unheard for longer, it counts as gone."""
    report: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    drain_requested_at: Mapped[datetime | None]
    """An operator wants this worker to take nothing more."""

    __table_args__ = (CheckConstraint("role IN ('relay', 'worker')", name="role"),)


class Deployment(Base):
    """Which database this is, which memory of Redis it last trusted, and whether an operator
    holds the relays back, or refuses new tasks. One row, by key."""

    __tablename__ = "deployment"

    singleton: Mapped[bool] = mapped_column(primary_key=True, server_default=text("true"))
    id: Mapped[UUID] = mapped_column(server_default=func.gen_random_uuid())
    redis_incarnation: Mapped[str | None]
    # Grows when doorbells are to be rung again: each relay's low-water marks start anew.
    rearmings: Mapped[int] = mapped_column(BigInteger, server_default="0")
    paused_at: Mapped[datetime | None]
    paused_by: Mapped[str | None]
    paused_reason: Mapped[str | None]
    intake_paused_at: Mapped[datetime | None]
    intake_paused_by: Mapped[str | None]
    intake_paused_reason: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (CheckConstraint("singleton", name="singleton"),)
