"""One JSON line per event on stderr. The names that others rely on are listed here, once."""

from __future__ import annotations

import logging
import os
import sys
from typing import Final

import structlog

from shared.settings import Settings

TASK_COMMITTED: Final = "task_created_and_committed"
TASK_VERIFIED: Final = "task_persistence_verified"
TASK_DISPATCHED: Final = "task_dispatched"
TASK_FOUND: Final = "task_record_found"
TASK_SUCCEEDED: Final = "task_succeeded"


def set_up_logs(settings: Settings, service: str) -> None:
    """Send our events and those of libraries through one JSON renderer."""
    shared_steps: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _named(service),
    ]
    structlog.configure(
        processors=[*shared_steps, structlog.processors.JSONRenderer(default=str)],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[settings.log_level.upper()]
        ),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared_steps,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(default=str),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def _named(service: str) -> structlog.typing.Processor:
    pid = os.getpid()

    def add(
        _logger: object, _method: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        event["service"] = service
        event["pid"] = pid
        return event

    return add
