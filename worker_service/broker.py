"""Dramatiq, set up so that it cannot lose a message that PostgreSQL does not know better about."""

from __future__ import annotations

import threading
from collections.abc import Callable

import redis
from dramatiq import Consumer
from dramatiq.brokers.redis import RedisBroker
from redis.backoff import NoBackoff
from redis.retry import Retry

from shared.messages import NAMESPACE
from shared.settings import Settings
from worker_service.consumer import HeartbeatConsumer, WaitingConsumer


class Broker(RedisBroker):
    """No Retries, no Results, no delays: those lose messages when Redis blinks.

    Maintenance, which returns a dead worker's messages, runs on every fetch instead of on one
    in a thousand; leases in PostgreSQL are the authority all the same.
    """

    def __init__(self, client: redis.Redis, beat: Callable[[], None]) -> None:
        super().__init__(  # type: ignore[no-untyped-call] # Dramatiq leaves it untyped
            client=client,
            namespace=NAMESPACE,
            middleware=[],
            maintenance_chance=1_000_000,
            heartbeat_timeout=30_000,
        )
        self.stopping = threading.Event()
        self.resting = threading.Event()
        self._beat = beat
        self._waiting: dict[str, WaitingConsumer] = {}

    @property
    def consumer_class(self) -> Callable[..., Consumer]:
        return self._consumer

    def take_no_more(self) -> None:
        """What was fetched and not begun goes back to the queue, what runs may end."""
        self.stopping.set()
        for consumer in list(self._waiting.values()):
            consumer.wake()

    def rest(self, resting: bool) -> None:
        """Take nothing for a while, or take again."""
        if not resting:
            self.resting.clear()
            return
        self.resting.set()
        for consumer in list(self._waiting.values()):
            consumer.wake()

    def _consumer(
        self, broker: RedisBroker, queue_name: str, prefetch: int, timeout: int
    ) -> Consumer:
        """The same one again when Dramatiq starts it anew: it knows what it holds."""
        if queue_name in self.delay_queues:
            return HeartbeatConsumer(broker, queue_name, prefetch, timeout, stopping=self.stopping)
        if queue_name not in self._waiting:
            self._waiting[queue_name] = WaitingConsumer(
                broker,
                queue_name,
                prefetch,
                timeout,
                stopping=self.stopping,
                resting=self.resting,
                beat=self._beat,
            )
        return self._waiting[queue_name]


def make_broker(settings: Settings, beat: Callable[[], None] = lambda: None) -> Broker:
    """``beat`` is called in every turn of the loop that takes messages."""
    client = redis.Redis.from_url(
        settings.require_redis(),
        socket_timeout=settings.redis_timeout,
        socket_connect_timeout=settings.redis_timeout,
        # Dramatiq's commands are not safe to repeat by themselves.
        retry=Retry(NoBackoff(), 0),
    )
    return Broker(client, beat)
