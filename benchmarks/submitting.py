"""``python -m benchmarks.submitting ours|by_hand``: submissions in process, without HTTP."""

from __future__ import annotations

import asyncio
import json
import sys

import asyncpg
import uvloop
from uuid_utils.compat import uuid7

from api_service.new_task import NewTask
from api_service.schemas import TaskSubmission
from api_service.submission import Submissions
from benchmarks.contestant import compete
from benchmarks.http_load import BODY
from shared.database import Database
from shared.logs import set_up_logs
from shared.settings import Settings, load_settings

AT_ONCE = 64
COUNT = 6_400
"""Submissions of one round."""

INSERT = """
    WITH task AS (
        INSERT INTO tasks (id, request_hash, input)
        SELECT id, '', CAST(input AS jsonb) FROM unnest($1::uuid[], $2::text[]) AS new (id, input)
        RETURNING id
    ), message AS (
        INSERT INTO outbox_messages (task_id) SELECT id FROM task
    )
    INSERT INTO task_events (task_id, seq, type) SELECT id, 1, 'task.accepted' FROM task
"""


async def ours(settings: Settings) -> None:
    """Each submitter waits for its own; that they share commits is our affair."""
    submissions = Submissions(Database(settings, "api"))
    body = TaskSubmission.model_validate_json(BODY)

    async def submit_some(count: int) -> None:
        for _ in range(count):
            new = NewTask.of(body, tenant_id="default", key=None, traceparent=None)
            await submissions.submit(new)

    async def work(amount: int) -> int:
        await asyncio.gather(*(submit_some(amount // AT_ONCE) for _ in range(AT_ONCE)))
        return amount

    await compete(work)


async def by_hand(settings: Settings) -> None:
    """It is told how many rows to insert at a time, and inserts as many as the others submit."""
    connection = await asyncpg.connect(settings.require_database())
    document = json.loads(BODY)["input"]

    async def work(batch: int) -> int:
        for _ in range(COUNT // batch):
            ids = [uuid7() for _ in range(batch)]
            await connection.execute(INSERT, ids, [json.dumps(document) for _ in ids])
        return COUNT // batch * batch

    await compete(work)


if __name__ == "__main__":
    settings = load_settings()
    set_up_logs(settings, "api")
    uvloop.run({"ours": ours, "by_hand": by_hand}[sys.argv[1]](settings))
