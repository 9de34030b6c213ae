"""Takes messages the moment they are there: waits in Redis instead of asking again and again."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Literal

import structlog
from dramatiq import Message, MessageProxy
from dramatiq.brokers.redis import RedisBroker, _RedisConsumer
from dramatiq.errors import ConnectionClosed, DecodeError
from redis.exceptions import RedisError

from shared.backoff import exponential
from shared.database import reason

log = structlog.get_logger()

BLOCK = 5.0
"""Seconds of one wait in Redis. A connection that died without a word is noticed after it."""

LOOK_ROUND = 15.0
"""Seconds between two looks for what no doorbell tells: messages of a dead worker, lost replies."""

SIGN_OF_LIFE = 10.0
"""Seconds between two of them; Dramatiq takes a worker for dead after 30."""

STOPPING = 0.05
"""Seconds between two looks of a stopping consumer whether its thread may end."""


Verdict = Literal["ack", "nack", "requeue"]


class WaitingConsumer(_RedisConsumer):
    """Fetches when the queue is not empty and a slot is free; for both it waits, it never polls.

    Trouble with Redis ends here: Dramatiq would start anew after three seconds and would have
    forgotten what it holds. No message is acknowledged that did not run, save an unreadable one.
    """

    def __init__(
        self,
        broker: RedisBroker,
        queue_name: str,
        prefetch: int,
        timeout: int,
        *,
        stopping: threading.Event,
        resting: threading.Event,
        beat: Callable[[], None],
    ) -> None:
        super().__init__(broker, queue_name, prefetch, timeout)  # type: ignore[no-untyped-call]
        self.broker: RedisBroker = broker
        self.stopping = stopping
        self.resting = resting
        self.beat = beat
        self.message_cache: list[MessageProxy] = []  # fetched, not yet given to a thread
        self.queue = f"{broker.namespace}:{queue_name}"
        self.taken = f"{broker.namespace}:__acks__.{broker.broker_id}.{queue_name}"
        self.line: Any = broker.client.connection_pool.make_connection()  # redis has no type for it
        self.held: set[bytes] = set()
        self.unsettled: deque[tuple[Verdict, bytes]] = deque()
        self.changed = threading.Condition()  # guards the two above
        self.rung = False
        self.next_look = 0.0
        self.failures = 0

    # --- called by the consumer's thread ---

    def __next__(self) -> MessageProxy | None:
        """The next message; None now and then, so that the thread can see that it is to end."""
        self.beat()
        try:
            if self._takes_nothing():
                self._give_back()
            elif not self.message_cache:
                self._refill()
            self.failures = 0
        except (RedisError, OSError) as error:
            self._bear(error)
        if self._takes_nothing():
            time.sleep(STOPPING)
            return None
        return self.message_cache.pop(0) if self.message_cache else None

    def _takes_nothing(self) -> bool:
        return self.stopping.is_set() or self.resting.is_set()

    def _refill(self) -> None:
        self._settle()
        if time.monotonic() >= self.next_look:
            self._find_strays()
            self.next_look = time.monotonic() + LOOK_ROUND
            self.rung = True  # a fetch also returns to the queue what a dead worker had taken
        if self._slot_is_free():
            self.rung = self.rung or self._wait_in_redis()
            if self.rung:
                self._fetch()

    def _slot_is_free(self) -> bool:
        with self.changed:
            self.changed.wait_for(
                lambda: len(self.held) < self.prefetch or self._takes_nothing(), BLOCK
            )
            return len(self.held) < self.prefetch and not self._takes_nothing()

    def _wait_in_redis(self) -> bool:
        """Whether there is a message. To move the queue's head onto itself changes nothing."""
        self.line.connect()
        if self._takes_nothing():  # else ``wake`` finds the connection
            return False
        seconds = max(min(BLOCK, self.next_look - time.monotonic()), 0.1)  # 0 means for ever
        self.line.send_command("BLMOVE", self.queue, self.queue, "LEFT", "LEFT", seconds)
        answer = self.line.read_response(timeout=seconds + self.line.socket_timeout)
        return answer is not None

    def _fetch(self) -> None:
        room = self.prefetch - len(self.held)
        bodies = self.broker.do_fetch(self.queue_name, room)
        self.rung = len(bodies) == room  # then there may be more
        for body in bodies:
            message = read(body, self.queue_name)
            if message is None:
                self.next_look = 0  # without a body there is no id; Redis knows it
            elif id_of(message) not in self.held:  # else Redis had it twice
                with self.changed:
                    self.held.add(id_of(message))
                self.message_cache.append(MessageProxy(message))

    def _find_strays(self) -> None:
        """Settle what Redis counts as taken by us and we do not hold: its reply was lost on the
        way, or could not be read."""
        taken = self.broker.client.smembers(self.taken)
        with self.changed:
            strays = sorted(taken - self.held - {one for _, one in self.unsettled})
        if not strays:
            return
        bodies = self.broker.client.hmget(f"{self.queue}.msgs", strays)
        for stray, body in zip(strays, bodies, strict=True):
            message = read(body, self.queue_name)
            if message is not None and id_of(message) == stray:
                self._tell("requeue", stray)
                continue
            if body is not None:  # else it had been answered before
                log.error("message_unreadable", message_id=stray.decode(errors="replace"))
            self._tell("ack", stray)

    def _bear(self, error: Exception) -> None:
        """Redis is away, restarts, or is no longer the primary: soon try again, newly connected."""
        if not self.failures and not self._takes_nothing():
            log.warning("worker_waits", reason=reason(error))
        self.failures += 1
        self.next_look = 0
        self.line.disconnect()
        self.broker.client.connection_pool.disconnect(inuse_connections=False)
        chance = random.random()  # noqa: S311 - jitter
        self.stopping.wait(exponential(self.failures, 0.05, 1, chance))

    # --- called by worker threads ---

    def ack(self, message: MessageProxy) -> None:
        self._end("ack", message)

    def nack(self, message: MessageProxy) -> None:
        self._end("nack", message)

    def _end(self, verdict: Verdict, message: MessageProxy) -> None:
        """Free the slot whatever Redis says: a worker thread that insisted would be missing.
        What Redis did not hear it is told again before the next fetch."""
        told = True
        try:
            self._tell(verdict, id_of(message))
        except (RedisError, OSError) as error:
            told = False
            log.info("acknowledgement_waits", message_id=message.message_id, reason=reason(error))
        with self.changed:
            if not told:
                self.unsettled.append((verdict, id_of(message)))
            self.held.discard(id_of(message))
            self.changed.notify_all()

    # --- the end ---

    def wake(self) -> None:
        """Whatever it waits for, it stops waiting: ``stopping`` or ``resting`` is set."""
        with self.changed:
            self.changed.notify_all()
        if waiting := self.line._sock:  # CLIENT UNBLOCK would need a Redis that answers
            with contextlib.suppress(OSError):
                waiting.shutdown(socket.SHUT_RDWR)

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        try:
            self._requeue(messages)
        except (RedisError, OSError) as error:
            raise ConnectionClosed(error) from None  # type: ignore[no-untyped-call]

    def close(self) -> None:
        with contextlib.suppress(RedisError, OSError):
            self._give_back()
        self.line.disconnect()

    def _give_back(self) -> None:
        self._settle()
        self._requeue(self.message_cache)
        self.message_cache.clear()

    def _requeue(self, messages: Iterable[MessageProxy]) -> None:
        if ids := [id_of(message) for message in messages]:
            self._tell("requeue", *ids)
            with self.changed:
                self.held.difference_update(ids)

    def _settle(self) -> None:
        while self.unsettled:
            self._tell(*self.unsettled[0])
            with self.changed:
                self.unsettled.popleft()

    def _tell(self, verdict: Verdict, *ids: bytes) -> None:
        """Say it to Redis; to say it twice is harmless."""
        getattr(self.broker, f"do_{verdict}")(self.queue_name, *ids)


