"""No request may make us read more than it should: counted, whatever its headers say."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api_service.problems import Problem, answer


class BodyLimit:
    """The framework's own limit answers in plain text; ours answers with a problem."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        if _declared(scope) > self.max_bytes:
            refusal = answer(Problem("body-too-large", f"{self._sentence()}."))
            refusal.headers["Connection"] = "close"
            return await refusal(scope, receive, send)
        return await self.app(scope, self._counted(receive), send)

    def _counted(self, receive: Receive) -> Receive:
        taken = 0

        async def counting() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self.max_bytes:
                raise HTTPException(413, self._sentence())
            return message

        return counting

    def _sentence(self) -> str:
        return f"The body may have {self.max_bytes} bytes"


def _declared(scope: Scope) -> int:
    """What the header says, where it says something; the body is counted all the same."""
    try:
        return int(Headers(scope=scope).get("content-length", 0))
    except ValueError:
        return 0
