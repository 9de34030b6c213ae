"""How the clients use httpx2: its options, its answers, its errors."""

from __future__ import annotations

from collections.abc import Mapping
from ssl import SSLContext
from typing import Any
from urllib.parse import urlsplit

import httpx2

from waymark.addresses import shown
from waymark.exchange import Answer, Call, Lost

ANSWER_LOST = (
    httpx2.ReadError,
    httpx2.ReadTimeout,
    httpx2.RemoteProtocolError,
    httpx2.WriteError,
    httpx2.WriteTimeout,
    httpx2.DecodingError,
)
"""Errors on an open connection: the server may have got the request. Others come before that."""

GRACE = 1.0
"""Seconds more for an answer that its last moment has brought."""

PASSING = (httpx2.NetworkError, httpx2.TimeoutException, httpx2.RemoteProtocolError)
FAILURES = (httpx2.RequestError, httpx2.InvalidURL)

LIMITS = httpx2.Limits(max_connections=None, max_keepalive_connections=20)
"""A wait and a stream have a connection each, and nobody is to queue behind them."""


def options_of(
    url: str, headers: Mapping[str, str] | None, verify: bool | SSLContext
) -> dict[str, Any]:  # Any: httpx2's own keyword arguments
    try:
        parts = urlsplit(url)
        local = parts.hostname in ("127.0.0.1", "::1", "localhost", "0.0.0.0")  # noqa: S104 - asked, not bound
        secure = parts.scheme == "https"
    except ValueError:  # httpx2 will say so, when it is asked to go there
        local = secure = False
    # A proxy from the environment cannot know this machine's ports; certificates take 25 ms.
    return {
        "trust_env": not local,
        "verify": secure and verify,
        "headers": headers,
        "limits": LIMITS,
    }


def request_of(url: str, call: Call, timeout: float) -> dict[str, Any]:
    """For httpx2's ``build_request``."""
    silence = timeout + call.patience if call.silence is None else call.silence
    if (left := call.time_left()) is not None:
        timeout, silence = min(timeout, left + GRACE), min(silence, left + GRACE)
    return {
        "method": call.method,
        "url": url + call.path,
        "params": dict(call.params) or None,
        "json": call.json,
        "headers": dict(call.headers),
        "timeout": httpx2.Timeout(timeout, read=silence, pool=None),
    }


def is_stream(response: httpx2.Response) -> bool:
    kind: str = response.headers.get("content-type", "")
    return response.status_code == 200 and kind.startswith("text/event-stream")


def answer_of(response: httpx2.Response, body: bytes = b"") -> Answer:
    return Answer(shown(str(response.url)), response.status_code, response.headers, body)


def lost(error: Exception, url: str) -> Lost:
    heard, lasting = isinstance(error, ANSWER_LOST), not isinstance(error, PASSING)
    return Lost(shown(url), str(error), heard, lasting)
