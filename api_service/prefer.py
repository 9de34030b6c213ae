"""The Prefer header (RFC 7240): how long a caller would wait for an answer with news."""

from __future__ import annotations

import re

LONGEST = 60
"""Seconds. Proxies rarely keep a silent connection longer."""

PREFERENCE = re.compile(r'(?:"(?:[^"\\]|\\.)*"?|[^",])+')
"""Up to the next comma that is in no string."""

WAIT = re.compile(r'\s*wait\s*=\s*(?:"(\d{1,9})"|(\d{1,9}))\s*(?:;.*)?', re.ASCII | re.IGNORECASE)


def wait_of(prefer: str | None) -> int | None:
    """Seconds, at most ``LONGEST``; None if nothing is preferred, or nothing that can be read.

    A preference is no demand: what is not understood is passed over (RFC 7240, section 2).
    """
    for preference in PREFERENCE.findall(prefer or ""):
        if found := WAIT.fullmatch(preference):
            return min(int(found[1] or found[2]), LONGEST) or None
    return None
