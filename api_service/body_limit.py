"""No request may make us read, wait or think more than it should, whatever its headers say."""

from __future__ import annotations

import asyncio
import re

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api_service.problems import Problem, answer

DEEPEST = 32
"""Objects and arrays within each other. No document of ours has ten."""

STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
BODILESS = ("GET", "HEAD")
"""Nothing of ours reads what they may carry."""

CLOSING = {"Connection": "close"}


class BodyLimit:
    """The framework's own limit answers in plain text; ours answers with a problem."""

    def __init__(self, app: ASGIApp, max_bytes: int, seconds: float) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in BODILESS:
            return await self.app(scope, receive, send)
        if _declared(scope) > self.max_bytes:
            # Who sends it all the same would lose the answer if the connection were closed.
            headers = CLOSING if b"expect" in dict(scope["headers"]) else None
            refusal = answer(Problem("body-too-large", f"{self._sentence()}.", headers=headers))
            return await refusal(scope, receive, send)
        return await self.app(scope, self._guarded(receive), send)

    def _guarded(self, receive: Receive) -> Receive:
        """Once the body is here, what is received is that the client has gone: that may take."""
        parts: list[bytes] = []
        taken, complete = 0, False
        deadline = asyncio.get_running_loop().time() + self.seconds

        async def guarded() -> Message:
            nonlocal taken, complete
            if complete:
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                sentence = f"Its body was not complete within {self.seconds:g} s"
                raise HTTPException(408, sentence, CLOSING) from None
            parts.append(message.get("body", b""))
            taken += len(parts[-1])
            if taken > self.max_bytes:
                raise HTTPException(413, self._sentence())
            complete = not message.get("more_body", False)
            if complete and is_too_deep(b"".join(parts)):
                raise HTTPException(400, f"The body is nested deeper than {DEEPEST} levels")
            return message

        return guarded

    def _sentence(self) -> str:
        return f"The body may have {self.max_bytes} bytes"


def is_too_deep(body: bytes) -> bool:
    """Whether JSON opens more than ``DEEPEST`` levels. Few brackets need no closer look."""
    if body.count(b"[") + body.count(b"{") <= DEEPEST:
        return False
    depth = 0
    for char in STRING.sub(b"", body):
        if char in b"[{":
            depth += 1
            if depth > DEEPEST:
                return True
        elif char in b"]}":
            depth -= 1
    return False


def _declared(scope: Scope) -> int:
    """What the header says, where it says something; the body is counted all the same."""
    try:
        return int(Headers(scope=scope).get("content-length", 0))
    except ValueError:
        return 0
