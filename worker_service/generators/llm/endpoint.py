"""One call of the model's server: a body, or the error of its task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx2
import structlog
from openai import APIError, APIStatusError, APITimeoutError, AsyncOpenAI

from shared.errors import TaskError, Transient
from shared.settings import Settings
from worker_service.generators.port import Call, Usage

from .breaker import Admission, Breaker
from .failures import bad_output, failure_of
from .transport import BoundedTransport, Bounds, Unacceptable

log = structlog.get_logger()

NO_KEY = "none"
"""The SDK does not speak without a key; a server that wants none ignores it."""


class Endpoint:
    def __init__(self, settings: Settings) -> None:
        key = settings.llm_api_key
        self._http = httpx2.AsyncClient(
            transport=BoundedTransport(settings.llm_base_url, _bounds(settings)),
            headers={"Accept-Encoding": "identity"},
            timeout=None,  # the transport keeps the time
            trust_env=False,  # the transport looks for a proxy; nothing else is wanted from there
        )
        self._sdk = AsyncOpenAI(
            base_url=settings.llm_base_url,
            api_key=key.get_secret_value() if key else NO_KEY,
            max_retries=0,  # retries live in PostgreSQL
            timeout=None,
            http_client=self._http,
        )
        self._sdk.organization = self._sdk.project = None  # it took them from the environment
        self._breaker = Breaker()

    def look(self) -> None:
        """Raises Transient while the endpoint rests."""
        if rest := self._breaker.resting():
            raise Transient(
                "The model fails again and again, so it is left alone for a moment. "
                "The task is tried again.",
                code="model_resting",
                charged=False,
                retry_after=rest,
            )

    async def post(self, request: Mapping[str, Any], call: Call, key: str) -> bytes:
        """The body of a successful answer. Raises TaskError. ``key`` names it to the server."""
        self.look()
        admission = self._breaker.admit()
        call.took(Usage(calls=1))  # now: one whose answer never comes was made all the same
        try:
            response = await self._sdk.post(
                "/chat/completions",
                body=request,
                options={"headers": {"Idempotency-Key": key}},
                cast_to=httpx2.Response,
            )
        except APIError as error:
            raise self._failure(error, admission) from error.__cause__
        except Unacceptable as error:
            self._breaker.answered(admission)
            raise bad_output() from error
        except BaseException:
            self._breaker.withdrew(admission)
            raise
        self._breaker.answered(admission)
        return response.content

    async def close(self) -> None:
        await self._sdk.close()

    def _failure(self, error: APIError, admission: Admission) -> TaskError:
        match error:
            case APIStatusError(status_code=status) if status < 500:
                self._breaker.answered(admission)
            case _:
                self._breaker.failed(admission)
        failure = _failure_of(error)
        log.warning("model_call_failed", code=failure.code, reason=_reason(error))
        return failure


def _bounds(settings: Settings) -> Bounds:
    return Bounds(
        first_byte=settings.llm_first_byte,
        total=settings.llm_timeout,
        max_bytes=settings.llm_max_bytes,
    )


def _failure_of(error: APIError) -> TaskError:
    match error:
        case APIStatusError(status_code=status, response=response):
            return failure_of(status, response.headers.get("retry-after"))
        case APITimeoutError():
            return Transient(
                "The model did not answer in time. The task is tried again.", code="model_timeout"
            )
        case _:
            return Transient(
                "The model could not be reached. The task is tried again.",
                code="model_unreachable",
            )


def _reason(error: APIError) -> str:
    """For the log. The server's own words too, but none about credentials: it may repeat them."""
    if not isinstance(error, APIStatusError):
        return type(error.__cause__ or error).__name__
    if error.status_code in (401, 403):
        return f"status {error.status_code}"
    words = error.response.content[:200].decode("utf-8", "replace")
    return f"status {error.status_code}: {words}"
