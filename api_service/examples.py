"""How the bodies and documents of tasks and processes look, for the API's own description."""

from __future__ import annotations

from typing import Any

from shared.views import TASK_EXAMPLE

TASK: str = TASK_EXAMPLE["id"]
ROADMAP = "01a20aa0-0c4e-7d35-8d1f-52b9a1b4c001"
WORKER = "01a20a90-11aa-7c02-9f3e-9b2f6f3d7c10"
AT = "2026-11-25T12:00:00Z"
LATER = "2026-11-25T12:00:03.500000Z"

USAGE = {"calls": 9, "tokens_in": 5210, "tokens_out": 3480, "cost_usd": 0.0083}

STEP = {
    "step": "design",
    "version": 1,
    "state": "completed",
    "tries": 1,
    "failures": 0,
    "duration_seconds": 2.1,
    **USAGE,
    "error": None,
    "begun_at": AT,
    "finished_at": LATER,
}

ATTEMPT = {
    "number": 1,
    "takeover": 0,
    "worker": "host:4711",
    "outcome": "succeeded",
    "error": None,
    "started_at": AT,
    "finished_at": LATER,
    "duration_seconds": 3.5,
    "steps": [STEP],
    "usage": USAGE,
}

WORKER_VIEW = {
    "id": WORKER,
    "name": "host:4711",
    "version": "0.1.0",
    "state": "working",
    "started_at": AT,
    "seen_at": LATER,
    "slots": 32,
    "running": 1,
    "finished": 118,
    "mean_seconds": 1.4,
    "drain_requested_at": None,
    "tasks": [{"task_id": TASK, "attempt": 1, "lease_expires_at": LATER}],
}

CONCEPT = {
    "id": "rust-ownership",
    "name": "Ownership",
    "description": "Each value has one owner, and goes with it.",
    "why": "Needed for borrowing.",
    "difficulty": 3,
    "hours": 4.0,
    "week_from": 1,
    "week_to": 1,
    "outcomes": ["say who owns a value, and when it is dropped"],
}

MODULE = {
    "id": "m-ownership",
    "name": "Ownership",
    "description": "",
    "hours": 4.0,
    "concepts": [CONCEPT],
}

STAGE = {
    "id": "s-foundations",
    "name": "Foundations",
    "description": "What everything else stands on.",
    "outcome": "You read and write small programs.",
    "hours": 4.0,
    "week_from": 1,
    "week_to": 1,
    "modules": [MODULE],
}


SUBMISSION = {
    "input": {"goal": "Become a backend developer with Python", "hours_per_week": 8},
    "metadata": {"customer": "42"},
}

BODIES: dict[str, list[dict[str, Any]]] = {
    "TaskSubmission": [
        {"input": {"goal": "Learn SQL"}},
        SUBMISSION | {"priority": "high", "deadline_seconds": 600},
    ],
    "BatchSubmission": [{"tasks": [SUBMISSION, {"input": {"goal": "Learn SQL"}}], "atomic": False}],
    "TaskRetry": [{}, {"input": {"goal": "Learn SQL"}, "priority": "high"}],
}

DOCUMENTS: dict[str, Any] = {
    "BatchResult": {
        "data": [{"index": 0, "task": TASK_EXAMPLE, "problem": None}],
        "accepted": 1,
        "refused": 0,
    },
    "EventPage": {
        "data": [
            {"seq": 1, "type": "task.accepted", "data": {}, "created_at": AT},
            {"seq": 2, "type": "task.started", "data": {"attempt": 1}, "created_at": LATER},
        ],
        "has_more": False,
    },
    "AttemptList": {"data": [ATTEMPT]},
    "RoadmapView": {
        "id": ROADMAP,
        "task_id": TASK,
        "created_at": LATER,
        "title": "Rust for backend engineers",
        "summary": "One stage, one week.",
        "goal": "Rust for backend engineers",
        "level": "beginner",
        "start_date": "2026-11-25",
        "end_date": "2026-12-01",
        "total_hours": 4.0,
        "weeks": 1,
        "stages": [STAGE],
        "fit": {
            "hours_per_week": 6.0,
            "requested_weeks": 12,
            "planned_hours": 4.0,
            "planned_weeks": 1,
            "feasible": True,
        },
        "generated_by": {"name": "offline", "version": "3"},
    },
    "Validation": {
        "valid": True,
        "normalized": {"goal": "Rust for backend engineers", "level": "beginner"},
        "estimate": {
            "goal": "Rust backend developer",
            "feasible": True,
            "stages": 5,
            "concepts": 41,
            "hours": 66.5,
            "weeks": 12,
            "model": None,
        },
        "problem": None,
    },
    "WorkerList": {"data": [WORKER_VIEW]},
    "WorkerView": WORKER_VIEW,
    "RelayList": {
        "data": [
            {
                "id": WORKER,
                "name": "host:4712",
                "version": "0.1.0",
                "state": "carrying",
                "started_at": AT,
                "seen_at": LATER,
                "published": 120,
                "redis": {"answers": True, "depth": 3, "reason": None},
            }
        ]
    },
    "QueueList": {
        "data": [
            {
                "name": "roadmaps",
                "waiting": 1,
                "delayed": 0,
                "in_flight": 1,
                "running": 1,
                "oldest_waiting_seconds": 0.4,
                "paused": None,
                "slots": 64,
                "workers": 2,
                "redis_depth": 1,
                "estimated_wait_seconds": 1.4,
            }
        ]
    },
    "Explanation": {
        "task_id": TASK,
        "status": "queued",
        "waits_for": "paused_relays",
        "sentence": "It waits because ann has paused the relays (a deploy): resume them.",
        "facts": {"paused": {"at": AT, "by": "ann", "reason": "a deploy"}},
    },
}
EXAMPLES: dict[str, list[dict[str, Any]]] = {
    **BODIES,
    **{name: [document] for name, document in DOCUMENTS.items()},
}
"""By the schema of a body, where that has none of its own."""
