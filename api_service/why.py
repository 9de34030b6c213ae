"""Why a task does not go on: one sentence that says what it waits for, and what can be done."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

from api_service.facts import Facts, Lease, Lock, Message, Relays, Workers
from api_service.process_schemas import WaitsFor

PASSING = 1.0
"""Seconds for which a row may be locked before that is worth a word: a claim takes far less."""


@dataclass(frozen=True, slots=True)
class Reason:
    waits_for: WaitsFor
    sentence: str


def why(facts: Facts) -> Reason:
    if facts.status.terminal:
        at = f" at {_moment(facts.finished_at)}" if facts.finished_at else ""
        return Reason("nothing", f"It waits for nothing: it ended as {facts.status}{at}.")
    if facts.lock and facts.lock.seconds >= PASSING:
        return _locked(facts.lock)
    if facts.lease:
        return _leased(facts, facts.lease)
    if facts.message is None:
        return Reason(
            "operator",
            "It is queued without an outbox message, which nothing here ever writes, so nothing "
            "moves it on. Cancel it, submit it again, and look at /v1/ops/overview for others.",
        )
    match facts.message.state:
        case "delayed":
            return _delayed(facts, facts.message)
        case "waiting":
            return _unpublished(facts, facts.message)
        case "dispatched":
            return _published(facts, facts.message)


def _locked(lock: Lock) -> Reason:
    return Reason(
        "row_lock",
        f"A session of {lock.session or 'an unknown program'} has locked its row for "
        f"{_span(lock.seconds)}. It goes on when that transaction ends; if its process hangs, end "
        f"it, or the session with SELECT pg_terminate_backend({lock.pid}).",
    )


# --- it runs ---


def _leased(facts: Facts, lease: Lease) -> Reason:
    next_step = "it ends as canceled" if facts.canceling_seconds is not None else "it runs again"
    if lease.seconds_left <= 0:
        return _lapsed(facts, lease, next_step)
    if lease.gone and lease.unseen_seconds is not None:
        return Reason(
            "lease",
            f"Its worker {lease.owner} was last seen {_span(lease.unseen_seconds)} ago. Unless it "
            f"comes back, {next_step} when its lease runs out, in {_span(lease.seconds_left)}.",
        )
    if facts.canceling_seconds is not None:
        return Reason(
            "worker_to_cancel",
            f"It is being canceled: {lease.owner} was asked {_span(facts.canceling_seconds)} ago "
            "and lets go of it within two seconds, or else when its lease runs out, in "
            f"{_span(lease.seconds_left)}.",
        )
    return Reason(
        "generation",
        f"It waits for nothing but its generation: {lease.owner} has been at it for "
        f"{_span(lease.running_seconds)}{f' ({facts.progress})' if facts.progress else ''}.",
    )


def _lapsed(facts: Facts, lease: Lease, next_step: str) -> Reason:
    lapsed = f"The lease of {lease.owner} ran out {_span(-lease.seconds_left)} ago"
    if not facts.relays.alive:
        return Reason("relay", f"{lapsed}; {next_step} once a relay is there: {_no(facts.relays)}.")
    return Reason("lease", f"{lapsed}; {next_step} as soon as a relay comes by, within seconds.")


# --- it is queued ---


def _delayed(facts: Facts, message: Message) -> Reason:
    due = _span(message.seconds)
    if facts.put_off and facts.put_off.get("reason") == "retry":
        code = facts.put_off.get("code", "an error")
        return Reason(
            "due_time", f"Its last attempt ended with {code}; the next one may begin in {due}."
        )
    if facts.not_before:
        return Reason(
            "due_time",
            f"It was submitted not to begin before {_moment(facts.not_before)}: in {due}.",
        )
    return Reason("due_time", f"It is due in {due}; nothing needs to be done.")


def _unpublished(facts: Facts, message: Message) -> Reason:
    if held := facts.paused:
        return Reason(
            "paused_relays",
            f"{held.by} paused the relays {_span(held.seconds)} ago ({held.reason}); "
            "`waymark outbox resume` lets them go on.",
        )
    if not facts.relays.alive:
        return Reason("relay", f"It waits for a relay: {_no(facts.relays)}.")
    if not facts.relays.with_redis:
        return Reason(
            "redis",
            f"It waits for Redis, which answers no relay ({facts.relays.redis_reason}): start it, "
            "or correct WAYMARK_REDIS_URL. Nothing is lost meanwhile.",
        )
    if nobody := _nobody(facts.workers):
        return nobody
    if message.position > facts.workers.slots - facts.workers.busy:
        return _behind_others(facts.workers, message.position)
    return Reason("relay", "It is its turn: a relay publishes it within about a second.")


def _published(facts: Facts, message: Message) -> Reason:
    published = f"It was published {_span(message.seconds)} ago"
    if facts.relays.alive and not facts.relays.with_redis:
        return Reason(
            "redis",
            f"{published}, and Redis does not answer any more ({facts.relays.redis_reason}): start "
            "it again. What it has forgotten is published anew.",
        )
    if nobody := _nobody(facts.workers):
        return nobody
    if facts.workers.busy >= facts.workers.slots:
        return Reason(
            "worker",
            f"{published} and waits for a free slot: all {facts.workers.slots} are busy. "
            "Another `python -m worker_service` makes it quicker.",
        )
    return Reason(
        "worker",
        f"{published}: a worker with a free slot takes it in a moment. If none does, it is "
        "published again after a minute.",
    )


def _nobody(workers: Workers) -> Reason | None:
    """Why no worker at all takes anything, if that is so."""
    if not workers.alive:
        return Reason(
            "worker",
            f"It waits for a worker: {_none_seen(workers.unseen_seconds)}; start one with "
            "`python -m worker_service`.",
        )
    if workers.draining == workers.alive:
        all_of_them = "the only one drains" if workers.alive == 1 else f"all {workers.alive} drain"
        return Reason(
            "worker",
            f"It waits for a worker: {all_of_them}. Start another with "
            "`python -m worker_service`, or let one go on: `waymark workers undrain`.",
        )
    return None


def _behind_others(workers: Workers, position: int) -> Reason:
    sentence = (
        f"It waits for its turn: it is number {position} in its queue, and {workers.busy} of "
        f"{workers.slots} slots are busy"
    )
    if workers.mean_seconds is not None:
        seconds = math.ceil(position / workers.slots) * workers.mean_seconds
        sentence += f", so about {_span(seconds)} at their pace"
    return Reason("turn", f"{sentence}. More `python -m worker_service` make it quicker.")


def _no(relays: Relays) -> str:
    return f"{_none_seen(relays.unseen_seconds)}; start one with `python -m relay_service`"


def _none_seen(seconds: float | None) -> str:
    return "none is running" if seconds is None else f"none has been seen for {_span(seconds)}"


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


def _span(seconds: float) -> str:
    seconds = max(seconds, 0)
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 600:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 36_000 else f"{seconds / 3600:.0f} h"
