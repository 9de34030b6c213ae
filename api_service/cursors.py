"""Opaque cursors: where a list goes on. What is in them is ours to change."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Collection, Mapping
from typing import Any

from api_service.problems import Problem


def encode(place: Mapping[str, Any]) -> str:
    """Of URL-safe characters. Any: what JSON can hold."""
    document = json.dumps(place, separators=(",", ":"))
    return base64.urlsafe_b64encode(document.encode()).decode().rstrip("=")


def decode(cursor: str, names: Collection[str]) -> dict[str, Any]:
    """Raises Problem for what ``encode`` has not made of exactly these names."""
    try:
        document = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True)
        place = json.loads(document)
    except (ValueError, binascii.Error, RecursionError):
        raise not_ours() from None
    if not isinstance(place, dict) or set(place) != set(names):
        raise not_ours()
    return place


def not_ours() -> Problem:
    return Problem("invalid-cursor", "The cursor cannot be read.")
