"""Tasks with metadata that can be retried and erased, processes that say that they are alive,
and an intake that can be paused."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

revision = "0004"
down_revision = "0003"

TIMESTAMPTZ = TIMESTAMP(timezone=True)

INTAKE_COLUMNS = ("intake_paused_at", "intake_paused_by", "intake_paused_reason")

ACTS = ("replay", "discard", "pause", "resume")
FURTHER_ACTS = ("pause_intake", "resume_intake", "drain", "undrain")


def upgrade() -> None:
    _tasks()
    _processes()
    op.add_column("deployment", sa.Column("intake_paused_at", TIMESTAMPTZ))
    op.add_column("deployment", sa.Column("intake_paused_by", sa.Text))
    op.add_column("deployment", sa.Column("intake_paused_reason", sa.Text))
    _allow_acts(*ACTS, *FURTHER_ACTS)
    op.execute("DROP TRIGGER tasks_lifecycle ON tasks")
    op.execute(LIFECYCLE_WITH_ERASURE)


def downgrade() -> None:
    op.execute("DROP TRIGGER tasks_lifecycle ON tasks")
    op.execute(LIFECYCLE)
    op.execute(f"DELETE FROM operator_acts WHERE act IN {FURTHER_ACTS}")  # noqa: S608 - ours
    _allow_acts(*ACTS)
    for column in INTAKE_COLUMNS:
        op.drop_column("deployment", column)
    op.drop_table("processes")
    op.drop_index("tasks_metadata_idx", "tasks")
    op.drop_index("tasks_unsuccessful_idx", "tasks")
    for column in ("metadata", "not_before", "deleted_at"):
        op.drop_column("tasks", column)
    op.alter_column("tasks", "parent_id", new_column_name="replay_of")


def _tasks() -> None:
    op.alter_column("tasks", "replay_of", new_column_name="parent_id")
    op.add_column("tasks", sa.Column("metadata", JSONB, nullable=False, server_default="{}"))
    op.add_column("tasks", sa.Column("not_before", TIMESTAMPTZ))
    op.add_column("tasks", sa.Column("deleted_at", TIMESTAMPTZ))
    op.create_index(
        "tasks_unsuccessful_idx",
        "tasks",
        ["tenant_id", "status", "id"],
        postgresql_where=sa.text("status IN ('failed', 'canceled')"),
    )
    op.create_index(
        "tasks_metadata_idx",
        "tasks",
        ["metadata"],
        postgresql_using="gin",
        postgresql_ops={"metadata": "jsonb_path_ops"},
        postgresql_where=sa.text("metadata <> '{}'::jsonb"),
    )


def _processes() -> None:
    op.create_table(
        "processes",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("started_at", TIMESTAMPTZ, nullable=False, server_default=sa.func.now()),
        sa.Column("seen_at", TIMESTAMPTZ, nullable=False, server_default=sa.func.now()),
        sa.Column("gone_after", sa.Interval, nullable=False),
        sa.Column("report", JSONB, nullable=False, server_default="{}"),
        sa.Column("drain_requested_at", TIMESTAMPTZ),
        sa.PrimaryKeyConstraint("id", name="processes_pk"),
        sa.CheckConstraint("role IN ('relay', 'worker')", name=op.f("processes_role_check")),
    )


def _allow_acts(*acts: str) -> None:
    op.drop_constraint("operator_acts_act_check", "operator_acts")
    op.create_check_constraint(op.f("operator_acts_act_check"), "operator_acts", f"act IN {acts}")


LIFECYCLE = """
CREATE TRIGGER tasks_lifecycle BEFORE UPDATE ON tasks FOR EACH ROW
WHEN (
    OLD.status IN ('succeeded', 'failed', 'canceled')
    OR (OLD.status = 'queued' AND NEW.status NOT IN ('queued', 'running', 'failed', 'canceled'))
)
EXECUTE FUNCTION refuse_transition()
"""

# Once, what a learner wrote may be erased from a task that has ended. How it ended stays.
LIFECYCLE_WITH_ERASURE = """
CREATE TRIGGER tasks_lifecycle BEFORE UPDATE ON tasks FOR EACH ROW
WHEN (
    (
        OLD.status IN ('succeeded', 'failed', 'canceled')
        AND NOT (
            OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL
            AND NEW.status = OLD.status AND NEW.version = OLD.version
            AND NEW.finished_at = OLD.finished_at
            AND NEW.roadmap_id IS NOT DISTINCT FROM OLD.roadmap_id
        )
    )
    OR (OLD.status = 'queued' AND NEW.status NOT IN ('queued', 'running', 'failed', 'canceled'))
)
EXECUTE FUNCTION refuse_transition()
"""
