"""The outbox in lanes, a brake on the relay, dead letters to decide on, tables kept clean."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

revision = "0002"
down_revision = "0001"

TIMESTAMPTZ = TIMESTAMP(timezone=True)

# The default is to clean a table when a fifth of it is dead. A task's rows die within seconds of
# their birth, so for us the number of dead rows counts, not their part of a history of years.
STORAGE = {
    "outbox_messages": {
        # Each message is updated once, its neighbours with it: room for one more version of all
        # keeps every settle HOT.
        "fillfactor": "50",
        "autovacuum_vacuum_scale_factor": "0.01",
        "autovacuum_vacuum_threshold": "5000",
        # The table is small: a quick pass costs less than scans over what a slow one left.
        "autovacuum_vacuum_cost_delay": "0",
        # Giving empty pages back locks everybody out, and the next backlog needs them again.
        "vacuum_truncate": "false",
    },
    "tasks": {
        "autovacuum_vacuum_scale_factor": "0.02",
        "autovacuum_analyze_scale_factor": "0.02",
    },
    # Only ever appended to, until retention deletes from the old end.
    "task_events": {"autovacuum_vacuum_insert_scale_factor": "0.05"},
}


def upgrade() -> None:
    _lanes()
    _operator()
    op.add_column("tasks", sa.Column("replay_of", sa.Uuid))
    # Deleting a roadmap makes PostgreSQL look for a task that names it.
    op.create_index(
        "tasks_roadmap_id_idx",
        "tasks",
        ["roadmap_id"],
        postgresql_where=sa.text("roadmap_id IS NOT NULL"),
    )
    for table, options in STORAGE.items():
        listed = ", ".join(f"{name} = {value}" for name, value in options.items())
        op.execute(f"ALTER TABLE {table} SET ({listed})")


def downgrade() -> None:
    for table, options in STORAGE.items():
        op.execute(f"ALTER TABLE {table} RESET ({', '.join(options)})")
    op.execute("ALTER TABLE outbox_messages SET (fillfactor = 70)")
    op.drop_index("tasks_roadmap_id_idx", "tasks")
    op.drop_column("tasks", "replay_of")
    for column in ("rearmings", "paused_at", "paused_by", "paused_reason"):
        op.drop_column("deployment", column)
    op.drop_constraint("dead_letters_resolution_check", "dead_letters")
    for column in ("resolution", "resolved_at", "act_id", "replayed_as"):
        op.drop_column("dead_letters", column)
    op.drop_table("operator_acts")
    op.alter_column("outbox_messages", "available_at", server_default=sa.func.now())
    op.create_index(
        "outbox_messages_claim_idx", "outbox_messages", ["priority", "available_at", "task_id"]
    )
    op.drop_index("outbox_messages_lane_idx", "outbox_messages")


def _lanes() -> None:
    op.create_index(
        "outbox_messages_lane_idx",
        "outbox_messages",
        ["tenant_id", "priority", "available_at", "task_id"],
    )
    op.drop_index("outbox_messages_claim_idx", "outbox_messages")
    op.alter_column("outbox_messages", "available_at", server_default=sa.func.clock_timestamp())


def _operator() -> None:
    op.create_table(
        "operator_acts",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("act", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("detail", JSONB, nullable=False, server_default=sa.text("'{}'::jsonb")),
        sa.Column("created_at", TIMESTAMPTZ, nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("id", name="operator_acts_pk"),
        sa.CheckConstraint(
            "act IN ('replay', 'discard', 'pause', 'resume')", name=op.f("operator_acts_act_check")
        ),
    )
    op.add_column("dead_letters", sa.Column("resolution", sa.Text))
    op.add_column("dead_letters", sa.Column("resolved_at", TIMESTAMPTZ))
    op.add_column("dead_letters", sa.Column("act_id", sa.BigInteger))
    op.add_column("dead_letters", sa.Column("replayed_as", sa.Uuid))
    op.create_check_constraint(
        op.f("dead_letters_resolution_check"),
        "dead_letters",
        "(resolution IS NULL) = (resolved_at IS NULL) AND resolution IN ('replayed', 'discarded')",
    )
    op.add_column(
        "deployment", sa.Column("rearmings", sa.BigInteger, nullable=False, server_default="0")
    )
    op.add_column("deployment", sa.Column("paused_at", TIMESTAMPTZ))
    op.add_column("deployment", sa.Column("paused_by", sa.Text))
    op.add_column("deployment", sa.Column("paused_reason", sa.Text))
