"""How the operators' bodies and documents look, for the API's own description."""

from __future__ import annotations

from typing import Any

Example = dict[str, Any]
"""A document. Any: what JSON can hold."""

ENDED = "01a20a9f-2bbd-728b-87a2-3d216770b6f7"
AGAIN = "01a20d51-90c4-7d11-b3a5-6f2e8a1c0d42"
TOKEN = "eyJhY3QiOiJyZXBsYXkiLCJmaWx0ZXIiOnt9LCJoYXNoIjoiNGY1M2NkYTEifQ"  # noqa: S105 - no secret
AT = "2026-11-25T12:00:00Z"
MENDED = "the catalog was mended"

ORDER: Example = {"reason": MENDED, "actor": "ann"}
PAUSE: Example = {"at": AT, "by": "ann", "reason": "a deploy"}

MESSAGE: Example = {
    "task_id": ENDED,
    "tenant_id": "default",
    "priority": "normal",
    "state": "waiting",
    "dispatch_no": 1,
    "available_at": AT,
    "dispatched_at": None,
    "seconds": 0.4,
}

ERROR: Example = {
    "fingerprint": "295a829d",
    "source": "worker",
    "reason": "goal_not_covered",
    "error": "No roadmap covers “…”",
}

LETTER: Example = ERROR | {
    "id": 12,
    "task_id": ENDED,
    "dispatch_no": 1,
    "text": "No roadmap covers “fly”. The nearest goals that are covered: Learn SQL.",
    "created_at": AT,
    "resolution": None,
    "resolved_at": None,
    "act_id": None,
    "replayed_as": None,
    "task_status": "failed",
}

ACT: Example = {
    "id": 9,
    "actor": "ann",
    "act": "replay",
    "reason": MENDED,
    "detail": {"filter": {"fingerprint": "295a829d"}, "dead_letters": 2, "new_tasks": 2},
    "created_at": AT,
}

OVERVIEW: Example = {
    "taken_at": AT,
    "tasks": {
        "accepted": 1204,
        "queued": 3,
        "running": 8,
        "succeeded": 1188,
        "failed": 4,
        "canceled": 1,
        "open": 11,
    },
    "conservation": {
        "holds": True,
        "sentence": "1204 accepted = 1188 succeeded + 4 failed + 1 canceled + 11 open",
        "differences": [],
    },
    "outbox": {"waiting": 1, "delayed": 0, "in_flight": 2, "oldest_waiting_seconds": 0.02},
    "dead_letters": {"open": 4, "groups": 2},
    "paused": None,
    "intake_paused": None,
    "workers": 2,
    "relays": 2,
}

LOOK: Example = {"dry_run": True, "filter": {"fingerprint": "295a829d"}}
PICK: Example = {"dry_run": True, "ids": [12, 13]}
GO: Example = {"preview_token": TOKEN, "expected_count": 2, "reason": MENDED}
PAUSE_RESULT: Example = {"act": 7, "paused": PAUSE}
INTAKE_RESULT: Example = {"act": 8, "intake_paused": PAUSE}
GROUP: Example = ERROR | {"count": 3, "open": 2, "first": AT, "last": AT, "example": 13}
STORY: Example = {
    "task_id": ENDED,
    "task": None,
    "message": None,
    "dead_letters": [LETTER],
    "acts": [],
}
PREVIEW: Example = {
    "matched": 2,
    "tasks": 2,
    "groups": [ERROR | {"count": 2}],
    "fates": {"new_task": 2},
    "sample": [12, 13],
    "preview_token": TOKEN,
}
DECISION: Example = {
    "act": 9,
    "dead_letters": 1,
    "new_tasks": 1,
    "dispatched_again": 0,
    "last_due_at": AT,
    "data": [{"task_id": ENDED, "replayed_as": AGAIN, "due_at": AT, "dead_letters": [12]}],
}
