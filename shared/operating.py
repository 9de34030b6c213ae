"""All SQL of the operator: what the outbox holds, its dead letters, and acts that leave a trace.

Shared, because both hands of the operator do the very same act: HTTP, and the command line, which
works when the API does not.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, TextClause, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession

from shared.database import Database

Document = dict[str, Any]
"""What ``--json`` prints; each command's plain text is another view of the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which open dead letters are meant; what is None does not matter."""

    fingerprint: str | None = None
    reason: str | None = None
    source: str | None = None
    tenant: str | None = None
    after: datetime | None = None
    before: datetime | None = None

    def said(self) -> Document:
        return {name: value for name, value in asdict(self).items() if value is not None}


EVERY = Filter()


async def status(database: Database) -> RowMapping:
    async with database.autocommit() as connection:
        return (await connection.execute(STATUS)).mappings().one()


async def messages(
    database: Database,
    *,
    tenant: str | None = None,
    priority: int | None = None,
    state: str | None = None,
    task_id: UUID | None = None,
    beyond: tuple[datetime, UUID] | None = None,
    limit: int,
) -> Sequence[RowMapping]:
    """Outbox messages, the oldest first; ``beyond`` is where the last page ended."""
    at, after = beyond or (None, None)
    parameters = {"tenant": tenant, "priority": priority, "state": state, "limit": limit}
    place = {"task_id": task_id, "at": at, "after": after}
    return await _rows(database, MESSAGES, parameters | place)


async def groups(
    database: Database,
    wanted: Filter = EVERY,
    *,
    resolved: bool,
    beyond: tuple[int, datetime, str] | None = None,
    limit: int,
) -> Sequence[RowMapping]:
    """Dead letters by the fingerprint of their error, the most open ones first; ``beyond`` is
    where the last page ended: how many were open there, since when, and under which fingerprint."""
    open_there, last, place = beyond or (None, None, None)
    page = {"open": open_there, "last": last, "place": place, "limit": limit}
    return await _rows(database, GROUPS, asdict(wanted) | {"resolved": resolved} | page)


async def letters(
    database: Database, fingerprint: str, *, resolved: bool, limit: int
) -> Sequence[RowMapping]:
    """The dead letters of one group, the oldest first."""
    return await matching(database, Filter(fingerprint=fingerprint), resolved=resolved, limit=limit)


async def matching(
    database: Database,
    wanted: Filter,
    *,
    resolved: bool = False,
    beyond: int = 0,
    limit: int | None = None,
) -> Sequence[RowMapping]:
    """The dead letters that a filter chooses, by number: those that are open, or all."""
    further = {"resolved": resolved, "beyond": beyond, "limit": limit}
    return await _rows(database, MATCHING, asdict(wanted) | further)


async def named(
    database: Database, numbers: Collection[int], task_ids: Collection[UUID]
) -> Sequence[RowMapping]:
    """Dead letters by their numbers, and those of tasks; open or not."""
    return await _rows(database, NAMED, {"numbers": list(numbers), "task_ids": list(task_ids)})


async def story(database: Database, task_id: UUID | None, number: int | None) -> Document | None:
    """A task with its message, dead letters and what was done about them; None if unknown."""
    async with database.begin() as session:
        if number is not None:
            letter = await _all(session, NAMED, {"numbers": [number], "task_ids": []})
            if not letter:
                return None
            task_id = letter[0]["task_id"]
        found = (
            letter
            if number is not None and task_id is None
            else await _all(session, NAMED, {"numbers": [], "task_ids": [task_id]})
        )
        task = await _all(session, TASK, {"id": task_id})
        message = await _all(session, MESSAGE, {"id": task_id})
        acts = await _all(session, ACTS, {"ids": [one["act_id"] for one in found]})
    if not (task or message or found):
        return None
    return {
        "task_id": task_id,
        "task": dict(task[0]) if task else None,
        "message": dict(message[0]) if message else None,
        "dead_letters": [dict(one) for one in found],
        "acts": [dict(one) for one in acts],
    }


async def pause(database: Database, actor: str, reason: str) -> Document:
    """Hold the relays back. ``act`` is None if somebody had done so before."""
    async with database.begin() as session:
        act = await session.scalar(PAUSE, {"actor": actor, "reason": reason})
        (held,) = await _all(session, PAUSED, {})
    return {"act": act, "paused": _held(held)}


