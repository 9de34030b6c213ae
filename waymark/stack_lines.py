"""Queues, workers, relays and the whole stack for people: one line each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from waymark.amounts import number_of, seconds
from waymark.errors import Document
from waymark.tables import Clock, print_facts, print_table, span

WORKER_HEADINGS = ("worker", "state", "running", "finished", "each takes", "seen", "tasks")


def print_queues(queues: Sequence[Document], clock: Clock) -> None:
    for number, one in enumerate(queues):
        if number:
            print()
        print_facts(queue_facts(one, clock))


def print_workers(workers: Sequence[Document], clock: Clock) -> None:
    print_table(WORKER_HEADINGS, [worker_row(one, clock) for one in workers])


def print_relays(relays: Sequence[Document], clock: Clock) -> None:
    headings = ("relay", "state", "published", "seen", "redis")
    print_table(headings, [relay_row(one, clock) for one in relays])


def print_overview(overview: Document, clock: Clock) -> None:
    print_facts(overview_facts(overview, clock))


def queue_facts(queue: Document, clock: Clock) -> Mapping[str, str]:
    oldest, wait = queue["oldest_waiting_seconds"], queue["estimated_wait_seconds"]
    depth = queue["redis_depth"]
    room = f"{number_of(queue['slots'], 'slot')} of {number_of(queue['workers'], 'worker')}"
    return {
        "queue": queue["name"],
        "waiting": _amount(queue["waiting"], oldest and f"the oldest for {span(oldest)}"),
        "delayed": f"{queue['delayed']:,}",
        "in flight": _amount(queue["in_flight"], depth is not None and f"{depth:,} in Redis"),
        "running": _amount(queue["running"], room),
        "a new task": "unknown" if wait is None else f"waits about {span(wait)}",
        "relays": pause_of(queue["paused"], clock),
    }


def worker_row(worker: Document, clock: Clock) -> tuple[str, ...]:
    mean = worker["mean_seconds"]
    tasks = ", ".join(one["task_id"] for one in worker["tasks"])
    return (
        *(worker["name"], worker["state"], f"{worker['running']} of {worker['slots']}"),
        *(f"{worker['finished']:,}", "" if mean is None else seconds(mean)),
        *(clock.said(worker["seen_at"]), tasks),
    )


def relay_row(relay: Document, clock: Clock) -> tuple[str, ...]:
    redis = relay["redis"]
    answers = f"answers, {redis['depth'] or 0:,} wait there" if redis["answers"] else "is silent"
    told = f"{answers}: {redis['reason']}" if redis["reason"] else answers
    state = relay["state"].replace("_", " ")
    seen = clock.said(relay["seen_at"])
    return relay["name"], state, f"{relay['published']:,}", seen, told


def overview_facts(overview: Document, clock: Clock) -> Mapping[str, str]:
    tasks, outbox, letters = (overview[name] for name in ("tasks", "outbox", "dead_letters"))
    oldest = outbox["oldest_waiting_seconds"]
    waits = f"{outbox['waiting']:,} waiting"
    facts = {
        "open": f"{tasks['queued']:,} queued, {tasks['running']:,} running",
        "ledger": _ledger(overview["conservation"]),
        "outbox": f"{waits if oldest is None else f'{waits} for {span(oldest)}'}, "
        f"{outbox['delayed']:,} delayed, {outbox['in_flight']:,} in flight",
        "dead letters": f"{letters['open']:,} open in {number_of(letters['groups'], 'group')}"
        if letters["open"]
        else "none open",
        "alive": f"{number_of(overview['relays'], 'relay')}, "
        f"{number_of(overview['workers'], 'worker')}",
        "relays": pause_of(overview["paused"], clock),
    }
    if overview["intake_paused"]:
        facts["intake"] = pause_of(overview["intake_paused"], clock)
    return facts


def _ledger(conservation: Document) -> str:
    if conservation["holds"]:
        return str(conservation["sentence"])
    named = "; ".join(f"{one['task_id']} {one['what']}" for one in conservation["differences"])
    return f"does not hold: {conservation['sentence']}; {named}"


def pause_of(paused: Document | None, clock: Clock) -> str:
    if paused is None:
        return "not paused"
    return f"paused {clock.said(paused['at'])} by {paused['by']}: {paused['reason']}"


def _amount(number: int, remark: str | bool | None) -> str:
    return f"{number:,}, {remark}" if remark else f"{number:,}"
