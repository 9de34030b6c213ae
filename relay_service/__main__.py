"""Run one relay from the environment: ``python -m relay_service``."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog
import uvloop
from sqlalchemy import text

from relay_service.gauges import Gauges
from relay_service.housekeeping import Housekeeper
from relay_service.outbox import PLANNING
from relay_service.publisher import Publisher, connect, will_pass
from relay_service.relay import Relay
from relay_service.sweeper import Duty, Sweeper
from relay_service.wakeup import Wakeup
from shared import failpoints
from shared.database import Database, reason, wait_for_database
from shared.errors import WaymarkError
from shared.logs import set_up_logs
from shared.migrate import REVISION
from shared.presence import Presence
from shared.probes import Probes
from shared.process import announce_ready, refuse_to_start
from shared.settings import Settings, load_settings

log = structlog.get_logger()

TICK = 30.0
"""Seconds without a turn of the loop after which the relay counts as hung; its longest pause
between two turns is 5, and what it waits for in one turn has time limits that sum up to less."""


def main() -> int:
    try:
        settings = load_settings()
        settings.require_redis()
        set_up_logs(settings, "relay")
        failpoints.arm(settings)
        uvloop.run(_serve(settings))
    except WaymarkError as error:
        return refuse_to_start(error)
    return 0


async def _serve(settings: Settings) -> None:
    database = Database(settings, "relay", PLANNING)
    client = connect(settings)
    wakeup = Wakeup(database)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, wakeup.stop)
    try:
        deployment_id = await wait_for_database(database, REVISION, beside=1)
        relay = Relay(settings, database, Publisher(client), wakeup, deployment_id)
        probes = Probes(settings)
        beat = probes.pulse("relay", within=TICK).beat
        probes.serve(ready={"PostgreSQL": partial(_ask, database), "Redis": client.ping})
        await _run(settings, relay, beat)
    finally:
        await client.aclose()
        await database.close()


async def _run(settings: Settings, relay: Relay, beat: Callable[[], None]) -> None:
    sweeper = Sweeper(settings, relay.database, relay.wakeup, relay.trust, relay.lookout.lanes)
    presence = Presence(relay.database, "relay", partial(_report, relay))
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(presence.run(relay.wakeup.stop_asked))  # also while Redis is away
            await _trust_redis(relay, beat)
            if relay.wakeup.stopping:
                return
            announce_ready(settings)
            log.info("relay_ready", deployment_id=relay.deployment_id)
            group.create_task(relay.wakeup.listen())
            group.create_task(sweeper.run(*_further_duties(settings, relay)))
            group.create_task(relay.run(beat))
    except* WaymarkError as errors:
        raise errors.exceptions[0] from None
    log.info("relay_stopped")


async def _trust_redis(relay: Relay, beat: Callable[[], None]) -> None:
    """Nothing is published before Redis is known to be ours; until it answers, we wait."""
    while not relay.wakeup.stopping:
        beat()
        try:
            await relay.trust.check()
        except Exception as error:
            if not will_pass(error):
                raise
            log.warning("relay_waits", reason=reason(error))
            await relay.wakeup.pause(1)
        else:
            return


async def _report(relay: Relay) -> dict[str, Any]:
    try:
        depth, _ = await relay.publisher.fill()
        answers: dict[str, Any] = {"answers": True, "depth": depth, "reason": None}
    except Exception as error:
        if not will_pass(error):
            raise
        answers = {"answers": False, "depth": None, "reason": reason(error)}
    return {"redis": answers, "paused": relay.paused, "published": relay.published}


def _further_duties(settings: Settings, relay: Relay) -> list[tuple[Duty, float]]:
    housekeeper = Housekeeper(settings, relay.database)

    async def delete_old() -> None:
        await housekeeper.run_once()
        while housekeeper.behind and not relay.wakeup.stopping:
            await relay.wakeup.pause(0.1)
            await housekeeper.run_once()

    duties: list[tuple[Duty, float]] = []
    if settings.retention_days is not None:
        duties.append((delete_old, 60))
    if settings.metrics_port is not None:
        duties.append((Gauges(relay.database).refresh, 15))
    return duties


async def _ask(database: Database) -> None:
    async with database.autocommit() as connection:
        await connection.execute(text("SELECT 1"))


if __name__ == "__main__":
    sys.exit(main())
