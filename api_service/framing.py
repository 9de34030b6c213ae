"""Heads that two servers could read in two ways, beyond those that the parser refuses itself.

What one of them takes for a body, the other would take for a request (RFC 9112, sections 3, 6).
"""

from __future__ import annotations

from collections.abc import Iterable

SPOKEN = ("1.0", "1.1")


def objection(
    version: str, headers: Iterable[tuple[bytes, bytes]], *, upgrade: bool = False
) -> str | None:
    """A sentence that says what is wrong. ``headers``: with their names in lower case.

    ``upgrade``: whether another protocol is wished for. The parser then takes a body for what
    comes after the request.
    """
    hosts, lengths, codings = 0, 0, []
    for name, value in headers:
        if name == b"host":
            hosts += 1
        elif name == b"content-length":
            lengths += 1
        elif name == b"transfer-encoding":
            codings.append(value.lower())
    if version not in SPOKEN:
        return f"This is HTTP/{version}; spoken here are {' and '.join(SPOKEN)}."
    if hosts > 1 or (hosts == 0 and version == "1.1"):
        return "A request names one host."
    if codings and version == "1.0":
        return "HTTP/1.0 has no Transfer-Encoding."
    if codings and codings != [b"chunked"]:
        return "The only Transfer-Encoding is chunked, once."
    if upgrade and (lengths or codings):
        return "No other protocol is spoken here: leave out Upgrade."
    return None
