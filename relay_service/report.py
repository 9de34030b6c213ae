"""What the relay tells operators about a batch: log lines and metrics, under the agreed names."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

import structlog

from relay_service.publisher import Result
from relay_service.verification import Judged
from shared import logs, metrics

log = structlog.get_logger()


def verified(judged: Judged) -> None:
    if judged.deliver:
        task_ids = [str(one.message.task_id) for one in judged.deliver]
        log.info(logs.TASK_VERIFIED, task_ids=task_ids)


def settled(judged: Judged, delivered: Mapping[UUID, Result]) -> None:
    if delivered:
        new = list(delivered.values()).count(Result.NEW)
        log.info(
            logs.TASK_DISPATCHED,
            task_ids=[str(task_id) for task_id in delivered],
            repeated=len(delivered) - new,
        )
        metrics.PUBLISHED.labels("new").inc(new)
        metrics.PUBLISHED.labels("repeated").inc(len(delivered) - new)
        metrics.BATCH_SIZE.observe(len(delivered))
        for one in judged.deliver:
            metrics.PUBLISH_DELAY.observe(one.message.waited)
    metrics.VERDICTS.labels("deliver", "due").inc(len(judged.deliver))
    for dropped in judged.drop:
        log.info("message_dropped", task_id=dropped.message.task_id, reason=dropped.reason)
        metrics.VERDICTS.labels("drop", dropped.reason).inc()
    for buried in judged.bury:
        log.error("message_buried", task_id=buried.message.task_id, reason=buried.reason)
        metrics.VERDICTS.labels("bury", buried.reason).inc()
        if buried.reason == "task_missing":
            metrics.TASK_MISSING.inc()
