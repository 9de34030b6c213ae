"""What the environment says to us: the variables we know, and those that were perhaps misspelt."""

from __future__ import annotations

import os
from collections.abc import Iterator
from difflib import get_close_matches

from shared.settings import PREFIX, Settings
from waymark.commands.options import URL_VARIABLE


def misspelt() -> Iterator[str]:
    """A sentence for each WAYMARK_ variable that nobody reads."""
    settings = [PREFIX + name.upper() for name in Settings.model_fields]
    known = [*settings, *(f"{name}_FILE" for name in settings), URL_VARIABLE]
    for name in sorted(os.environ):
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            (nearest,) = get_close_matches(name.upper(), known, n=1, cutoff=0)
            yield f"{name} is no setting and has no effect; the nearest is {nearest}."
