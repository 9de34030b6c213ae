"""Every counter of Waymark; served in Prometheus' format when WAYMARK_METRICS_PORT is set."""

from __future__ import annotations

from prometheus_client import Counter, start_http_server

from shared.errors import StartupError
from shared.settings import Settings

ACCEPTED = Counter("waymark_tasks_accepted", "Submissions committed, replays not counted.")
VERDICTS = Counter("waymark_outbox_verdicts", "Verdicts of the relay.", ["verdict", "reason"])
PUBLISHED = Counter("waymark_outbox_published", "Messages handed to Redis.", ["result"])
REARMED = Counter("waymark_outbox_rearmed", "Doorbells to be rung again.", ["reason"])
TASK_MISSING = Counter(
    "waymark_task_missing", "Messages whose task was not found. Must stay 0: page somebody."
)
STARTED = Counter("waymark_tasks_started", "Leases acquired.", ["kind"])
ENDED = Counter("waymark_attempts_ended", "What became of started generations.", ["outcome"])


def serve_metrics(settings: Settings) -> None:
    """Offer ``/metrics`` on its own port; loopback unless told otherwise."""
    if settings.metrics_port is None:
        return
    try:
        start_http_server(settings.metrics_port, addr=settings.metrics_host)
    except OSError as error:
        raise StartupError(
            f"cannot serve metrics on {settings.metrics_host}:{settings.metrics_port} "
            f"({error.strerror}): choose another port with WAYMARK_METRICS_PORT."
        ) from error