async def resume(database: Database, actor: str, reason: str) -> Document:
    """Let the relays go on. ``act`` is None if nobody had paused them."""
    async with database.begin() as session:
        act = await session.scalar(RESUME, {"actor": actor, "reason": reason})
    return {"act": act, "paused": None}


async def pause_intake(database: Database, actor: str, reason: str) -> Document:
    """Refuse new tasks. ``act`` is None if somebody had done so before."""
    async with database.begin() as session:
        act = await session.scalar(PAUSE_INTAKE, {"actor": actor, "reason": reason})
        (held,) = await _all(session, INTAKE_PAUSED, {})
    return {"act": act, "intake_paused": _held(held)}


async def resume_intake(database: Database, actor: str, reason: str) -> Document:
    """Accept tasks again. ``act`` is None if nobody had paused the intake."""
    async with database.begin() as session:
        act = await session.scalar(RESUME_INTAKE, {"actor": actor, "reason": reason})
    return {"act": act, "intake_paused": None}


async def acts(
    database: Database,
    *,
    act: str | None = None,
    actor: str | None = None,
    beyond: int | None = None,
    limit: int,
) -> Sequence[RowMapping]:
    """What was done by hand, the newest first; ``beyond`` is where the last page ended."""
    parameters = {"act": act, "actor": actor, "beyond": beyond, "limit": limit}
    return await _rows(database, ACTS_DONE, parameters)


async def act_by_number(database: Database, number: int) -> RowMapping | None:
    found = await _rows(database, ACTS, {"ids": [number]})
    return found[0] if found else None


async def record(
    session: AsyncSession, act: str, *, actor: str, reason: str, detail: Document
) -> int:
    """Write down that somebody is doing something, and why; the number of the act."""
    parameters = {"actor": actor, "act": act, "reason": reason, "detail": detail}
    number: int = (await session.execute(RECORD, parameters)).scalar_one()
    return number


async def count(session: AsyncSession, act_id: int, done: dict[str, int]) -> None:
    """Put into an act how much it has done by now."""
    await session.execute(COUNT, {"act_id": act_id, "done": done})


async def replay(
    session: AsyncSession,
    act_id: int,
    new_ids: dict[UUID, UUID],
    *,
    delays: Mapping[UUID, float] | None = None,
) -> Sequence[RowMapping]:
    """Run the tasks again that have open dead letters and do not run; those that were, with
    ``replayed_as``, ``due_at`` and the numbers of the ``dead_letters`` that this answers.

    One replay answers all open letters of its task. A task that waits is dispatched again. One
    that has ended stays as it is, and a new task, under the id given for it, takes up its request.
    ``delays``: seconds until each may be published, so that they do not come all at once.
    """
    parameters = {
        "act_id": act_id,
        "ids": list(new_ids),
        "new_ids": list(new_ids.values()),
        "delays": [delays[one] if delays else 0.0 for one in new_ids],
    }
    return await _all(session, REPLAY, parameters)


async def discard(
    session: AsyncSession, act_id: int, numbers: Collection[int]
) -> Sequence[RowMapping]:
    """Close dead letters that are still open; no task is touched."""
    return await _all(session, DISCARD, {"act_id": act_id, "numbers": list(numbers)})


def _held(pause: RowMapping) -> Document | None:
    """None if somebody has resumed between our two statements."""
    return dict(pause) if pause["at"] else None


async def _rows(
    database: Database, statement: TextClause, parameters: Document
) -> Sequence[RowMapping]:
    async with database.autocommit() as connection:
        return (await connection.execute(statement, parameters)).mappings().all()


async def _all(
    session: AsyncSession, statement: Any, parameters: Document
) -> Sequence[RowMapping]:  # Any: a text, or one with columns
    return (await session.execute(statement, parameters)).mappings().all()


# What went wrong without what differs each time: quoted words, ids, hexadecimals, numbers. Only
# the first sentence: those after it give advice, which is as individual as the request.
ERROR = r"""
    split_part(regexp_replace(regexp_replace(regexp_replace(regexp_replace(
        coalesce(letter.detail ->> 'detail', ''),
        '“[^”]*”', '“…”', 'g'),
        '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}', '#', 'gi'),
        '\m(0x[0-9a-f]+|[0-9a-f]{8,})\M', '#', 'gi'),
        '\d+([.,]\d+)*(e[+-]?\d+)?', '#', 'g'), '. ', 1)
"""

