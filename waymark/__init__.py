"""WHAT A PERSON TYPES: command line, embedded servers, supervisor, HTTP client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from waymark.async_client import AsyncClient
    from waymark.client import Client
    from waymark.errors import (
        ApiError,
        Conflict,
        Deleted,
        Error,
        NotFinished,
        NotFound,
        RateLimited,
        Unavailable,
        Unreachable,
        ValidationFailed,
    )
    from waymark.received import Attempt, Batch, Event, StoredRoadmap, Task, Validated

RECEIVED = ("Attempt", "Batch", "Event", "StoredRoadmap", "Task", "Validated")

__all__ = [
    "ApiError",
    "AsyncClient",
    "Attempt",
    "Batch",
    "Client",
    "Conflict",
    "Deleted",
    "Error",
    "Event",
    "NotFinished",
    "NotFound",
    "RateLimited",
    "StoredRoadmap",
    "Task",
    "Unavailable",
    "Unreachable",
    "Validated",
    "ValidationFailed",
]


def __getattr__(name: str) -> Any:  # Any: a class of the clients
    """Loads a client when it is first asked for: the command line starts without them."""
    from importlib import import_module

    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    clients = {"Client": "client", "AsyncClient": "async_client"}
    home = "received" if name in RECEIVED else clients.get(name, "errors")
    return getattr(import_module(f"{__name__}.{home}"), name)
