"""The good answers of each operation: what a status means, its headers, and where it leads on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Good:
    meaning: str
    headers: tuple[str, ...] = ()
    """Those that it always carries; with ``?`` at the end, sometimes."""
    leads_to: tuple[str, ...] = ()
    """Names of ``LINKS``."""
    body: bool = True


ID = {"task_id": "$response.body#/id"}
ETAG = "$response.header.ETag"
FIRST = {"task_id": "$response.body#/data/0/id"}
LETTER = {"number": "$response.body#/data/0/id"}
EXAMPLE = {"number": "$response.body#/data/0/example"}

LINKS: dict[str, dict[str, Any]] = {
    "task": {"operationId": "get_task", "parameters": ID},
    "news": {"operationId": "get_task", "parameters": ID | {"if-none-match": ETAG}},
    "events": {"operationId": "get_events", "parameters": ID},
    "attempts": {"operationId": "get_attempts", "parameters": ID},
    "why": {"operationId": "explain_task", "parameters": ID},
    "cancel": {"operationId": "cancel_task", "parameters": ID},
    "cancel_unchanged": {"operationId": "cancel_task", "parameters": ID | {"if-match": ETAG}},
    "retry": {"operationId": "retry_task", "parameters": ID},
    "delete": {"operationId": "delete_task", "parameters": ID},
    "roadmap": {
        "operationId": "get_roadmap",
        "parameters": {"roadmap_id": "$response.body#/result/roadmap_id"},
    },
    "first_task": {"operationId": "get_task", "parameters": FIRST},
    "next_tasks": {
        "operationId": "list_tasks",
        "parameters": {"cursor": "$response.body#/next_cursor"},
    },
    "task_of_roadmap": {
        "operationId": "get_task",
        "parameters": {"task_id": "$response.body#/task_id"},
    },
    "letter": {"operationId": "get_letter", "parameters": LETTER},
    "replay_letter": {"operationId": "replay_letter", "parameters": LETTER},
    "discard_letter": {"operationId": "discard_letter", "parameters": LETTER},
    "example": {"operationId": "get_letter", "parameters": EXAMPLE},
    "replay_example": {"operationId": "replay_letter", "parameters": EXAMPLE},
    "discard_example": {"operationId": "discard_letter", "parameters": EXAMPLE},
    "act": {"operationId": "get_act", "parameters": {"number": "$response.body#/act"}},
    "first_act": {"operationId": "get_act", "parameters": {"number": "$response.body#/data/0/id"}},
    "drain": {
        "operationId": "drain_worker",
        "parameters": {"worker_id": "$response.body#/data/0/id"},
    },
    "undrain": {"operationId": "undrain_worker", "parameters": {"worker_id": "$response.body#/id"}},
    "replay": {"operationId": "replay_letters"},
    "discard": {"operationId": "discard_letters"},
}
for _name in ("replay", "discard"):
    LINKS[_name]["requestBody"] = {
        "preview_token": "$response.body#/preview_token",
        "expected_count": "$response.body#/matched",
        "reason": "as previewed",
    }

LOOK_LINKS = ("task", "news", "events", "attempts", "why")
ENDED_LINKS = (*LOOK_LINKS, "retry", "delete", "roadmap")
OPEN_LINKS = (*LOOK_LINKS, "cancel", "cancel_unchanged")
LETTER_LINKS = (
    "letter",
    "replay_letter",
    "discard_letter",
    "example",
    "replay_example",
    "discard_example",
)
LOOK = ("ETag", "Retry-After?", "Preference-Applied?")
MADE = ("Location", "ETag", "Retry-After?", "Preference-Applied?", "Idempotent-Replayed?")

_MADE = {
    201: Good("It has ended while `Prefer: wait` held the answer.", MADE, ENDED_LINKS),
    202: Good("Accepted: it is committed, and from now on never unknown.", MADE, OPEN_LINKS),
}
_PAGE = ("Link?",)

GOOD: dict[str, dict[int, Good]] = {
    "submit_task": _MADE,
    "retry_task": _MADE,
    "submit_batch": {
        202: Good(
            "What became of each submission, in the order of the request.",
            ("Idempotent-Replayed?",),
        )
    },
    "list_tasks": {200: Good("A page of tasks.", ("Link",), ("first_task", "next_tasks"))},
    "get_task": {
        200: Good("The task as it is now.", LOOK, (*OPEN_LINKS, "retry", "delete", "roadmap")),
        304: Good("The task still has one of the ETags of `If-None-Match`.", LOOK, body=False),
    },
    "cancel_task": {
        200: Good("It is canceled.", ("Location", "ETag"), ENDED_LINKS),
        202: Good(
            "It runs; its worker was asked to let go.",
            ("Location", "ETag", "Retry-After"),
            OPEN_LINKS,
        ),
    },
    "delete_task": {204: Good("It is erased; its id answers 410 from now on.", body=False)},
    "get_attempts": {200: Good("The attempts, the first one first.")},
    "get_events": {
        200: Good("A page of its history; or, as text/event-stream, the stream of it.", _PAGE),
        204: Good("A stream of a task that has ended, and nothing is left to tell.", body=False),
    },
    "get_roadmap": {200: Good("The roadmap.", (), ("task_of_roadmap",))},
    "validate_task": {200: Good("It would be accepted; nothing was written.")},
    "get_overview": {200: Good("All figures, of one snapshot.")},
    "list_messages": {200: Good("A page of outbox messages.", _PAGE)},
    "pause_outbox": {200: Good("The relays hold back.", (), ("act",))},
    "resume_outbox": {200: Good("The relays go on.", (), ("act",))},
    "pause_intake": {200: Good("No new tasks are accepted.", (), ("act",))},
    "resume_intake": {200: Good("Tasks are accepted again.", (), ("act",))},
    "list_letters": {200: Good("Groups, or a page of dead letters.", _PAGE, LETTER_LINKS)},
    "get_letter": {200: Good("The dead letter, its task, and what was done.")},
    "replay_letter": {200: Good("What was done.", (), ("act",))},
    "discard_letter": {200: Good("What was done.", (), ("act",))},
    "replay_letters": {200: Good("What would be, or was done.", (), ("act", "replay"))},
    "discard_letters": {200: Good("What would be, or was done.", (), ("act", "discard"))},
    "list_acts": {200: Good("A page of acts.", _PAGE, ("first_act",))},
    "get_act": {200: Good("The act.")},
    "list_workers": {200: Good("The workers.", (), ("drain",))},
    "drain_worker": {200: Good("The worker; it was told.", (), ("undrain",))},
    "undrain_worker": {200: Good("The worker; it was told.")},
    "list_relays": {200: Good("The relays.")},
    "list_queues": {200: Good("The queues.")},
    "pause_queue": {200: Good("The relays hold back.", (), ("act",))},
    "resume_queue": {200: Good("The relays go on.", (), ("act",))},
    "explain_task": {200: Good("What it waits for.")},
}

HEADERS: dict[str, dict[str, Any]] = {
    "Location": {
        "description": "The task.",
        "schema": {"type": "string", "format": "uri-reference"},
        "example": "/v1/tasks/01a20a9f-2bbd-728b-87a2-3d216770b6f7",
    },
    "ETag": {
        "description": "Changes with the task's version, and when its message is published.",
        "schema": {"type": "string", "pattern": r'^"\d+\.[01]"$'},
        "example": '"3.0"',
    },
    "Retry-After": {
        "description": "Seconds after which it makes sense to ask again.",
        "schema": {"type": "integer", "minimum": 1},
        "example": 1,
    },
    "Link": {
        "description": "RFC 8288: the first page, and the next one if there is more.",
        "schema": {"type": "string"},
        "example": '</v1/tasks?limit=20&cursor=eyJiZWZvcmUiOiIifQ>; rel="next"',
    },
    "Preference-Applied": {
        "description": "RFC 7240: the answer was held back for news, up to so many seconds.",
        "schema": {"type": "string", "pattern": r"^wait=\d+$"},
        "example": "wait=30",
    },
    "Idempotent-Replayed": {
        "description": "The task was made by an earlier request under the same key.",
        "schema": {"type": "string", "enum": ["true"]},
        "example": "true",
    },
    "Request-Id": {
        "description": "Of this request, also in the logs: the caller's own, or a new one.",
        "schema": {"type": "string"},
        "example": "01a20a9f-2b90-7c3e-9d51-0c8c3f1f8a11",
    },
    "RateLimit": {
        "description": "What is left (r) until the window ends, in so many seconds (t).",
        "schema": {"type": "string"},
        "example": '"default";r=59999;t=60',
    },
    "RateLimit-Policy": {
        "description": "Requests allowed (q) in a window of so many seconds (w).",
        "schema": {"type": "string"},
        "example": '"default";q=60000;w=60',
    },
    "Server-Timing": {
        "description": "Milliseconds that the request took: in the database, and in all.",
        "schema": {"type": "string"},
        "example": "db;dur=1.9, total;dur=3.2",
    },
    "Connection": {
        "description": "`close`, when the server hangs up.",
        "schema": {"type": "string"},
        "example": "close",
    },
}

ON_EVERY_ANSWER = ("Request-Id", "RateLimit?", "RateLimit-Policy?", "Server-Timing?")
ON_PROBLEMS: dict[int, tuple[str, ...]] = {429: ("Retry-After",), 503: ("Retry-After",)}
ON_PROBLEMS[409] = ("Retry-After?",)


def headers_of(names: tuple[str, ...]) -> dict[str, Any]:
    """As an answer of the document has them."""
    found = {}
    for name in names:
        plain = name.removesuffix("?")
        reference = {"$ref": f"#/components/headers/{plain}"}
        found[plain] = reference if plain != name else HEADERS[plain] | {"required": True}
    return found