FINGERPRINT = f"""
    left(encode(sha256(convert_to(
        letter.source || ' ' || letter.reason || ' ' || {ERROR}, 'UTF8')), 'hex'), 8)
"""

LETTER = f"""
    SELECT letter.id, letter.task_id, letter.dispatch_no, letter.source, letter.reason,
           letter.detail ->> 'detail' AS text, letter.detail, {ERROR} AS error,
           {FINGERPRINT} AS fingerprint,
           letter.created_at, letter.resolution, letter.resolved_at, letter.act_id,
           letter.replayed_as,
           CASE WHEN task.deleted_at IS NULL THEN task.status END AS task_status
    FROM dead_letters AS letter LEFT JOIN tasks AS task ON task.id = letter.task_id
"""  # noqa: S608 - fixed text, here and below

STATUS = text(
    f"""
    SELECT message.*, letter.*, deployment.id AS deployment_id,
           paused_at, paused_by, paused_reason,
           (SELECT count(*) FROM tasks WHERE status = 'running') AS running
    FROM deployment CROSS JOIN (
        SELECT count(*) FILTER (WHERE due) AS waiting,
               CAST(extract(epoch FROM now() - min(available_at) FILTER (WHERE due)) AS float8)
                   AS oldest_waiting_seconds,
               count(*) FILTER (WHERE dispatched_at IS NULL AND NOT due) AS delayed,
               count(dispatched_at) AS in_flight
        FROM (
            SELECT *, dispatched_at IS NULL AND available_at <= now() AS due FROM outbox_messages
        ) AS message
    ) AS message CROSS JOIN (
        SELECT count(*) AS dead_letters, count(DISTINCT {FINGERPRINT}) AS dead_letter_groups
        FROM dead_letters AS letter WHERE resolution IS NULL
    ) AS letter
    """  # noqa: S608
)

MESSAGES = text(
    """
    SELECT task_id, tenant_id, priority, state, dispatch_no, available_at, dispatched_at,
           CAST(abs(extract(epoch FROM now() - CASE state
               WHEN 'dispatched' THEN dispatched_at ELSE available_at END)) AS float8) AS seconds
    FROM (
        SELECT *, CASE WHEN dispatched_at IS NOT NULL THEN 'dispatched'
                       WHEN available_at > now() THEN 'delayed' ELSE 'waiting' END AS state
        FROM outbox_messages
    ) AS message
    WHERE (CAST(:tenant AS text) IS NULL OR tenant_id = CAST(:tenant AS text))
      AND (CAST(:priority AS integer) IS NULL OR priority = CAST(:priority AS integer))
      AND (CAST(:state AS text) IS NULL OR state = CAST(:state AS text))
      AND (CAST(:task_id AS uuid) IS NULL OR task_id = CAST(:task_id AS uuid))
      AND (CAST(:at AS timestamptz) IS NULL
           OR (available_at, task_id) > (CAST(:at AS timestamptz), CAST(:after AS uuid)))
    ORDER BY available_at, task_id LIMIT :limit
    """
)

CHOSEN = f"""
    (letter.resolution IS NULL OR CAST(:resolved AS boolean))
      AND (CAST(:fingerprint AS text) IS NULL OR {FINGERPRINT} = CAST(:fingerprint AS text))
      AND (CAST(:reason AS text) IS NULL OR letter.reason = CAST(:reason AS text))
      AND (CAST(:source AS text) IS NULL OR letter.source = CAST(:source AS text))
      AND (CAST(:tenant AS text) IS NULL OR task.tenant_id = CAST(:tenant AS text))
      AND (CAST(:after AS timestamptz) IS NULL OR letter.created_at >= CAST(:after AS timestamptz))
      AND (CAST(:before AS timestamptz) IS NULL
           OR letter.created_at < CAST(:before AS timestamptz))
"""

GROUPS = text(
    f"""
    SELECT * FROM (
        SELECT fingerprint, source, reason, error, count(*) AS count,
               count(*) FILTER (WHERE resolution IS NULL) AS open,
               min(created_at) AS first, max(created_at) AS last,
               max(id) AS example
        FROM ({LETTER} WHERE {CHOSEN}) AS letter
        GROUP BY fingerprint, source, reason, error
    ) AS letter
    WHERE CAST(:open AS bigint) IS NULL
       OR (open, last) < (CAST(:open AS bigint), CAST(:last AS timestamptz))
       OR (open, last) = (CAST(:open AS bigint), CAST(:last AS timestamptz))
          AND fingerprint > CAST(:place AS text)
    ORDER BY open DESC, last DESC, fingerprint LIMIT :limit
    """  # noqa: S608
)

