"""All SQL of the worker. Each statement is a transaction of its own, and its own guard.

Arrays go in: what many tasks want at the same moment is written by one statement. Each row stands
for itself; a task whose lease is another's, or which has ended, is left out of the answer.
"""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import JSONB

from shared.messages import OUTBOX_CHANNEL

SESSION = {"statement_timeout": "1900ms", "lock_timeout": "1500ms"}
"""Settings of the worker's database sessions: no transaction is open longer than two seconds. A
deadlock is resolved after one: its loser is named before both give up."""

# The message is locked before its task, and in the order of ids, by whoever takes tasks: relays
# lock messages too. Messages of tasks that are not taken stay: they were not ours to answer.
ACQUIRE = """
    WITH rung AS MATERIALIZED (
        SELECT task_id, dispatch_no, dispatched_at FROM outbox_messages
        WHERE task_id = ANY ($1::uuid[]) AND available_at <= now()
        ORDER BY task_id FOR UPDATE
    ), wish AS (
        SELECT * FROM unnest($1::uuid[], $2::boolean[]) AS wish (id, alone)
        LEFT JOIN rung ON rung.task_id = wish.id
    ), taken AS (
        UPDATE tasks AS task SET
            status = 'running', stage = 'generating',
            version = task.version + 1 + CAST(wish.dispatched_at IS NOT NULL AS integer),
            attempts = task.attempts + CAST(task.status = 'queued' AS integer),
            takeovers = task.takeovers + CAST(task.status = 'running' AS integer),
            lease_token = task.lease_token + 1, lease_owner = $3, lease_expires_at = now() + $4,
            dispatch_no = greatest(task.dispatch_no, wish.dispatch_no),
            dispatched_at = coalesce(wish.dispatched_at, task.dispatched_at),
            started_at = coalesce(task.started_at, now())
        FROM wish
        WHERE task.id = wish.id
          AND (task.deadline_at IS NULL OR task.deadline_at > now())
          AND (task.takeovers + CAST(task.status = 'running' AS integer) < $6::integer
               OR wish.alone)
          AND (
              task.status = 'queued' AND task.available_at <= now()
              OR task.status = 'running' AND task.lease_expires_at < now()
              AND task.takeovers < $5::integer AND task.cancel_requested_at IS NULL
          )
        RETURNING task.*, wish.dispatch_no AS rung_no, wish.dispatched_at AS rung_at
    ), answered AS (
        DELETE FROM outbox_messages
        WHERE task_id IN (SELECT id FROM taken WHERE rung_no IS NOT NULL)
    ), dispatched AS (
        INSERT INTO task_events (task_id, seq, type, data, created_at)
        SELECT id, version - 1, 'task.dispatched',
               jsonb_build_object('dispatch_no', rung_no), rung_at
        FROM taken WHERE rung_at IS NOT NULL
    ), started AS (
        INSERT INTO task_events (task_id, seq, type, data)
        SELECT id, version, 'task.started', jsonb_build_object(
            'worker', lease_owner, 'attempt', attempts, 'takeover', takeovers)
        FROM taken
    )
    SELECT id, lease_token, attempts, takeovers, dispatch_no, input::text AS input, created_at,
           CAST(extract(epoch FROM now() - created_at) AS float8) AS age,
           CAST(extract(epoch FROM deadline_at - now()) AS float8) AS seconds_left
    FROM taken
"""

SIGHT = text(
    """
    SELECT status, takeovers + CAST(status = 'running' AS integer) AS takeovers,
           (deadline_at IS NULL OR deadline_at > now()) AND (
        status = 'queued' AND available_at <= now()
        OR status = 'running' AND lease_expires_at < now() AND takeovers < :max_takeovers
        AND cancel_requested_at IS NULL
    ) AS due
    FROM tasks WHERE id = :task_id
    """
)

# A row that somebody has locked is left for the next beat: it must not cost the others theirs.
EXTEND = text(
    """
    WITH ours AS (
        SELECT tasks.id, held.token, cancel_requested_at IS NOT NULL AS canceling
        FROM unnest(CAST(:ids AS uuid[]), CAST(:tokens AS bigint[])) AS held (id, token)
        JOIN tasks ON tasks.id = held.id
        WHERE tasks.lease_token = held.token AND tasks.status = 'running'
    ), free AS (
        SELECT tasks.id FROM ours JOIN tasks ON tasks.id = ours.id
        WHERE tasks.lease_token = ours.token AND tasks.status = 'running'
        FOR NO KEY UPDATE OF tasks SKIP LOCKED
    ), extended AS (
        UPDATE tasks SET lease_expires_at = now() + :lease FROM free WHERE tasks.id = free.id
        RETURNING tasks.id
    )
    SELECT ours.id, token, canceling, extended.id IS NOT NULL AS extended
    FROM ours LEFT JOIN extended ON extended.id = ours.id
    """
)

