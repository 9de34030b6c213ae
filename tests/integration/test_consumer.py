"""How a worker takes messages: woken by Redis, never asking in vain, losing none on the way."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import dramatiq
import pytest
import redis
from dramatiq import Message, MessageProxy, Worker
from dramatiq.brokers.redis import RedisBroker

from shared.messages import ACTOR, NAMESPACE, QUEUE
from shared.settings import Settings
from tests.conftest import Servers
from tests.eventually import eventually_sync
from worker_service import consumer
from worker_service.broker import Broker, make_broker
from worker_service.consumer import WaitingConsumer

LIST = f"{NAMESPACE}:{QUEUE}"
BODIES = f"{LIST}.msgs"
A_LONG_TIME = 3600.0


class Bench:
    """A worker whose actor notes what it begins and ends when it is permitted to."""

    def __init__(self, settings: Settings, threads: int, permits: int) -> None:
        self.broker = make_broker(settings)
        self.begun: list[str] = []
        self.permits = threading.Semaphore(permits)
        dramatiq.actor(broker=self.broker, queue_name=QUEUE, actor_name=ACTOR)(self.run)
        self.worker = Worker(self.broker, worker_threads=threads, worker_timeout=50)
        self.worker.queue_prefetch = threads
        self.worker.start()

    def run(self, name: str) -> None:
        self.begun.append(name)
        self.permits.acquire()

    @property
    def taken(self) -> str:
        return f"{NAMESPACE}:__acks__.{self.broker.broker_id}.{QUEUE}"

    def has_begun(self, *names: str) -> None:
        assert sorted(self.begun) == sorted(names)

    def stop(self) -> None:
        self.permits.release(1000)
        self.broker.take_no_more()
        self.worker.stop(timeout=20_000)
        threads = [*self.worker.workers, *self.worker.consumers.values()]
        assert not [thread for thread in threads if thread.is_alive()]
        self.broker.client.close()


class Benches:
    def __init__(self, settings: Settings, stack: ExitStack) -> None:
        self.settings = settings
        self.stack = stack

    def start(self, threads: int = 4, permits: int = 1000) -> Bench:
        bench = Bench(self.settings, threads, permits)
        self.stack.callback(bench.stop)
        return bench


@pytest.fixture
def benches(settings: Settings, valkey: redis.Redis) -> Iterator[Benches]:
    with ExitStack() as stack:
        yield Benches(settings, stack)


@pytest.fixture
def broker(settings: Settings, valkey: redis.Redis) -> Iterator[Broker]:
    """Without threads, to drive a consumer by hand."""
    broker = make_broker(settings)
    dramatiq.actor(broker=broker, queue_name=QUEUE, actor_name=ACTOR)(print)
    yield broker
    broker.client.close()


def push(valkey: redis.Redis, *names: str) -> None:
    push_bodies(valkey, {name: body_of(name) for name in names})


def push_bodies(valkey: redis.Redis, bodies: dict[str, bytes]) -> None:
    with valkey.pipeline(transaction=True) as pipeline:
        for name, body in bodies.items():
            pipeline.hset(BODIES, name, body)
            pipeline.rpush(LIST, name)
        pipeline.execute()


def body_of(name: str, **changed: Any) -> bytes:
    fields = {
        "queue_name": QUEUE,
        "actor_name": ACTOR,
        "args": (),
        "kwargs": {"name": name},
        "options": {"redis_message_id": name},
        "message_id": name,
    }
    return Message(**fields | changed).encode()


def commands(valkey: redis.Redis) -> Counter[str]:
    """Calls of each command since ``config_resetstat``, those inside of scripts included."""
    found = valkey.info("commandstats")
    return Counter({name.removeprefix("cmdstat_"): one["calls"] for name, one in found.items()})


def all_wait(valkey: redis.Redis, workers: int = 1) -> None:
    def waiting() -> None:
        assert valkey.info("clients")["blocked_clients"] == workers

    eventually_sync(waiting)


def all_answered(valkey: redis.Redis, bench: Bench) -> None:
    """Nothing waits, nothing is held, nothing is left over."""

    def answered() -> None:
        assert (valkey.llen(LIST), valkey.hkeys(BODIES), valkey.smembers(bench.taken)) == (
            0,
            [],
            set(),
        )

    eventually_sync(answered)


# --- waiting ---


def test_a_waiting_worker_takes_a_message_without_having_asked(
    benches: Benches, valkey: redis.Redis
) -> None:
    bench = benches.start()
    all_wait(valkey)
    valkey.config_resetstat()
    push(valkey, "one")
    all_answered(valkey, bench)
    bench.has_begun("one")
    all_wait(valkey)
    asked = commands(valkey)
    assert asked["blmove"] <= 2
    assert asked["evalsha"] <= 4, "a fetch, its acknowledgement, and what the clock may add"


def test_to_wait_changes_nothing_in_the_queue(valkey: redis.Redis) -> None:
    push(valkey, "one", "two", "three")
    assert valkey.blmove(LIST, LIST, 1, "LEFT", "LEFT") == b"one"
    assert valkey.lrange(LIST, 0, -1) == [b"one", b"two", b"three"]


def test_workers_that_wait_together_run_each_message_once(
    benches: Benches, valkey: redis.Redis
) -> None:
    crew = [benches.start() for _ in range(4)]
    names = [f"message {number}" for number in range(60)]
    for name in names:
        push(valkey, name)
    for bench in crew:
        all_answered(valkey, bench)
    assert sorted(name for bench in crew for name in bench.begun) == sorted(names)


def test_a_message_of_an_unmodified_broker_is_taken(benches: Benches, valkey: redis.Redis) -> None:
    bench = benches.start()
    all_wait(valkey)
    stock: Any = RedisBroker(client=valkey, namespace=NAMESPACE, middleware=[])  # type: ignore[no-untyped-call]
    stock.enqueue(Message(QUEUE, ACTOR, (), {"name": "stock"}, {}))
    all_answered(valkey, bench)
    bench.has_begun("stock")


def test_a_full_worker_lives_on_and_a_free_slot_is_filled_at_once(
    benches: Benches, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "SIGN_OF_LIFE", 0.05)
    monkeypatch.setattr(consumer, "BLOCK", A_LONG_TIME)
    push(valkey, "1", "2", "3", "4", "5")
    bench = benches.start(threads=2, permits=0)
    eventually_sync(lambda: bench.has_begun("1", "2"))

    signs = f"{NAMESPACE}:__heartbeats__"
    last_sign = valkey.zscore(signs, bench.broker.broker_id)
    assert last_sign is not None

    def shows_life() -> None:
        assert (valkey.zscore(signs, bench.broker.broker_id) or 0) > last_sign

    eventually_sync(shows_life)
    valkey.config_resetstat()
    bench.permits.release()
    eventually_sync(lambda: bench.has_begun("1", "2", "3"))
    assert commands(valkey)["lpop"] == 1
    assert valkey.lrange(LIST, 0, -1) == [b"4", b"5"]


# --- stopping ---


def test_an_idle_worker_stops_without_the_end_of_its_wait(
    benches: Benches, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pause in ("BLOCK", "LOOK_ROUND", "SIGN_OF_LIFE"):
        monkeypatch.setattr(consumer, pause, A_LONG_TIME)
    bench = benches.start()
    all_wait(valkey)
    bench.stop()
    all_wait(valkey, 0)


def test_a_stopping_worker_takes_nothing_more(
    benches: Benches, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "SIGN_OF_LIFE", 0.05)
    bench = benches.start(threads=2, permits=0)
    push(valkey, "runs")
    eventually_sync(lambda: bench.has_begun("runs"))
    all_wait(valkey)
    bench.broker.take_no_more()
    push(valkey, "waits")
    valkey.config_resetstat()

    def shows_life() -> None:
        assert commands(valkey)["zadd"] >= 3

    eventually_sync(shows_life)
    bench.stop()
    bench.has_begun("runs")
    assert valkey.lrange(LIST, 0, -1) == [b"waits"]
    assert valkey.hkeys(BODIES) == [b"waits"]


def test_what_was_fetched_and_not_begun_goes_back_on_stop(
    broker: Broker, valkey: redis.Redis
) -> None:
    push(valkey, "1", "2", "3", "4")
    taker = broker.consume(QUEUE, prefetch=3)
    first = next(taker)
    assert first is not None
    assert valkey.lrange(LIST, 0, -1) == [b"4"]

    broker.take_no_more()
    assert next(taker) is None
    assert valkey.lrange(LIST, 0, -1) == [b"4", b"2", b"3"]
    taker.requeue([first])  # as Dramatiq does for what no thread has begun
    assert valkey.lrange(LIST, 0, -1) == [b"4", b"2", b"3", b"1"]
    taker.close()


def test_a_consumer_that_dramatiq_starts_anew_knows_what_it_holds(
    broker: Broker, valkey: redis.Redis
) -> None:
    push(valkey, "1", "2", "3")
    taker = broker.consume(QUEUE, prefetch=2)
    assert [one.message_id for one in (next(taker), next(taker)) if one] == ["1", "2"]
    taker.close()
    again = broker.consume(QUEUE, prefetch=2)
    assert isinstance(again, WaitingConsumer)
    assert again.held == {b"1", b"2"}
    again.close()


# --- trouble ---


UNREADABLE = {
    "no JSON": b"\xff\x00",
    "no message": b"{}",
    "no Redis id": body_of("poison", options={}),
    "an odd Redis id": body_of("poison", options={"redis_message_id": ["poison"]}),
    "another queue": body_of("poison", queue_name="elsewhere"),
    "an odd actor": body_of("poison", actor_name=["odd"]),
}


@pytest.mark.parametrize("poison", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_an_unreadable_message_is_dropped_and_its_neighbours_run(
    benches: Benches, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch, poison: bytes
) -> None:
    monkeypatch.setattr(consumer, "LOOK_ROUND", 0.1)
    push_bodies(valkey, {"1": body_of("1"), "poison": poison, "2": body_of("2")})
    push(valkey, "3")
    bench = benches.start()
    all_answered(valkey, bench)
    bench.has_begun("1", "2", "3")


def test_a_message_under_another_id_than_its_own_does_not_run_for_ever(
    benches: Benches, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "LOOK_ROUND", 0.1)
    push_bodies(valkey, {"odd": body_of("odd", options={"redis_message_id": "other"})})
    bench = benches.start()
    all_answered(valkey, bench)
    bench.has_begun("odd")


def test_a_message_that_redis_has_twice_runs_once(benches: Benches, valkey: redis.Redis) -> None:
    push(valkey, "one", "two")
    valkey.rpush(LIST, "one")
    bench = benches.start()
    all_answered(valkey, bench)
    bench.has_begun("one", "two")


def test_messages_whose_reply_was_lost_are_not_lost(
    benches: Benches, valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "LOOK_ROUND", 0.1)
    bench = benches.start(threads=2, permits=0)
    push(valkey, "runs")
    eventually_sync(lambda: bench.has_begun("runs"))
    push(valkey, "lost")
    bench.broker.do_fetch(QUEUE, 1)  # and nobody reads the reply
    eventually_sync(lambda: bench.has_begun("runs", "lost"))
    bench.permits.release(10)
    all_answered(valkey, bench)
    bench.has_begun("runs", "lost")


def test_an_acknowledgement_that_redis_did_not_hear_is_told_again_and_costs_no_thread(
    settings: Settings, valkey: redis.Redis
) -> None:
    hasty = settings.model_copy(update={"redis_timeout": 0.2})
    with ExitStack() as stack:
        bench = Benches(hasty, stack).start(threads=1, permits=0)
        push(valkey, "one")
        eventually_sync(lambda: bench.has_begun("one"))
        valkey.client_pause(1000)
        bench.permits.release(10)
        all_answered(valkey, bench)
        push(valkey, "two")
        eventually_sync(lambda: bench.has_begun("one", "two"))


def stayed_calm(caplog: pytest.LogCaptureFixture) -> None:
    """Dramatiq saw no fault: it would have let its consumer rest for three seconds."""
    assert [one for one in caplog.records if one.levelno > logging.WARNING] == []


def test_a_worker_outlives_a_restart_of_redis(
    benches: Benches, servers: Servers, valkey: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    bench = benches.start(threads=2, permits=0)
    push(valkey, "begun before")
    eventually_sync(lambda: bench.has_begun("begun before"))
    all_wait(valkey)
    servers.valkey.stop()
    bench.permits.release(10)  # its acknowledgement finds nobody
    servers.valkey.start()
    push(valkey, "after")
    eventually_sync(lambda: bench.has_begun("begun before", "after"))
    all_answered(valkey, bench)
    stayed_calm(caplog)


def test_a_worker_outlives_the_loss_of_its_connections(
    benches: Benches, valkey: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    bench = benches.start()
    names = [f"message {number}" for number in range(5)]
    for name in names:
        all_wait(valkey)
        valkey.client_kill_filter(_type="normal", skipme=True)
        push(valkey, name)
    all_answered(valkey, bench)
    bench.has_begun(*names)
    stayed_calm(caplog)


def test_a_worker_outlives_the_demotion_of_its_primary(
    benches: Benches, valkey: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    bench = benches.start()
    all_wait(valkey)
    valkey.replicaof("127.0.0.1", 1)
    try:
        all_wait(valkey, 0)
    finally:
        valkey.replicaof("NO", "ONE")
    push(valkey, "after")
    all_answered(valkey, bench)
    bench.has_begun("after")
    stayed_calm(caplog)


def test_an_actor_that_is_not_ours_goes_to_the_dead_letters_of_dramatiq(
    benches: Benches, valkey: redis.Redis
) -> None:
    push_bodies(valkey, {"odd": body_of("odd", actor_name="unknown"), "good": body_of("good")})
    bench = benches.start()
    all_answered(valkey, bench)
    bench.has_begun("good")
    assert valkey.hkeys(f"{LIST}.XQ.msgs") == [b"odd"]


def test_nothing_is_acknowledged_that_did_not_run(broker: Broker, valkey: redis.Redis) -> None:
    push(valkey, "one")
    taker = broker.consume(QUEUE, prefetch=1)
    message = next(taker)
    assert isinstance(message, MessageProxy)
    assert valkey.hkeys(BODIES) == [b"one"]
    taker.ack(message)
    assert valkey.hkeys(BODIES) == []
    taker.close()
