"""Steps whose outputs are kept, tasks that can be canceled, have a deadline and show progress."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

revision = "0003"
down_revision = "0002"

TIMESTAMPTZ = TIMESTAMP(timezone=True)

TASK_COLUMNS = ("cancel_requested_at", "deadline_at", "progress", "progress_message")


def upgrade() -> None:
    _tasks()
    _steps()
    op.execute(REFUSE_OTHER_OUTPUT)
    op.execute(KEPT)
    op.execute(OTHER_ENTRY)


def downgrade() -> None:
    op.drop_table("task_steps")
    op.execute("DROP FUNCTION refuse_other_output()")
    op.execute("DROP FUNCTION other_entry(uuid, uuid)")
    op.drop_index("tasks_deadline_at_idx", "tasks")
    op.drop_constraint("tasks_canceling_check", "tasks")
    op.drop_constraint("tasks_progress_check", "tasks")
    for column in TASK_COLUMNS:
        op.drop_column("tasks", column)


def _tasks() -> None:
    op.add_column("tasks", sa.Column("cancel_requested_at", TIMESTAMPTZ))
    op.add_column("tasks", sa.Column("deadline_at", TIMESTAMPTZ))
    op.add_column(
        "tasks", sa.Column("progress", sa.SmallInteger, nullable=False, server_default="0")
    )
    op.add_column("tasks", sa.Column("progress_message", sa.Text))
    op.create_check_constraint(
        op.f("tasks_canceling_check"),
        "tasks",
        "cancel_requested_at IS NULL OR status IN ('running', 'canceled')",
    )
    op.create_check_constraint(op.f("tasks_progress_check"), "tasks", "progress BETWEEN 0 AND 100")
    op.create_index(
        "tasks_deadline_at_idx",
        "tasks",
        ["deadline_at"],
        postgresql_where=sa.text("deadline_at IS NOT NULL AND finished_at IS NULL"),
    )


def _steps() -> None:
    op.create_table(
        "task_steps",
        sa.Column("task_id", sa.Uuid, nullable=False),
        sa.Column("step", sa.Text, nullable=False),
        sa.Column("step_version", sa.SmallInteger, nullable=False),
        sa.Column("input_hash", sa.LargeBinary, nullable=False),
        sa.Column("lease_token", sa.BigInteger, nullable=False),
        sa.Column("entry_id", sa.Uuid, nullable=False),
        sa.Column("tries", sa.SmallInteger, nullable=False),
        sa.Column("failures", sa.SmallInteger, nullable=False),
        sa.Column("output", JSONB),
        sa.Column("error", JSONB),
        sa.Column("calls", sa.Integer, nullable=False),
        sa.Column("tokens_in", sa.BigInteger, nullable=False),
        sa.Column("tokens_out", sa.BigInteger, nullable=False),
        sa.Column("cost", sa.Numeric(14, 8), nullable=False),
        sa.Column("seconds", sa.Double, nullable=False),
        sa.Column("begun_at", TIMESTAMPTZ, nullable=False, server_default=sa.func.now()),
        sa.Column("finished_at", TIMESTAMPTZ),
        sa.PrimaryKeyConstraint(
            "task_id", "step", "step_version", "input_hash", name="task_steps_pk"
        ),
        sa.CheckConstraint(
            "(output IS NULL) = (finished_at IS NULL)",
            name=op.f("task_steps_finished_iff_output_check"),
        ),
        postgresql_with={
            "autovacuum_vacuum_scale_factor": "0.02",
            "autovacuum_vacuum_insert_scale_factor": "0.05",
        },
    )


# What was paid for is kept as it is: no later attempt, and no zombie, may put another in its place.
REFUSE_OTHER_OUTPUT = """
CREATE FUNCTION refuse_other_output() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'step % of task % has its output', OLD.step, OLD.task_id
        USING ERRCODE = 'check_violation', HINT = 'the output of a step never changes';
END $$
"""

KEPT = """
CREATE TRIGGER task_steps_kept BEFORE UPDATE ON task_steps FOR EACH ROW
WHEN (OLD.output IS NOT NULL) EXECUTE FUNCTION refuse_other_output()
"""

# An entry that is written again while its first COMMIT is under way is seen by the update alone,
# not by the statement around it: that has to begin anew, and then finds the entry written.
OTHER_ENTRY = """
CREATE FUNCTION other_entry(written uuid, entry uuid) RETURNS uuid LANGUAGE plpgsql AS $$
BEGIN
    IF written = entry THEN
        RAISE EXCEPTION 'entry % is written', entry USING ERRCODE = 'serialization_failure';
    END IF;
    RETURN entry;
END $$
"""