class HeartbeatConsumer(_RedisConsumer):
    """Stands at the delay queue, which Waymark never uses, and takes nothing from it.

    Each of its fetches tells Redis that this worker lives, also while all slots are busy for
    minutes and the other consumer has nothing to fetch.
    """

    def __init__(
        self,
        broker: RedisBroker,
        queue_name: str,
        prefetch: int,
        timeout: int,
        *,
        stopping: threading.Event,
    ) -> None:
        super().__init__(broker, queue_name, prefetch, timeout)  # type: ignore[no-untyped-call]
        self.stopping = stopping
        self.next_sign = 0.0

    def __next__(self) -> None:
        left = self.next_sign - time.monotonic()
        if left <= 0:
            self.next_sign = time.monotonic() + self._give_sign()
        elif self.stopping.is_set():  # the signs go on until the workers have ended
            time.sleep(STOPPING)
        else:
            self.stopping.wait(left)

    def _give_sign(self) -> float:
        """Seconds until the next one."""
        try:
            self.broker.do_fetch(self.queue_name, 0)
        except (RedisError, OSError) as error:
            log.debug("sign_of_life_failed", reason=reason(error))
            return 1
        return SIGN_OF_LIFE


def read(body: bytes | None, queue_name: str) -> Message[Any] | None:
    """None for what would end one of Dramatiq's threads."""
    try:
        message: Message[Any] = Message.decode(body or b"")
        id_of(message)
    except (DecodeError, KeyError, TypeError, AttributeError, UnicodeEncodeError):
        return None
    fits = message.queue_name == queue_name and isinstance(message.actor_name, str)
    return message if fits else None


def id_of(message: Message[Any] | MessageProxy) -> bytes:
    """As Redis knows it."""
    redis_id: str = message.options["redis_message_id"]
    return redis_id.encode()