LOOK = text(
    """
    SELECT tasks.id, held.token, cancel_requested_at IS NOT NULL AS canceling, false AS extended
    FROM unnest(CAST(:ids AS uuid[]), CAST(:tokens AS bigint[])) AS held (id, token)
    JOIN tasks ON tasks.id = held.id
    WHERE tasks.lease_token = held.token AND tasks.status = 'running'
    """
)

KEPT_STEPS = text(
    """
    SELECT step, step_version, input_hash, failures, CAST(output AS text) AS output, error,
           CAST(cost AS float8) AS cost
    FROM task_steps WHERE task_id = :task_id
    """
).columns(error=JSONB)

# One statement for all that a step may leave behind: that it was begun, its failure, its output.
# What it took is added up, over tries and workers; events get the numbers after the last. What was
# written before, by a COMMIT whose answer was lost, is left as it is and counts as written.
RECORD = """
    WITH entry AS (
        SELECT * FROM unnest(
            $1::uuid[], $2::bigint[], $3::text[], $4::smallint[], $5::bytea[], $6::smallint[],
            $7::smallint[], $8::text[], $9::text[], $10::integer[], $11::bigint[], $12::bigint[],
            $13::float8[], $14::float8[], $15::text[], $16::smallint[], $17::text[], $18::uuid[]
        ) WITH ORDINALITY AS entry (
            task_id, token, step, step_version, input_hash, tries,
            failures, output, error, calls, tokens_in, tokens_out,
            cost, seconds, events, progress, message, entry_id, place
        )
    ), written AS (
        SELECT place FROM entry JOIN task_steps AS step
            USING (task_id, step, step_version, input_hash)
        WHERE step.entry_id = entry.entry_id
    ), fresh AS (
        SELECT * FROM entry WHERE place NOT IN (SELECT place FROM written)
    ), event AS (
        SELECT fresh.task_id, fresh.token, told.value ->> 0 AS type, told.value -> 1 AS data,
               row_number() OVER (
                   PARTITION BY fresh.task_id, fresh.token ORDER BY place, told.ordinality
               ) AS n
        FROM fresh CROSS JOIN LATERAL jsonb_array_elements(events::jsonb) WITH ORDINALITY AS told
    ), due AS (
        SELECT fresh.task_id, fresh.token, max(progress) AS progress,
               (array_agg(message ORDER BY progress DESC NULLS LAST, place))[1] AS message,
               (SELECT count(*) FROM event
                WHERE event.task_id = fresh.task_id AND event.token = fresh.token) AS events
        FROM fresh GROUP BY 1, 2 ORDER BY 1
    ), held AS (
        UPDATE tasks AS task SET
            version = task.version + due.events,
            progress = greatest(task.progress, due.progress),
            progress_message = CASE WHEN due.progress >= task.progress THEN due.message
                               ELSE task.progress_message END
        FROM due
        WHERE task.id = due.task_id AND task.lease_token = due.token AND task.status = 'running'
        RETURNING task.id AS task_id, task.lease_token AS token,
                  task.version - due.events AS version
    ), kept AS (
        INSERT INTO task_steps AS step (
            task_id, lease_token, entry_id, step, step_version, input_hash, tries, failures,
            output, error, calls, tokens_in, tokens_out, cost, seconds, finished_at
        )
        SELECT task_id, token, entry_id, fresh.step, step_version, input_hash, tries, failures,
               output::jsonb, error::jsonb, calls, tokens_in, tokens_out, cost, seconds,
               CASE WHEN output IS NOT NULL THEN now() END
        FROM fresh JOIN held USING (task_id, token)
        ON CONFLICT (task_id, step, step_version, input_hash) DO UPDATE SET
            entry_id = other_entry(step.entry_id, EXCLUDED.entry_id),
            lease_token = EXCLUDED.lease_token,
            tries = step.tries + EXCLUDED.tries,
            failures = step.failures + EXCLUDED.failures, output = EXCLUDED.output,
            error = coalesce(EXCLUDED.error, step.error), calls = step.calls + EXCLUDED.calls,
            tokens_in = step.tokens_in + EXCLUDED.tokens_in,
            tokens_out = step.tokens_out + EXCLUDED.tokens_out, cost = step.cost + EXCLUDED.cost,
            seconds = step.seconds + EXCLUDED.seconds, finished_at = EXCLUDED.finished_at
    ), history AS (
        INSERT INTO task_events (task_id, seq, type, data)
        SELECT task_id, held.version + event.n, event.type, event.data
        FROM event JOIN held USING (task_id, token)
    )
    SELECT place FROM written UNION ALL SELECT place FROM fresh JOIN held USING (task_id, token)
"""

