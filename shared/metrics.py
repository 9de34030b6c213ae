"""Every metric of Waymark. ``shared/probes.py`` serves them; nothing else is called the same."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

# --- what happened ---

ACCEPTED = Counter("waymark_tasks_accepted", "Submissions committed, replays not counted.")
VERDICTS = Counter("waymark_outbox_verdicts", "Verdicts of the relay.", ["verdict", "reason"])
PUBLISHED = Counter("waymark_outbox_published", "Messages handed to Redis.", ["result"])
REARMED = Counter("waymark_outbox_rearmed", "Doorbells to be rung again.", ["reason"])
TASK_MISSING = Counter(
    "waymark_task_missing", "Messages whose task was not found. Must stay 0: page somebody."
)
STARTED = Counter("waymark_tasks_started", "Leases acquired.", ["kind"])
ENDED = Counter("waymark_attempts_ended", "What became of started generations.", ["outcome"])
STEPS = Counter(
    "waymark_steps",
    "Runs of generations' steps by what came of them. What an earlier attempt kept is not run.",
    ["step", "outcome"],
)
MODEL_CALLS = Counter("waymark_model_calls", "Requests to the model, answered or not.")
MODEL_TOKENS = Counter("waymark_model_tokens", "Tokens read and written by it.", ["direction"])
MODEL_COST = Counter("waymark_model_cost_usd", "What they cost, as far as prices are set.")
SWEEPS = Counter(
    "waymark_sweeps",
    "Rounds of the sweeper's duties; one that waits could not reach what it needs.",
    ["duty", "result"],
)
DELETED = Counter(
    "waymark_retention_deleted", "Rows deleted because WAYMARK_RETENTION_DAYS is over.", ["table"]
)

# --- how it went ---

PUBLISH_DELAY = Histogram(
    "waymark_outbox_publish_delay_seconds",
    "From the moment a message is due, its commit as a rule, until Redis has it.",
    buckets=(
        *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
        *(1, 2.5, 5, 10, 30, 60, 120, 300, 600),
    ),
)
BATCH_SIZE = Histogram(
    "waymark_outbox_batch_size",
    "Messages that one transaction of the relay handed over.",
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000),
)

# --- how it is now, as this process last saw it ---

OLDEST_PENDING = Gauge(
    "waymark_outbox_oldest_pending_seconds",
    "How long the oldest message has been due and is not in Redis. The figure to alarm on: it "
    "grows when nothing is carried over, whatever the reason. Take the maximum over all relays.",
)
PENDING = Gauge(
    "waymark_outbox_pending_messages",
    "Messages not in Redis, those due later included. Each relay sees all: take the maximum.",
)
IN_FLIGHT = Gauge(
    "waymark_outbox_in_flight_messages",
    "Messages in Redis that no worker has taken yet. Each relay sees all: take the maximum.",
)
DEAD_OPEN = Gauge(
    "waymark_dead_letters_open",
    "Dead letters that wait for a person's decision. Each relay sees all: take the maximum.",
)
BREAKER_OPEN = Gauge(
    "waymark_relay_breaker_open",
    "1 while the relay rests because PostgreSQL or Redis failed it, else 0.",
)
PAUSED = Gauge("waymark_relay_paused", "1 while an operator holds the relays back, else 0.")
WINDOW = Gauge("waymark_relay_window_messages", "How many messages may wait in Redis at once.")
DEPTH = Gauge("waymark_relay_depth_messages", "How many messages wait in Redis.")
SUBMISSION_BATCH_SIZE = Histogram(
    "waymark_submission_batch_size",
    "Submissions that shared one commit.",
    buckets=(1, 2, 5, 10, 20, 50, 100, 256),
)
