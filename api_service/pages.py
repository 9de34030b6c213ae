"""Pages for people: what each problem means, and the API's description to be tried out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Header, Request, Response

from api_service import problem_pages
from api_service.problems import TYPES, Problem

router = APIRouter(include_in_schema=False)

VENDORED = Path(__file__).parent / "vendor" / "swagger-ui"
ASSETS = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon-32x32.png": "image/png",
}

START = (
    "SwaggerUIBundle({url: '/openapi.json', dom_id: '#docs', deepLinking: true, "
    "validatorUrl: null})"
)
"""A validator would be sent our description: it is another origin."""

ASKED_AGAIN = {"Cache-Control": "no-cache"}
KEPT = {"Cache-Control": "public, max-age=31536000, immutable"}

Accept = Annotated[str, Header()]


@router.get("/problems")
async def list_problems(accept: Accept = "") -> Response:
    if _wants_text(accept):
        return _text(problem_pages.plain_index())
    return _page(problem_pages.index())


@router.get("/problems/{slug}")
async def explain_problem(slug: str, request: Request, accept: Accept = "") -> Response:
    if slug not in TYPES:
        raise Problem("not-found", f"There is no problem called {slug}.")
    if _wants_text(accept):
        return _text(problem_pages.plain(slug))
    return _page(problem_pages.page(slug, request.app.openapi()))


@router.get("/docs")
async def get_docs() -> Response:
    return Response(docs_page(), headers=DOCS_HEADERS, media_type="text/html")


@router.get("/docs/{digest}/{name}")
async def get_asset(
    digest: str, name: str, if_none_match: Annotated[str | None, Header()] = None
) -> Response:
    """Its address has its digest: what is there never changes."""
    if name not in ASSETS or asset(name).digest != digest:
        raise Problem("not-found", f"/docs/{digest}/{name} is not an address of this API.")
    found = asset(name)
    headers = KEPT | {"ETag": f'"{found.digest}"'}
    if if_none_match and headers["ETag"] in if_none_match:
        return Response(status_code=304, headers=headers)
    return Response(found.content, headers=headers, media_type=found.media_type)


@dataclass(frozen=True, slots=True)
class Asset:
    content: bytes
    digest: str
    media_type: str


@cache
def asset(name: str) -> Asset:
    """One of ``ASSETS``, read once."""
    content = (VENDORED / name).read_bytes()
    return Asset(content, hashlib.sha256(content).hexdigest()[:16], ASSETS[name])


def docs_page() -> str:
    script, style, icon = (f"/docs/{asset(name).digest}/{name}" for name in ASSETS)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>Waymark: the API</title>\n<link rel="icon" href="{icon}">\n'
        f'<link rel="stylesheet" href="{style}">\n</head>\n<body>\n<div id="docs"></div>\n'
        f'<script src="{script}"></script>\n<script>{START}</script>\n</body>\n</html>\n'
    )


DOCS_HEADERS = ASKED_AGAIN | {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'self'",
            f"script-src 'self' '{problem_pages.source_hash(START)}'",
            "img-src 'self' data:",  # the arrows of its style sheet
            "object-src 'none'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )
}


def _wants_text(accept: str) -> bool:
    """Only who asks for it, and not for HTML."""
    return "text/plain" in accept.lower() and "text/html" not in accept.lower()


def _text(content: str) -> Response:
    return Response(content, headers=ASKED_AGAIN | {"Vary": "Accept"}, media_type="text/plain")


def _page(content: str) -> Response:
    headers = {"Content-Security-Policy": problem_pages.ONLY_OUR_STYLE, "Vary": "Accept"}
    return Response(content, headers=ASKED_AGAIN | headers, media_type="text/html")
