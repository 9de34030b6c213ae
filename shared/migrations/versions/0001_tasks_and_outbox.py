"""Tasks, their outbox, their history, their roadmaps; the lifecycle as a trigger."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

revision = "0001"
down_revision = None

NOW = sa.func.now()


def upgrade() -> None:
    _tasks()
    _outbox()
    _roadmaps()
    _events_and_dead_letters()
    _deployment()
    op.execute(REFUSE_TRANSITION)
    op.execute(LIFECYCLE)


def downgrade() -> None:
    op.drop_constraint("tasks_roadmap_id_fk", "tasks")
    for table in (
        "deployment",
        "dead_letters",
        "task_events",
        "roadmaps",
        "outbox_messages",
        "tasks",
    ):
        op.drop_table(table)
    op.execute("DROP FUNCTION refuse_transition()")


def _time(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(
        name,
        TIMESTAMP(timezone=True),
        nullable=nullable,
        server_default=None if nullable else NOW,
    )


def _tenant() -> sa.Column[str]:
    return sa.Column("tenant_id", sa.Text, nullable=False, server_default="default")


def _tasks() -> None:
    op.create_table(
        "tasks",
        sa.Column("id", sa.Uuid, nullable=False),
        _tenant(),
        sa.Column("idempotency_key", sa.Text),
        sa.Column("request_hash", sa.LargeBinary, nullable=False),
        sa.Column("input", JSONB, nullable=False),
        sa.Column("priority", sa.SmallInteger, nullable=False, server_default="2"),
        sa.Column("traceparent", sa.Text),
        sa.Column("status", sa.Text, nullable=False, server_default="queued"),
        sa.Column("stage", sa.Text, nullable=False, server_default="accepted"),
        sa.Column("version", sa.Integer, nullable=False, server_default="1"),
        sa.Column("dispatch_no", sa.Integer, nullable=False, server_default="1"),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("takeovers", sa.Integer, nullable=False, server_default="0"),
        sa.Column("lease_token", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("lease_owner", sa.Text),
        _time("lease_expires_at", nullable=True),
        sa.Column("roadmap_id", sa.Uuid),
        sa.Column("error", JSONB),
        _time("created_at"),
        _time("available_at"),
        _time("dispatched_at", nullable=True),
        _time("started_at", nullable=True),
        _time("finished_at", nullable=True),
        sa.PrimaryKeyConstraint("id", name="tasks_pk"),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'succeeded', 'failed', 'canceled')",
            name=op.f("tasks_status_check"),
        ),
        sa.CheckConstraint("priority BETWEEN 1 AND 3", name=op.f("tasks_priority_check")),
        sa.CheckConstraint("attempts >= 0 AND takeovers >= 0", name=op.f("tasks_budgets_check")),
        sa.CheckConstraint(
            "(status = 'running') = (lease_expires_at IS NOT NULL AND lease_owner IS NOT NULL)",
            name=op.f("tasks_running_is_leased_check"),
        ),
        sa.CheckConstraint(
            "(status = 'succeeded') = (roadmap_id IS NOT NULL)",
            name=op.f("tasks_one_roadmap_check"),
        ),
        sa.CheckConstraint(
            "(status = 'failed') = (error IS NOT NULL)", name=op.f("tasks_error_iff_failed_check")
        ),
        sa.CheckConstraint(
            "(status IN ('succeeded', 'failed', 'canceled')) = (finished_at IS NOT NULL)",
            name=op.f("tasks_finished_iff_terminal_check"),
        ),
        postgresql_with={"fillfactor": "70"},
    )
    op.create_index(
        "tasks_tenant_id_idempotency_key_key",
        "tasks",
        ["tenant_id", "idempotency_key"],
        unique=True,
        postgresql_where=sa.text("idempotency_key IS NOT NULL"),
    )
    op.create_index(
        "tasks_running_idx", "tasks", ["id"], postgresql_where=sa.text("status = 'running'")
    )


def _outbox() -> None:
    op.create_table(
        "outbox_messages",
        sa.Column("task_id", sa.Uuid, nullable=False),
        _tenant(),
        sa.Column("dispatch_no", sa.Integer, nullable=False, server_default="1"),
        sa.Column("priority", sa.SmallInteger, nullable=False, server_default="2"),
        _time("available_at"),
        _time("dispatched_at", nullable=True),
        sa.PrimaryKeyConstraint("task_id", name="outbox_messages_pk"),
        postgresql_with={"fillfactor": "70"},
    )
    op.create_index(
        "outbox_messages_claim_idx", "outbox_messages", ["priority", "available_at", "task_id"]
    )


def _roadmaps() -> None:
    op.create_table(
        "roadmaps",
        sa.Column("task_id", sa.Uuid, nullable=False),
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("lease_token", sa.BigInteger, nullable=False),
        sa.Column("document", JSONB, nullable=False),
        _time("created_at"),
        sa.PrimaryKeyConstraint("task_id", name="roadmaps_pk"),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name="roadmaps_task_id_fk"),
        sa.UniqueConstraint("id", name="roadmaps_id_key"),
    )
    op.create_foreign_key("tasks_roadmap_id_fk", "tasks", "roadmaps", ["roadmap_id"], ["id"])


def _events_and_dead_letters() -> None:
    op.create_table(
        "task_events",
        sa.Column("task_id", sa.Uuid, nullable=False),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("data", JSONB, nullable=False, server_default=sa.text("'{}'::jsonb")),
        _time("created_at"),
        sa.PrimaryKeyConstraint("task_id", "seq", name="task_events_pk"),
    )
    op.create_table(
        "dead_letters",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("task_id", sa.Uuid),
        sa.Column("dispatch_no", sa.Integer),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("detail", JSONB, nullable=False, server_default=sa.text("'{}'::jsonb")),
        _time("created_at"),
        sa.PrimaryKeyConstraint("id", name="dead_letters_pk"),
        sa.UniqueConstraint(
            "task_id", "dispatch_no", "reason", name="dead_letters_task_id_dispatch_no_reason_key"
        ),
        sa.CheckConstraint(
            "source IN ('relay', 'worker', 'sweeper')", name=op.f("dead_letters_source_check")
        ),
    )


def _deployment() -> None:
    op.create_table(
        "deployment",
        sa.Column("singleton", sa.Boolean, nullable=False, server_default=sa.text("true")),
        sa.Column("id", sa.Uuid, nullable=False, server_default=sa.func.gen_random_uuid()),
        sa.Column("redis_incarnation", sa.Text),
        _time("created_at"),
        sa.PrimaryKeyConstraint("singleton", name="deployment_pk"),
        sa.CheckConstraint("singleton", name=op.f("deployment_singleton_check")),
    )
    op.execute("INSERT INTO deployment DEFAULT VALUES")


# The same table as shared/lifecycle.py's ALLOWED. Whatever code runs, and whoever types SQL by
# hand: a task that has ended stays as it ended.
REFUSE_TRANSITION = """
CREATE FUNCTION refuse_transition() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'task % may not go from % to %', OLD.id, OLD.status, NEW.status
        USING ERRCODE = 'check_violation', HINT = 'a task that has ended never changes';
END $$
"""

LIFECYCLE = """
CREATE TRIGGER tasks_lifecycle BEFORE UPDATE ON tasks FOR EACH ROW
WHEN (
    OLD.status IN ('succeeded', 'failed', 'canceled')
    OR (OLD.status = 'queued' AND NEW.status NOT IN ('queued', 'running', 'failed', 'canceled'))
)
EXECUTE FUNCTION refuse_transition()
"""
