"""Run one worker from the environment: ``python -m worker_service``."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading
from functools import partial
from uuid import UUID

import structlog
import uvloop
from dramatiq import Worker
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError
from sqlalchemy import text

from shared import failpoints
from shared.broker import incarnation
from shared.database import Database, reason, wait_for_database
from shared.errors import StartupError, WaymarkError
from shared.logs import set_up_logs
from shared.migrate import REVISION
from shared.probes import Probes
from shared.process import announce_ready, refuse_to_start
from shared.settings import Settings, load_settings
from worker_service.actors import MainLoop, declare_actor
from worker_service.broker import Broker, make_broker
from worker_service.generation import Generation
from worker_service.generators import choose
from worker_service.heartbeat import Heartbeat
from worker_service.leases import Leases
from worker_service.slots import Slots

log = structlog.get_logger()

TICK = 30.0
"""Seconds without a turn of a loop after which the worker counts as hung; see ``_work``."""


def main() -> int:
    try:
        settings = load_settings()
        settings.require_redis()
        set_up_logs(settings, "worker")
        failpoints.arm(settings)
        uvloop.run(_serve(settings))
    except WaymarkError as error:
        return refuse_to_start(error)
    # Dramatiq's threads may sit in a blocking call; nothing of theirs is worth waiting for now.
    sys.stderr.flush()
    os._exit(0)


async def _serve(settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    database = Database(settings, "worker")
    client = Redis.from_url(
        settings.require_redis(),
        socket_timeout=settings.redis_timeout,
        socket_connect_timeout=settings.redis_timeout,
        retry=Retry(NoBackoff(), 0),
    )
    try:
        deployment_id = await wait_for_database(database, REVISION)
        probes = Probes(settings)
        probes.serve(ready={"PostgreSQL": partial(_ask, database), "Redis": client.ping})
        await _trust_redis(client, deployment_id, stop)
        if not stop.is_set():
            await _work(settings, database, client, probes, deployment_id, stop)
    finally:
        await client.aclose()
        await database.close()


async def _ask(database: Database) -> None:
    async with database.autocommit() as connection:
        await connection.execute(text("SELECT 1"))


async def _trust_redis(client: Redis, deployment_id: UUID, stop: asyncio.Event) -> None:
    """Take nothing from a Redis that is not known to be ours; until it answers, wait."""
    while not stop.is_set():
        try:
            await incarnation(client.pipeline(transaction=True), deployment_id)
        except AuthenticationError as error:
            raise StartupError(
                f"Redis refused WAYMARK_REDIS_URL's credentials: {error}."
            ) from error
        except (RedisError, OSError) as error:
            log.warning("worker_waits", reason=reason(error))
            await _at_most(1, stop)
        else:
            return


async def _work(
    settings: Settings,
    database: Database,
    client: Redis,
    probes: Probes,
    deployment_id: UUID,
    stop: asyncio.Event,
) -> None:
    owner = f"{socket.gethostname()}:{os.getpid()}"
    leases = Leases(database, owner=owner, seconds=settings.lease)
    heartbeat = Heartbeat(leases, settings.heartbeat)
    pulse = probes.pulse("heartbeat", within=max(TICK, 3 * settings.heartbeat))
    beating = asyncio.create_task(heartbeat.run(pulse.beat), name="heartbeat")
    generation = Generation(settings, leases, heartbeat, choose(), deployment_id)

    # One turn of the consumer is a wait of 5 seconds and a few round trips at most.
    broker = make_broker(settings, probes.pulse("consumer", within=TICK).beat)
    MainLoop(asyncio.get_running_loop()).install()
    declare_actor(broker, generation)
    worker = Worker(broker, worker_threads=settings.worker_concurrency, worker_timeout=200)
    # What is fetched ahead waits here while other workers are idle: fetch no more than can run.
    worker.queue_prefetch = settings.worker_concurrency
    worker.start()
    slots = Slots(client, settings.worker_concurrency, owner)
    announcing = asyncio.create_task(slots.run(stop), name="slots")
    announce_ready(settings)
    log.info("worker_ready", deployment_id=deployment_id, owner=owner)

    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({stopped, beating}, return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    await _drain(settings, broker, worker, heartbeat)
    await announcing
    if beating.done():
        beating.result()  # a heartbeat that broke is a fault: show it
    beating.cancel()
    log.info("worker_stopped")


async def _drain(settings: Settings, broker: Broker, worker: Worker, heartbeat: Heartbeat) -> None:
    """Take nothing more; let what runs finish, and hand back what has not by then."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()

    def stop_worker() -> None:
        broker.take_no_more()
        worker.stop(timeout=int(settings.drain * 1000) + 5000)
        loop.call_soon_threadsafe(stopped.set)

    threading.Thread(target=stop_worker, name="stop-worker", daemon=True).start()
    await _at_most(settings.drain, stopped)
    heartbeat.let_go_of_all()
    await _at_most(5, stopped)


async def _at_most(seconds: float, event: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)


if __name__ == "__main__":
    sys.exit(main())
