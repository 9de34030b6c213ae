"""Run one worker from the environment: ``python -m worker_service``."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any
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
from shared.database import GOODBYE, Database, reason, wait_for_database
from shared.errors import StartupError, WaymarkError
from shared.logs import set_up_logs
from shared.migrate import REVISION
from shared.presence import Presence, own_name
from shared.probes import Probes
from shared.process import announce_ready, refuse_to_start
from shared.settings import Settings, load_settings
from worker_service.actors import MainLoop, declare_actor
from worker_service.broker import Broker, make_broker
from worker_service.generation import Generation
from worker_service.generators import RoadmapGenerator, choose
from worker_service.heartbeat import Heartbeat, HeartbeatThread
from worker_service.leases import Leases
from worker_service.slots import Slots
from worker_service.statements import SESSION
from worker_service.stepbook import StepBook
from worker_service.watchdog import Watchdog

log = structlog.get_logger()

TICK = 30.0
"""Seconds without a turn of a loop after which the worker counts as hung. A turn of the consumer
is a wait of 5 s in Redis and a few round trips."""

IDLE_TURN = 1000
"""Milliseconds after which a thread that waits for a message looks whether it is to end."""

HURRY = 1.0
"""Seconds for giving back what is held after a second signal."""


Choose = Callable[[Settings, Redis], RoadmapGenerator]


def main(choose: Choose = choose) -> int:
    try:
        settings = load_settings()
        settings.require_redis()
        set_up_logs(settings, "worker")
        failpoints.arm(settings)
        uvloop.run(_serve(settings, choose))
    except WaymarkError as error:
        return refuse_to_start(error)
    # Dramatiq's threads may sit in a blocking call; nothing of theirs is worth waiting for now.
    sys.stderr.flush()
    os._exit(0)


@dataclass(frozen=True, slots=True)
class Orders:
    """What signals tell: the first to stop, the second to be quick about it."""

    stop: asyncio.Event = field(default_factory=asyncio.Event)
    hurry: asyncio.Event = field(default_factory=asyncio.Event)

    def listen(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._heard)

    def _heard(self) -> None:
        (self.hurry if self.stop.is_set() else self.stop).set()


async def _serve(settings: Settings, choose: Choose) -> None:
    orders = Orders()
    orders.listen()
    database = Database(settings, "worker", SESSION)
    client = Redis.from_url(
        settings.require_redis(),
        socket_timeout=settings.redis_timeout,
        socket_connect_timeout=settings.redis_timeout,
        retry=Retry(NoBackoff(), 0),
    )
    try:
        deployment_id = await wait_for_database(database, REVISION, beside=1)
        probes = Probes(settings)
        probes.serve(ready={"PostgreSQL": partial(_ask, database), "Redis": client.ping})
        await _trust_redis(client, deployment_id, orders.stop)
        if not orders.stop.is_set():
            generator = choose(settings, client)
            await _work(settings, database, client, probes, deployment_id, generator, orders)
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
    generator: RoadmapGenerator,
    orders: Orders,
) -> None:
    owner = own_name()
    heartbeat = Heartbeat(settings)
    generation = Generation(
        settings,
        Leases(database, owner=owner, seconds=settings.lease, max_takeovers=settings.max_takeovers),
        StepBook(database),
        heartbeat,
        generator,
        deployment_id,
    )
    watchdog = Watchdog(settings.watchdog, threading.get_ident())
    watched = asyncio.create_task(watchdog.run(), name="watchdog")
    pulse = probes.pulse("heartbeat", within=max(TICK, 3 * settings.heartbeat))
    beats = HeartbeatThread(heartbeat, settings)
    beats.start(pulse.beat, watchdog.watch)

    broker = make_broker(settings, probes.pulse("consumer", within=TICK).beat)
    MainLoop(asyncio.get_running_loop()).install()
    declare_actor(broker, generation)
    worker = Worker(broker, worker_threads=settings.worker_concurrency, worker_timeout=IDLE_TURN)
    # What is fetched ahead waits here while other workers are idle: fetch no more than can run.
    worker.queue_prefetch = settings.worker_concurrency
    worker.start()
    slots = Slots(client, settings.worker_concurrency, owner)
    announcing = asyncio.create_task(slots.run(orders.stop), name="slots")
    presence = Presence(database, "worker", partial(_report, settings, heartbeat, slots))
    heed = partial(_rest, slots, broker)
    present = asyncio.create_task(presence.run(orders.stop, heed), name="presence")
    announce_ready(settings)
    log.info("worker_ready", deployment_id=deployment_id, owner=owner)

    stopped = asyncio.create_task(orders.stop.wait())
    ends: list[asyncio.Future[Any]] = [stopped, beats.broken, watched]
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    orders.stop.set()
    await _drain(settings, broker, worker, heartbeat, orders)
    await announcing
    await asyncio.wait([present], timeout=GOODBYE)
    await beats.stop()
    for fault in (beats.broken, watched):
        if fault.done() and not fault.cancelled():
            fault.result()  # what broke is a fault: show it
    watched.cancel()
    log.info("worker_stopped")


async def _report(settings: Settings, heartbeat: Heartbeat, slots: Slots) -> dict[str, Any]:
    return {
        "slots": settings.worker_concurrency,
        "running": len(heartbeat.holdings),
        "finished": heartbeat.finished,
        "mean_seconds": heartbeat.mean_seconds,
        "resting": slots.resting,
    }


def _rest(slots: Slots, broker: Broker, resting: bool) -> None:
    """What runs goes on; what is fetched and not begun goes back to the queue."""
    slots.resting = resting
    broker.rest(resting)


async def _drain(
    settings: Settings, broker: Broker, worker: Worker, heartbeat: Heartbeat, orders: Orders
) -> None:
    """Take nothing more, begin no further step; hand back what has not ended by then."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()

    def stop_worker() -> None:
        broker.take_no_more()
        worker.stop(timeout=int(settings.drain * 1000) + 5000)
        loop.call_soon_threadsafe(stopped.set)

    heartbeat.draining = True
    threading.Thread(target=stop_worker, name="stop-worker", daemon=True).start()
    await _first(stopped, orders.hurry, within=settings.drain)
    heartbeat.let_go_of_all()
    await _at_most(HURRY if orders.hurry.is_set() else 5, stopped)


async def _first(*events: asyncio.Event, within: float) -> None:
    waits = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(waits, timeout=within, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


async def _at_most(seconds: float, event: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)


if __name__ == "__main__":
    sys.exit(main())
