"""Rows of relays and workers, as those write them, for tests that start none."""

from __future__ import annotations

import json
from typing import Any, Literal
from uuid import UUID

from uuid_utils.compat import uuid7

from shared.database import Database
from tests.factories import execute

WORKER = {"slots": 4, "running": 0, "finished": 7, "mean_seconds": 2.0, "resting": False}
ANSWERS = {"answers": True, "depth": 3, "reason": None}
SILENT = {"answers": False, "depth": None, "reason": "Connection refused"}
RELAY = {"redis": ANSWERS, "paused": False, "published": 12}


async def present(
    database: Database,
    role: Literal["relay", "worker"],
    *,
    name: str = "host:1",
    unseen: float = 0,
    draining: bool = False,
    **report: Any,
) -> UUID:
    """Its id. ``unseen``: seconds for which it has been silent; after 30 it is gone."""
    sql = """
        INSERT INTO processes
            (id, role, name, version, seen_at, gone_after, report, drain_requested_at)
        VALUES (:id, :role, :name, '1', now() - make_interval(secs => :unseen), interval '30 s',
                CAST(CAST(:report AS text) AS jsonb),
                CASE WHEN CAST(:draining AS boolean) THEN now() END)
    """
    process_id = uuid7()
    said = json.dumps((WORKER if role == "worker" else RELAY) | report)
    who = {"id": process_id, "role": role, "name": name, "unseen": unseen, "draining": draining}
    await execute(database, sql, **who, report=said)
    return process_id
