"""Addresses as they may be shown."""

from __future__ import annotations

import re


def shown(url: str) -> str:
    """Without user and password: texts end up in logs."""
    return re.sub(r"^([a-z][a-z0-9+.-]*://)[^/?#]*@", r"\1", url, flags=re.IGNORECASE)