MATCHING = text(
    f"""
    {LETTER}
    WHERE letter.id > CAST(:beyond AS bigint) AND {CHOSEN}
    ORDER BY letter.id LIMIT CAST(:limit AS bigint)
    """
)

NAMED = text(
    f"""
    {LETTER}
    WHERE letter.id = ANY (CAST(:numbers AS bigint[]))
       OR letter.task_id = ANY (CAST(:task_ids AS uuid[]))
    ORDER BY letter.id
    """
)

TASK = text(
    """
    SELECT id, tenant_id, priority, input ->> 'goal' AS goal, status, stage, version, dispatch_no,
           attempts, takeovers, lease_owner, lease_expires_at, roadmap_id, error, created_at,
           available_at, dispatched_at, started_at, finished_at, deleted_at, parent_id
    FROM tasks WHERE id = :id
    """
)

MESSAGE = text(
    """
    SELECT dispatch_no, available_at, dispatched_at,
           CASE WHEN dispatched_at IS NOT NULL THEN 'dispatched'
                WHEN available_at > now() THEN 'delayed' ELSE 'waiting' END AS state
    FROM outbox_messages WHERE task_id = :id
    """
)

ACTS = text(
    """
    SELECT id, actor, act, reason, detail, created_at FROM operator_acts
    WHERE id = ANY (CAST(:ids AS bigint[])) ORDER BY id
    """
)

ACTS_DONE = text(
    """
    SELECT id, actor, act, reason, detail, created_at FROM operator_acts
    WHERE (CAST(:act AS text) IS NULL OR act = CAST(:act AS text))
      AND (CAST(:actor AS text) IS NULL OR actor = CAST(:actor AS text))
      AND (CAST(:beyond AS bigint) IS NULL OR id < CAST(:beyond AS bigint))
    ORDER BY id DESC LIMIT :limit
    """
)

RECORD = text(
    """
    INSERT INTO operator_acts (actor, act, reason, detail)
    VALUES (:actor, :act, :reason, :detail) RETURNING id
    """
).bindparams(bindparam("detail", type_=JSONB))

COUNT = text(
    """
    UPDATE operator_acts SET detail = detail || CAST(:done AS jsonb) WHERE id = :act_id
    """
).bindparams(bindparam("done", type_=JSONB))

PAUSED = text("SELECT paused_at AS at, paused_by AS by, paused_reason AS reason FROM deployment")

PAUSE = text(
    """
    WITH held AS (
        UPDATE deployment SET paused_at = now(), paused_by = :actor, paused_reason = :reason
        WHERE paused_at IS NULL RETURNING 1
    )
    INSERT INTO operator_acts (actor, act, reason)
    SELECT :actor, 'pause', :reason FROM held RETURNING id
    """
)

RESUME = text(
    """
    WITH held AS (
        SELECT paused_at, paused_by, paused_reason FROM deployment
        WHERE paused_at IS NOT NULL FOR UPDATE
    ), freed AS (
        UPDATE deployment SET paused_at = NULL, paused_by = NULL, paused_reason = NULL FROM held
    )
    INSERT INTO operator_acts (actor, act, reason, detail)
    SELECT :actor, 'resume', :reason, to_jsonb(held) FROM held RETURNING id
    """
)

INTAKE_PAUSED = text(
    """
    SELECT intake_paused_at AS at, intake_paused_by AS by, intake_paused_reason AS reason
    FROM deployment
    """
)

PAUSE_INTAKE = text(
    """
    WITH held AS (
        UPDATE deployment SET
            intake_paused_at = now(), intake_paused_by = :actor, intake_paused_reason = :reason
        WHERE intake_paused_at IS NULL RETURNING 1
    )
    INSERT INTO operator_acts (actor, act, reason)
    SELECT :actor, 'pause_intake', :reason FROM held RETURNING id
    """
)

RESUME_INTAKE = text(
    """
    WITH held AS (
        SELECT intake_paused_at, intake_paused_by, intake_paused_reason FROM deployment
        WHERE intake_paused_at IS NOT NULL FOR UPDATE
    ), freed AS (
        UPDATE deployment SET
            intake_paused_at = NULL, intake_paused_by = NULL, intake_paused_reason = NULL
        FROM held
    )
    INSERT INTO operator_acts (actor, act, reason, detail)
    SELECT :actor, 'resume_intake', :reason, to_jsonb(held) FROM held RETURNING id
    """
)

