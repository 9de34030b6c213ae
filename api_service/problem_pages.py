"""How the types of problems are shown: as pages for people, and as plain text."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from html import escape
from http import HTTPStatus
from typing import Any

from api_service.explanations import EXPLANATIONS, example_of
from api_service.openapi import operations
from api_service.problems import MEDIA_TYPE, TYPES

STYLE = """
:root { color-scheme: light dark; --ink: #1c1f23; --paper: #fff; --soft: #f3f4f6; --dim: #555c66;
  --link: #0b57d0 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8eb; --paper: #16181c; --soft: #22262c; --dim: #a3abb6; --link: #8ab4f8 }
}
body { margin: 0 auto; padding: 2rem 1rem 4rem; max-width: 44rem; color: var(--ink);
  background: var(--paper); font: 1rem/1.6 system-ui, sans-serif }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .5rem 0 }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem }
a { color: var(--link) }
code, pre { font: .9em/1.5 ui-monospace, monospace; background: var(--soft); border-radius: 4px }
code { padding: .1em .3em }
pre { padding: 1rem; overflow-x: auto }
pre code { padding: 0 }
li { margin: .25rem 0 }
.dim { color: var(--dim) }
"""


def source_hash(inline: str) -> str:
    """For a Content-Security-Policy that allows exactly this script or style."""
    return f"sha256-{base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()}"


ONLY_OUR_STYLE = (
    f"default-src 'none'; style-src '{source_hash(STYLE)}'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""The Content-Security-Policy of these pages: nothing is loaded, nothing runs."""


def page(slug: str, description: Mapping[str, Any]) -> str:
    """One type as HTML. ``description``: the API's own, which knows who answers with it."""
    kind, told = TYPES[slug], EXPLANATIONS[slug]
    return _html(
        kind.title,
        f"""
<p class="dim"><a href="/problems">Problems</a> / <code>{slug}</code></p>
<h1>{escape(kind.title)}</h1>
<p class="dim">Status {kind.status} {HTTPStatus(kind.status).phrase}</p>
<p>{_rich(kind.advice)}</p>
<h2>What has happened</h2>
<p>{_rich(told.happened)}</p>
<h2>What to do</h2>
<p>{_rich(told.remedy)}</p>
<h2>An example</h2>
<pre><code>{escape(_example(slug))}</code></pre>
<h2>Who answers with it</h2>
{_who(slug, description)}
""",
    )


def index() -> str:
    """All types as HTML, by their status."""
    items = "".join(
        f'<li><code>{kind.status}</code> <a href="/problems/{slug}">{escape(kind.title)}</a> '
        f'<span class="dim">{slug}</span></li>'
        for slug, kind in _by_status()
    )
    return _html(
        "Problems",
        f"""
<h1>Problems</h1>
<p>Every error of this API is a document of RFC 9457. Its <code>type</code> is the address of one of
these pages, its <code>code</code> the last part of that. The API itself is described at
<a href="/docs">/docs</a>.</p>
<ul>{items}</ul>
""",
    )


def plain(slug: str) -> str:
    kind, told = TYPES[slug], EXPLANATIONS[slug]
    return (
        f"{kind.status} {kind.title}\n{kind.advice}\n\nWhat has happened: {told.happened}\n\n"
        f"What to do: {told.remedy}\n\n{_example(slug)}\n"
    )


def plain_index() -> str:
    return "".join(f"{kind.status} /problems/{slug}  {kind.title}\n" for slug, kind in _by_status())


def _by_status() -> Iterable[tuple[str, Any]]:
    return sorted(TYPES.items(), key=lambda pair: (pair[1].status, pair[0]))


def _example(slug: str) -> str:
    status = TYPES[slug].status
    head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\nContent-Type: {MEDIA_TYPE}"
    return f"{head}\n\n{json.dumps(example_of(slug), indent=2, ensure_ascii=False)}"


def _who(slug: str, description: Mapping[str, Any]) -> str:
    found = [
        f"<li><code>{method.upper()} {escape(address)}</code> {escape(operation['summary'])}</li>"
        for address, method, operation in operations(description)
        if _can_answer(operation, slug)
    ]
    if len(found) == sum(1 for _ in operations(description)):
        return "<p>Every address.</p>"
    if not found:
        return "<p>The server itself, at any address.</p>"
    return f"<ul>{''.join(found)}</ul>"


def _can_answer(operation: Mapping[str, Any], slug: str) -> bool:
    answer = operation["responses"].get(str(TYPES[slug].status), {})
    return slug in answer.get("content", {}).get(MEDIA_TYPE, {}).get("examples", {})


def _rich(text: str) -> str:
    """Backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _html(title: str, body: str) -> str:
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)} · Waymark</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>{body}</body>\n</html>\n"
    )
