"""What measurements write into the tables by hand, quickly; nothing of it is ever timed."""

from __future__ import annotations

import asyncpg

from shared.lifecycle import Priority

FILL = """
    WITH task AS (
        INSERT INTO tasks (id, tenant_id, priority, request_hash, input, available_at)
        SELECT uuidv7(), $2, $3, '', '{"goal": "Learn SQL"}', now() + make_interval(secs => $4)
        FROM generate_series(1, $1)
        RETURNING id, tenant_id, priority
    )
    INSERT INTO outbox_messages (task_id, tenant_id, priority, available_at)
    SELECT id, tenant_id, priority, clock_timestamp() + make_interval(secs => $4) FROM task
"""

PORTION = 50_000


async def fill(
    connection: asyncpg.Connection,
    count: int,
    *,
    tenant: str = "default",
    priority: Priority = Priority.NORMAL,
    delay: float = 0,
) -> None:
    """Committed tasks with their messages, each message at a time of its own."""
    for done in range(0, count, PORTION):
        portion = min(PORTION, count - done)
        await connection.execute(FILL, portion, tenant, priority, delay, timeout=300)


async def renew(connection: asyncpg.Connection) -> None:
    """A fresh message for each task, as if nothing had been carried over yet."""
    await connection.execute("TRUNCATE outbox_messages")
    await connection.execute(
        "INSERT INTO outbox_messages (task_id, tenant_id, priority)"
        " SELECT id, tenant_id, priority FROM tasks",
        timeout=300,
    )


async def take(connection: asyncpg.Connection) -> int:
    """What workers do to the messages that were carried over: they delete them."""
    status = await connection.execute(
        "DELETE FROM outbox_messages WHERE dispatched_at IS NOT NULL", timeout=300
    )
    return int(status.rpartition(" ")[2])


async def empty(connection: asyncpg.Connection) -> None:
    await connection.execute(
        "TRUNCATE tasks, outbox_messages, roadmaps, task_events, task_steps, dead_letters"
    )


async def settle(connection: asyncpg.Connection) -> None:
    """No measurement pays for what was written before it."""
    await connection.execute("VACUUM (ANALYZE) outbox_messages, tasks", timeout=300)
    await connection.execute("CHECKPOINT", timeout=300)
