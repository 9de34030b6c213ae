"""Run one relay from the environment: ``python -m relay_service``."""

from __future__ import annotations

import asyncio
import signal
import sys
from uuid import UUID

import structlog
import uvloop

from relay_service.publisher import Publisher, connect, will_pass
from relay_service.relay import Relay
from relay_service.sweeper import Sweeper
from relay_service.wakeup import Wakeup
from shared import failpoints
from shared.database import Database, reason, wait_for_database
from shared.errors import WaymarkError
from shared.logs import set_up_logs
from shared.metrics import serve_metrics
from shared.migrate import REVISION
from shared.process import announce_ready, refuse_to_start
from shared.settings import Settings, load_settings

log = structlog.get_logger()


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
    database = Database(settings, "relay")
    client = connect(settings)
    wakeup = Wakeup(database)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, wakeup.stop)
    try:
        deployment_id = await wait_for_database(database, REVISION)
        serve_metrics(settings)
        sweeper = Sweeper(settings, database, client, wakeup, deployment_id)
        await _trust_redis(sweeper, wakeup)
        relay = Relay(settings, database, Publisher(client), wakeup, deployment_id)
        if not wakeup.stopping:
            await _run(settings, deployment_id, relay, sweeper, wakeup)
    finally:
        await client.aclose()
        await database.close()


async def _trust_redis(sweeper: Sweeper, wakeup: Wakeup) -> None:
    """Nothing is published before Redis is known to be ours; until it answers, we wait."""
    while not wakeup.stopping:
        try:
            await sweeper.check_memory()
        except Exception as error:
            if not will_pass(error):
                raise
            log.warning("relay_waits", reason=reason(error))
            await wakeup.pause(1)
        else:
            return


async def _run(
    settings: Settings, deployment_id: UUID, relay: Relay, sweeper: Sweeper, wakeup: Wakeup
) -> None:
    announce_ready(settings)
    log.info("relay_ready", deployment_id=deployment_id)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(wakeup.listen())
            group.create_task(sweeper.run())
            group.create_task(relay.run())
    except* WaymarkError as errors:
        raise errors.exceptions[0] from None
    log.info("relay_stopped")


if __name__ == "__main__":
    sys.exit(main())
