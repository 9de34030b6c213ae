"""What stands behind each problem type: what has happened, what to do, and how it looks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from api_service.problems import Problem, document_of

TASK = "01a20a9f-2bbd-728b-87a2-3d216770b6f7"
REQUEST = "01a20a9f-2b90-7c3e-9d51-0c8c3f1f8a11"


@dataclass(frozen=True, slots=True)
class Explanation:
    happened: str
    remedy: str
    detail: str
    """Of the example; the type's advice is added to it."""
    errors: tuple[Mapping[str, str], ...] = ()


def example_of(slug: str) -> dict[str, Any]:
    """The document as it goes over HTTP. KeyError for a slug that is not one of ours."""
    told = EXPLANATIONS[slug]
    problem = Problem(slug, told.detail, errors=list(told.errors))
    return document_of(problem) | {"request_id": REQUEST}


def _wrong(pointer: str, detail: str) -> tuple[Mapping[str, str], ...]:
    return ({"pointer": pointer, "detail": detail},)


EXPLANATIONS = {
    "malformed-request": Explanation(
        "The bytes that arrived are not a request that can be read: the body is not JSON, or it is "
        "nested deeper than 32 levels, or the request is not HTTP/1.1 as RFC 9112 has it (two "
        "lengths, a length beside chunks, a line feed without a carriage return).",
        "Look at what your program really sends; `curl -v` shows it. The detail names the "
        "character at which the JSON ends to be JSON. A proxy that rewrites requests is a frequent "
        "cause of the other cases. Nothing was done.",
        "The body is not JSON from character 17 on.",
    ),
    "invalid-header": Explanation(
        "A header carries a value that cannot be meant: an `Idempotency-Key` that is empty, longer "
        "than 255 characters or not printable ASCII, or a `Last-Event-ID` that is no number.",
        "Send the header as `errors` says, or leave it out. For `Last-Event-ID`, send the last "
        "`id:` that the stream gave you, unchanged: a guess would silently repeat events or pass "
        "over some.",
        "Last-Event-ID must be the id of an event: a number.",
        _wrong("/header/Last-Event-ID", "must be the id of an event: a number"),
    ),
    "invalid-cursor": Explanation(
        "The cursor in the query is not one that this API has given out, or it belongs to another "
        "list, or it was cut off on its way.",
        "Begin again without a cursor, then follow `next_cursor` or the `Link` header as they are. "
        "A cursor is opaque: it is never put together by hand, and it is percent-encoded in an "
        "address.",
        "The cursor cannot be read.",
        _wrong("/query/cursor", "is not a cursor of this list"),
    ),
    "task-not-found": Explanation(
        "There is no task with this id here. A task that was accepted is never unknown: not while "
        "it waits, not after it has failed. Only the retention that your operator has set takes "
        "ended tasks away.",
        "Compare the id with that in the answer to the submission, and the address with that of "
        "the server you submitted to. If the answer to a submission never reached you, submit it "
        "again with the same `Idempotency-Key`: if there is a task already, you get that one.",
        f"There is no task {TASK}.",
    ),
    "roadmap-not-found": Explanation(
        "There is no roadmap with this id. Roadmaps have ids of their own; a task's id is not its "
        "roadmap's.",
        "Read the task: once it has succeeded, `result.roadmap_id` and `links.roadmap` name its "
        "roadmap.",
        f"There is no roadmap {TASK}.",
    ),
    "dead-letter-not-found": Explanation(
        "There is no dead letter with this number. It may have been deleted with its task, after "
        "the retention.",
        "List those that are open with GET /v1/ops/dead-letters?group_by=none, and those that were "
        "decided on with resolved=true.",
        "There is no dead letter 4711.",
    ),
    "act-not-found": Explanation(
        "No act of an operator has this number.",
        "List them with GET /v1/ops/audit; the answer to an act names its number.",
        "There is no act 4711.",
    ),
    "process-not-found": Explanation(
        "No worker with this id has been seen within the last day. A process gets a new id each "
        "time it starts.",
        "Look for it in GET /v1/ops/workers by its name, which is host and process id, and take "
        "the id from there.",
        f"There is no worker {TASK}.",
    ),
    "not-found": Explanation(
        "Nothing is served at this address: it is misspelt, of another version, or it names "
        "something that does not exist.",
        "Look the address up in /docs or /openapi.json. Addresses have no slash at their end, and "
        "those of the API begin with /v1.",
        "/v1/task is not an address of this API.",
    ),
    "method-not-allowed": Explanation(
        "The address exists, but not with this method.",
        "The `Allow` header of the answer lists the methods that it takes. To stop a task, POST to "
        "its `/cancel`; DELETE erases one that has ended.",
        f"PUT is not offered at /v1/tasks/{TASK}.",
    ),
    "task-already-ended": Explanation(
        "The task has succeeded or failed, so there is nothing left to cancel. How a task ended "
        "never changes.",
        "Nothing needs to be done. To run it once more, POST to its `/retry`; to erase what it "
        "holds, DELETE it.",
        f"Task {TASK} has succeeded.",
    ),
    "idempotency-in-progress": Explanation(
        "Another request with the same `Idempotency-Key` is being committed at this very moment, "
        "so it is not known yet what the answer to yours is.",
        "Send the same request again after `Retry-After` seconds, with the same key: you get the "
        "task that the other one has made. Do not change the key, or there will be two tasks.",
        "A request under the same key has not been committed yet.",
    ),
    "task-not-ended": Explanation(
        "The task still waits or runs. Only a task that has ended can be retried or erased.",
        "Wait for its end with `Prefer: wait=60` or over its events, or cancel it first.",
        f"Task {TASK} is running.",
    ),
    "selection-changed": Explanation(
        "Between the dry run and the act, the set of dead letters has changed: some were decided "
        "on by somebody else, or new ones have joined. Nothing was done.",
        "Run it with `dry_run` again, look at what is meant now, and act with its token and its "
        "count.",
        "13 dead letters match now.",
    ),
    "nothing-to-do": Explanation(
        "What was asked for cannot have an effect: the dead letter was decided on already, or its "
        "task runs, is missing or was deleted.",
        "Look at it again; its `resolution` and `act_id` tell who decided what. A dead letter is "
        "decided on once.",
        "Somebody else has decided on it.",
    ),
    "task-deleted": Explanation(
        "The task existed, and somebody has deleted it: what the learner wrote, the result and the "
        "history are erased. That there was a task is kept, so that its id is never taken for an "
        "unknown one.",
        "It cannot be brought back. Submit the goal again if the roadmap is needed.",
        f"Task {TASK} was deleted.",
    ),
    "precondition-failed": Explanation(
        "`If-Match` names an ETag that the task no longer has: it went on after you had read it. "
        "Nothing was done.",
        "Read the task again and decide with what it is now. Send the new ETag along, or leave "
        "`If-Match` out if it does not matter.",
        f"Task {TASK} is at version 4.",
    ),
    "body-too-large": Explanation(
        "The body has more bytes than the server takes: 64 KiB unless your operator has changed "
        "WAYMARK_API_MAX_BODY. It was not read to its end.",
        "A task needs a few kilobytes. Put many tasks into several batches, and keep larger data "
        "of your own elsewhere, with its key in `metadata`.",
        "The body may have 65536 bytes.",
    ),
    "unsupported-media-type": Explanation(
        "The body was not sent as JSON. Forms and plain text are not taken: a web page of another "
        "origin could send those without being asked.",
        "Send `Content-Type: application/json`. With curl that is "
        "`-H 'Content-Type: application/json'`, or `--json` instead of `-d`.",
        "Content-Type is text/plain.",
    ),
    "validation-failed": Explanation(
        "The request can be read, but some of it breaks a rule: a field is missing, unknown, of "
        "another type or out of its range. Nothing was done.",
        "Each of `errors` has a `pointer` and a `detail`. A pointer such as /input/goal leads into "
        "the body; /query/…, /path/… and /header/… name a parameter. Correct them all and send the "
        "request again; the same `Idempotency-Key` may be used, for nothing was kept under it.",
        "/input/goal is required.",
        _wrong("/input/goal", "is required"),
    ),
    "idempotency-key-reused": Explanation(
        "The `Idempotency-Key` was used before, for another request. A key stands for one request: "
        "its method, its address and its body, however the JSON is written.",
        "Choose a new key for each new request, for instance a UUID, and keep it only to repeat "
        "that very request. Keys are kept for at least 72 hours.",
        f"The key was used for task {TASK}.",
    ),
    "batch-rejected": Explanation(
        "At least one submission of the batch breaks a rule, and the batch was to be accepted as a "
        "whole or not at all. No task was made.",
        "Correct what `errors` points to; /tasks/3/input/goal is the goal of the fourth. Or send "
        "`atomic: false`: then those that are right are accepted, and each of the others gets a "
        "problem of its own.",
        "1 of 3 submissions break a rule.",
        _wrong("/tasks/1/input/goal", "is required"),
    ),
    "header-too-large": Explanation(
        "The head of the request has more than 100 headers or 32 KiB, or its address more than "
        "8 KiB.",
        "Large cookies meant for other sites on the same host are the usual cause; this API needs "
        "none. Send searches that do not fit into an address in smaller parts.",
        "A head may have 100 headers.",
    ),
    "request-timeout": Explanation(
        "The request did not arrive completely within the time that the server waits "
        "(WAYMARK_API_READ_TIMEOUT). A connection that trickles keeps a place from others.",
        "Send the request again, in one go. A client that announces more bytes with "
        "`Content-Length` than it sends waits in vain: check how the length is counted (bytes, not "
        "characters).",
        "Its head was not complete within 10 s.",
    ),
    "rate-limited": Explanation(
        "You have sent more requests in the current window than one caller may. RateLimit-Policy "
        "tells how many are allowed (`q`) in how many seconds (`w`), RateLimit what is left (`r`) "
        "and when the window ends (`t`). This request was not read.",
        "Go on after `Retry-After` seconds. Instead of asking often, let the server hold the "
        "answer with `Prefer: wait=60`, follow the events as a stream, and submit in batches.",
        "You may send 60000 requests in 60 seconds.",
    ),
    "too-many-streams": Explanation(
        "You keep as many streams and waits open as one caller may (WAYMARK_API_STREAMS).",
        "Close streams of tasks that have ended; they end with `stream.end`. To watch many tasks, "
        "read their list or their events page by page.",
        "1000 of yours are open.",
    ),
    "internal-error": Explanation(
        "The server has a fault. It is in its log under the `request_id` of this answer, with all "
        "that is needed to find the cause.",
        "Tell your operator the `request_id`. The request may be repeated with the same "
        "`Idempotency-Key`: if it was carried out after all, you get the task that it has made.",
        "The error is logged.",
    ),
    "database-unavailable": Explanation(
        "PostgreSQL did not answer, or the connection broke. Whether the request was carried out "
        "is not known; what was accepted before is safe.",
        "Repeat it after `Retry-After` seconds. With the same `Idempotency-Key` nothing is done "
        "twice. If it lasts, your operator finds the reason in the log under "
        "`database_unavailable`.",
        "Whether the request was carried out is not known.",
    ),
    "intake-paused": Explanation(
        "An operator has paused the intake, for a deploy or to let a backlog shrink. What was "
        "accepted goes on, and can be read, canceled and streamed.",
        "Repeat the submission after `Retry-After` seconds with the same `Idempotency-Key`. "
        "Operators see who paused it and why in GET /v1/ops/overview, and end it with POST "
        "/v1/ops/intake/resume.",
        "The submission was not accepted.",
    ),
    "overloaded": Explanation(
        "The server works on as many requests as it can and refuses more at once, instead of "
        "letting all of them wait. Nothing was done.",
        "Repeat the request after `Retry-After` seconds, and wait twice as long each time it is "
        "refused again. Operators run more API processes, or raise WAYMARK_API_IN_FLIGHT.",
        "1000 requests are being worked on.",
    ),
    "planner-unavailable": Explanation(
        "The planner that would estimate this request did not answer in time. Whether the goal "
        "would be understood is therefore not known.",
        "Repeat it after `Retry-After` seconds, or submit the task without an estimate: accepting "
        "needs no planner.",
        "The planner did not answer in time.",
    ),
    "not-ready": Explanation(
        "This process lives, but it does not reach PostgreSQL, so it could not commit a task.",
        "A load balancer sends requests elsewhere until /readyz answers with 200. If no process is "
        "ready, look at PostgreSQL.",
        "PostgreSQL does not answer.",
    ),
}