# Roadmap and task name each other by foreign keys, which PostgreSQL checks when the statement
# ends; a success without a roadmap, or a second roadmap, cannot be written at all.
COMPLETE = """
    WITH finished AS (
        SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::text[])
            AS finished (id, token, roadmap_id, document)
    ), done AS (
        UPDATE tasks AS task SET
            status = 'succeeded', stage = 'done', version = task.version + 1,
            roadmap_id = finished.roadmap_id, finished_at = now(),
            progress = 100, progress_message = 'done', lease_owner = NULL, lease_expires_at = NULL
        FROM finished
        WHERE task.id = finished.id AND task.lease_token = finished.token
          AND task.status = 'running' AND task.cancel_requested_at IS NULL
        RETURNING task.id, task.tenant_id, task.version, task.lease_token, task.roadmap_id,
                  finished.document
    ), result AS (
        INSERT INTO roadmaps (task_id, id, tenant_id, lease_token, document)
        SELECT id, roadmap_id, tenant_id, lease_token, document::jsonb FROM done
    ), history AS (
        INSERT INTO task_events (task_id, seq, type, data)
        SELECT id, version, 'task.succeeded', jsonb_build_object('roadmap_id', roadmap_id)
        FROM done
    )
    SELECT id, lease_token AS token FROM done
"""

COMPLETED_BEFORE = text("SELECT 1 FROM roadmaps WHERE task_id = :task_id AND lease_token = :token")

# A message may be left from an acquire that raced with the sweeper; then it becomes this one.
REQUEUE = """
    WITH wish AS (
        SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::interval[], $4::integer[], $5::text[])
            AS wish (id, token, delay, uncharged, data)
    ), returned AS (
        UPDATE tasks AS task SET
            status = 'queued', stage = 'retry_wait', version = task.version + 1,
            attempts = greatest(task.attempts - wish.uncharged, 0),
            dispatch_no = task.dispatch_no + 1, available_at = now() + wish.delay,
            lease_owner = NULL, lease_expires_at = NULL
        FROM wish
        WHERE task.id = wish.id AND task.lease_token = wish.token
          AND task.status = 'running' AND task.cancel_requested_at IS NULL
        RETURNING task.id, task.tenant_id, task.priority, task.version, task.dispatch_no,
                  task.available_at, task.lease_token, wish.delay, wish.data
    ), message AS (
        INSERT INTO outbox_messages (task_id, tenant_id, dispatch_no, priority, available_at)
        -- not now(): see OutboxMessage.available_at
        SELECT id, tenant_id, dispatch_no, priority, clock_timestamp() + delay FROM returned
        ON CONFLICT (task_id) DO UPDATE SET
            dispatch_no = greatest(outbox_messages.dispatch_no + 1, EXCLUDED.dispatch_no),
            available_at = EXCLUDED.available_at, dispatched_at = NULL
    ), history AS (
        INSERT INTO task_events (task_id, seq, type, data)
        SELECT id, version, 'task.requeued',
               data::jsonb || jsonb_build_object('available_at', available_at)
        FROM returned
    )
    SELECT id, lease_token AS token FROM returned
"""

FAIL = text(
    """
    WITH failed AS (
        UPDATE tasks SET
            status = 'failed', stage = 'done', version = version + 1,
            error = CAST(:error AS jsonb), finished_at = now(),
            lease_owner = NULL, lease_expires_at = NULL
        WHERE id = :task_id AND lease_token = :token AND status = 'running'
          AND cancel_requested_at IS NULL
        RETURNING id, version, dispatch_no, error
    ), letter AS (
        INSERT INTO dead_letters (task_id, dispatch_no, source, reason, detail)
        SELECT id, dispatch_no, 'worker', error ->> 'code', error FROM failed
        ON CONFLICT DO NOTHING
    )
    INSERT INTO task_events (task_id, seq, type, data)
    SELECT id, version, 'task.failed', error FROM failed
    RETURNING seq
    """
)

CANCEL = text(
    """
    WITH canceled AS (
        UPDATE tasks SET
            status = 'canceled', stage = 'done', version = version + 1, finished_at = now(),
            lease_owner = NULL, lease_expires_at = NULL
        WHERE id = :task_id AND lease_token = :token AND status = 'running'
          AND cancel_requested_at IS NOT NULL
        RETURNING id, version, cancel_requested_at
    )
    INSERT INTO task_events (task_id, seq, type, data)
    SELECT id, version, 'task.canceled', jsonb_build_object('requested_at', cancel_requested_at)
    FROM canceled
    RETURNING seq
    """
)

BURY = text(
    """
    INSERT INTO dead_letters (task_id, dispatch_no, source, reason, detail)
    VALUES (:task_id, :dispatch_no, 'worker', :reason, CAST(:detail AS jsonb))
    ON CONFLICT DO NOTHING
    """
)

# Outside of the transaction that put the message there: NOTIFY takes an instance-wide lock.
RING = text(f"SELECT pg_notify('{OUTBOX_CHANNEL}', '')")