# Locks the task before its message, as the sweeper does. Two operators at once: the lock on the
# task lets one of them have it, with all its letters, and the other finds them resolved.
#
# The task is due at once, or a worker would not take what the message rings for.
REPLAY = text(
    """
    WITH task AS MATERIALIZED (
        SELECT task.*, wanted.new_id, make_interval(secs => wanted.delay) AS delay
        FROM unnest(CAST(:ids AS uuid[]), CAST(:new_ids AS uuid[]), CAST(:delays AS float8[]))
            AS wanted (task_id, new_id, delay)
        JOIN tasks AS task ON task.id = wanted.task_id
        WHERE task.status <> 'running' AND task.deleted_at IS NULL
        ORDER BY task.id
        FOR UPDATE OF task SKIP LOCKED
    ), letter AS MATERIALIZED (
        SELECT id, task_id FROM dead_letters
        WHERE task_id = ANY (ARRAY(SELECT id FROM task)) AND resolution IS NULL
        FOR UPDATE SKIP LOCKED
    ), chosen AS MATERIALIZED (
        SELECT *, status <> 'queued' AS ended FROM task WHERE id IN (SELECT task_id FROM letter)
    ), again AS (
        UPDATE tasks AS task SET
            version = task.version + 1, dispatch_no = task.dispatch_no + 1,
            available_at = least(task.available_at, now())
        FROM chosen WHERE task.id = chosen.id AND NOT ended
        RETURNING task.id, task.tenant_id, task.priority, task.version, task.dispatch_no, delay
    ), anew AS (
        INSERT INTO tasks
            (id, tenant_id, priority, request_hash, input, metadata, traceparent, parent_id)
        SELECT new_id, tenant_id, priority, request_hash, input, metadata, traceparent, id
        FROM chosen WHERE ended
        RETURNING id, tenant_id, priority, version, dispatch_no, parent_id
    ), message AS (
        INSERT INTO outbox_messages (task_id, tenant_id, priority, dispatch_no, available_at)
        SELECT id, tenant_id, priority, dispatch_no, clock_timestamp() + delay FROM again
        UNION ALL
        SELECT anew.id, anew.tenant_id, anew.priority, anew.dispatch_no, clock_timestamp() + delay
        FROM anew JOIN chosen ON chosen.new_id = anew.id
        ON CONFLICT (task_id) DO UPDATE SET
            dispatch_no = greatest(outbox_messages.dispatch_no + 1, EXCLUDED.dispatch_no),
            available_at = EXCLUDED.available_at, dispatched_at = NULL
        RETURNING task_id, available_at
    ), history AS (
        INSERT INTO task_events (task_id, seq, type, data)
        SELECT id, version, 'task.requeued', jsonb_build_object('reason', 'replayed') FROM again
        UNION ALL
        SELECT id, version, 'task.accepted', jsonb_build_object('parent_id', parent_id) FROM anew
    ), resolved AS (
        UPDATE dead_letters AS letter SET
            resolution = 'replayed', resolved_at = now(), act_id = :act_id,
            replayed_as = CASE WHEN ended THEN new_id ELSE chosen.id END
        FROM chosen
        WHERE letter.task_id = chosen.id AND letter.id = ANY (ARRAY(SELECT id FROM letter))
        RETURNING letter.id, letter.task_id, letter.replayed_as
    )
    SELECT resolved.task_id, replayed_as, message.available_at AS due_at,
           array_agg(id ORDER BY id) AS dead_letters
    FROM resolved JOIN message ON message.task_id = replayed_as
    GROUP BY resolved.task_id, replayed_as, due_at ORDER BY min(id)
    """
)

DISCARD = text(
    """
    WITH letter AS MATERIALIZED (
        SELECT id FROM dead_letters
        WHERE id = ANY (CAST(:numbers AS bigint[])) AND resolution IS NULL
        FOR UPDATE SKIP LOCKED
    ), resolved AS (
        UPDATE dead_letters
        SET resolution = 'discarded', resolved_at = now(), act_id = :act_id
        WHERE id = ANY (ARRAY(SELECT id FROM letter)) RETURNING id, task_id
    )
    SELECT id, task_id FROM resolved ORDER BY id
    """
)
