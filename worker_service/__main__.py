"""Run one worker from the environment: ``python -m worker_service``."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading
from uuid import UUID

import redis.asyncio
import structlog
import uvloop
from dramatiq import Worker
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError

from shared import failpoints
from shared.broker import incarnation
from shared.database import Database, reason, wait_for_database
from shared.errors import StartupError, WaymarkError
from shared.logs import set_up_logs
from shared.metrics import serve_metrics
from shared.migrate import REVISION
from shared.process import announce_ready, refuse_to_start
from shared.settings import Settings, load_settings
from worker_service.actors import MainLoop, declare_actor
from worker_service.broker import make_broker
from worker_service.generation import Generation
from worker_service.generators import choose
from worker_service.heartbeat import Heartbeat
from worker_service.leases import Leases

log = structlog.get_logger()


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
    try:
        deployment_id = await wait_for_database(database, REVISION)
        serve_metrics(settings)
        await _trust_redis(settings, deployment_id, stop)
        if not stop.is_set():
            await _work(settings, database, deployment_id, stop)
    finally:
        await database.close()


async def _trust_redis(settings: Settings, deployment_id: UUID, stop: asyncio.Event) -> None:
    """Take nothing from a Redis that is not known to be ours; until it answers, wait."""
    client = redis.asyncio.Redis.from_url(
        settings.require_redis(),
        socket_timeout=settings.redis_timeout,
        socket_connect_timeout=settings.redis_timeout,
        retry=Retry(NoBackoff(), 0),
    )
    async with client:
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
    settings: Settings, database: Database, deployment_id: UUID, stop: asyncio.Event
) -> None:
    owner = f"{socket.gethostname()}:{os.getpid()}"
    leases = Leases(database, owner=owner, seconds=settings.lease)
    heartbeat = Heartbeat(leases, settings.heartbeat)
    beating = asyncio.create_task(heartbeat.run(), name="heartbeat")
    generation = Generation(settings, leases, heartbeat, choose(), deployment_id)

    broker = make_broker(settings)
    MainLoop(asyncio.get_running_loop()).install()
    declare_actor(broker, generation)
    worker = Worker(broker, worker_threads=settings.worker_concurrency, worker_timeout=200)
    # What is fetched ahead waits here while other workers are idle: fetch no more than can run.
    worker.queue_prefetch = settings.worker_concurrency
    worker.start()
    announce_ready(settings)
    log.info("worker_ready", deployment_id=deployment_id, owner=owner)

    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({stopped, beating}, return_when=asyncio.FIRST_COMPLETED)
    await _drain(settings, worker, heartbeat)
    if beating.done():
        beating.result()  # a heartbeat that broke is a fault: show it
    beating.cancel()
    log.info("worker_stopped")


async def _drain(settings: Settings, worker: Worker, heartbeat: Heartbeat) -> None:
    """Take nothing more; let what runs finish, and hand back what has not by then."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()

    def stop_worker() -> None:
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
