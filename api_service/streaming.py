"""A task's history as server-sent events, from one connection to the next without a gap."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from uuid import UUID

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api_service.caller import CallerIdentity, ServiceSet
from api_service.changes import Ear
from api_service.frame import only_waits
from api_service.hanging_up import unless_gone
from api_service.problems import Problem

RECONNECT = 2000
"""Milliseconds until a client that lost its stream asks again."""

END = b'event: stream.end\ndata: {"reason":"terminal"}\n\n'
PING = b": ping\n\n"


class EventStream(Response):
    """It has the place of its caller until it ends, however it ends."""

    media_type = "text/event-stream"

    def __init__(
        self,
        services: ServiceSet,
        caller: CallerIdentity,
        task_id: UUID,
        *,
        after: int,
        snapshot: str | None,
        ended: bool,
    ) -> None:
        """``snapshot``: the task's document at version ``after``, for who has seen nothing yet.
        ``ended``: there will be no event after that one."""
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(None, 200, headers, self.media_type)
        del self.headers["content-length"]
        self.services = services
        self.caller = caller
        self.task_id = task_id
        self.after = after
        self.snapshot = snapshot
        self.ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self.services.places.take(self.caller.name) as had:
            if not had:
                raise _too_many(self.services.places.most)
            only_waits(scope)
            # Its client may vanish while there is nothing to send, and so nothing that fails.
            await unless_gone(self._send_all(send), receive)

    async def _send_all(self, send: Send) -> None:
        headers = self.raw_headers
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        async with aclosing(self._frames()) as frames:  # whoever leaves amid one follows no more
            async for frame in frames:
                await send({"type": "http.response.body", "body": frame, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _frames(self) -> AsyncGenerator[bytes]:
        first = f"retry: {RECONNECT}\n"
        if self.snapshot is not None:
            first += f"id: {self.after}\nevent: task.snapshot\ndata: {self.snapshot}\n"
        yield f"{first}\n".encode()
        if self.ended:
            yield END
            return
        with self.services.changes.follow(self.task_id, self.after) as ear:
            async for frame in self._heard(ear):
                yield frame

    async def _heard(self, ear: Ear) -> AsyncGenerator[bytes]:
        last, ping = self.after, self.services.database.settings.stream_ping
        while True:
            try:
                async with asyncio.timeout(ping):
                    news = await ear.get()
            except TimeoutError:
                yield PING
                continue
            if news is None:  # this process stops: another one goes on from the last id
                return
            further = [event for event in news.events if event.seq > last]
            if further:
                last = further[-1].seq
                yield b"".join(event.frame for event in further)
            if news.ended:
                yield END
                return


def _too_many(most: int) -> Problem:
    return Problem("too-many-streams", f"{most} of yours are open.", headers={"Retry-After": "5"})
