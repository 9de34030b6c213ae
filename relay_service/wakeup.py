"""What ends the relay's pause: a doorbell from the API, the poll interval, or the order to stop."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets

import asyncpg
import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from shared.backoff import exponential
from shared.database import Database, reason
from shared.messages import OUTBOX_CHANNEL

log = structlog.get_logger()

PROOF = 2.0
"""Seconds until a doorbell counts as swallowed."""

PROVE_AGAIN = 60.0
"""Seconds between two proofs."""

TROUBLE = (OSError, SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError)
"""A hint may fail for any reason of the database's; an empty pool is one, too."""

HINT = (
    "Something between relay and PostgreSQL swallows LISTEN, a transaction pooler for example. "
    "Polling carries everything over; a direct WAYMARK_DATABASE_URL would make it quicker."
)


class Wakeup:
    """The doorbell is a hint. Without it, behind a pooler that swallows LISTEN for example,
    polling alone carries everything over, only a little later."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.stopping = False
        self.heard = False
        """Whether a doorbell is known to reach us: then the polls between may be rare."""
        self._rung = asyncio.Event()
        self.stop_asked = asyncio.Event()
        self._proof = asyncio.Event()
        self._token = f"proof {secrets.token_hex(8)}"

    @property
    def poll(self) -> float:
        """Seconds between two looks while nothing rings."""
        settings = self.database.settings
        return settings.relay_poll_listening if self.heard else settings.relay_poll

    def stop(self) -> None:
        self.stopping = True
        self.stop_asked.set()
        self._rung.set()

    def ring(self) -> None:
        self._rung.set()

    async def wait(self, patience: float) -> None:
        """Until rung, at most ``patience`` seconds. One ring may stand for many commits."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._rung.wait(), max(patience, 0))
        self._rung.clear()

    async def pause(self, seconds: float) -> None:
        """``seconds`` whatever rings; only the order to stop ends it earlier."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.stop_asked.wait(), seconds)

    async def listen(self) -> None:
        """Keep a connection that listens; a lost one is replaced, and counts as a ring."""
        failures = 0
        while not self.stopping:
            try:
                await self._listen_once()
                failures = 0
                await self.pause(0.2)  # a pooler that hangs up at once must not make us spin
            except TROUBLE as error:
                failures += 1
                log.info("listen_failed", error=reason(error), failures=failures)
                await self.pause(exponential(failures, 0.2, 5, random.random()))  # noqa: S311 - jitter

    async def _listen_once(self) -> None:
        connection = await self.database.listen_connection()
        lost = asyncio.Event()
        connection.add_termination_listener(lambda *_: lost.set())
        await connection.add_listener(OUTBOX_CHANNEL, self._hear)
        self._rung.set()
        ended = [asyncio.create_task(lost.wait()), asyncio.create_task(self.stop_asked.wait())]
        try:
            while not (lost.is_set() or self.stopping):
                heard, self.heard = self.heard, await self._reaches_us()
                if heard and not self.heard:
                    return  # the server at its other end may be a former primary
                if self.heard and not heard:
                    log.info("doorbell_heard")
                await asyncio.wait(ended, timeout=PROVE_AGAIN, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.heard = False
            for task in ended:
                task.cancel()
            if not connection.is_closed():
                await connection.close(timeout=1)

    async def _reaches_us(self) -> bool:
        """Ring through another session: a pooler may accept LISTEN and deliver nothing."""
        self._proof.clear()
        async with self.database.autocommit() as connection:
            parameters = {"channel": OUTBOX_CHANNEL, "token": self._token}
            await connection.execute(text("SELECT pg_notify(:channel, :token)"), parameters)
        try:
            await asyncio.wait_for(self._proof.wait(), PROOF)
        except TimeoutError:
            poll = self.database.settings.relay_poll
            log.warning("doorbell_not_heard", hint=HINT, poll=poll)
            return False
        return True

    def _hear(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        (self._proof if payload == self._token else self._rung).set()
