"""Probes: alive means that the loop turns, ready means that a submission can be committed."""

from __future__ import annotations

import asyncio

import structlog
from fastapi import APIRouter
from sqlalchemy import text

from api_service.caller import Services
from api_service.problems import Problem
from shared.database import reason

log = structlog.get_logger()
router = APIRouter(include_in_schema=False)

PATIENCE = 2.0
"""Seconds a probe waits for the database; load balancers rarely wait longer."""


@router.get("/livez")
async def livez() -> dict[str, str]:
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(services: Services) -> dict[str, str]:
    try:
        async with asyncio.timeout(PATIENCE), services.database.begin() as session:
            await session.execute(text("SELECT 1"))
    except Exception as error:
        log.warning("not_ready", error=reason(error))
        raise Problem("not-ready", "PostgreSQL does not answer.") from error
    return {"status": "ok"}
