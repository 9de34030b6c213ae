"""What a route is given: the services of this process, and who calls."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Request
from starlette.types import Scope

from api_service.capacity import Capacity
from api_service.changes import Changes
from api_service.doorbell import Doorbell
from api_service.estimating import Estimates
from api_service.overview import Overviews
from api_service.places import Places
from api_service.problems import Problem
from api_service.queries import TaskReads
from api_service.submission import Submissions
from shared.database import Database

TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
PRINTABLE = re.compile(r"[\x20-\x7e]{1,255}")


@dataclass(frozen=True, slots=True)
class ServiceSet:
    database: Database
    submissions: Submissions
    doorbell: Doorbell
    changes: Changes
    places: Places
    capacity: Capacity
    reads: TaskReads
    overviews: Overviews
    estimates: Estimates


async def services(request: Request) -> ServiceSet:
    found: ServiceSet = request.app.state.services
    return found


@dataclass(frozen=True, slots=True)
class CallerIdentity:
    """Who calls: limits and acts go by the name, rows by the tenant."""

    tenant_id: str
    name: str


def caller_of(scope: Scope) -> CallerIdentity:
    """Until there are keys, everybody is the default tenant, and an address is all of a name."""
    address = scope["client"][0] if scope.get("client") else "unknown"
    return CallerIdentity("default", f"anonymous@{address}")


async def caller(request: Request) -> CallerIdentity:
    return caller_of(request.scope)


async def tenant(caller: Annotated[CallerIdentity, Depends(caller)]) -> str:
    return caller.tenant_id


async def idempotency_key(
    idempotency_key: Annotated[
        str | None, Header(description="Repeat it with the same body to get the same task.")
    ] = None,
) -> str | None:
    """1 to 255 printable ASCII characters, bare or as a quoted string (IETF httpapi draft 07)."""
    if idempotency_key is None:
        return None
    key = idempotency_key
    if len(key) > 1 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if not PRINTABLE.fullmatch(key):
        reason = {
            "pointer": "/header/Idempotency-Key",
            "detail": "must be 1 to 255 printable ASCII characters",
        }
        raise Problem("invalid-header", f"Idempotency-Key {reason['detail']}.", errors=[reason])
    return key


async def traceparent(traceparent: Annotated[str | None, Header()] = None) -> str:
    """The caller's trace (W3C Trace Context); a new one when it has none or a broken one."""
    if traceparent and TRACEPARENT.fullmatch(traceparent):
        return traceparent
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00"


Services = Annotated[ServiceSet, Depends(services)]
Caller = Annotated[CallerIdentity, Depends(caller)]
Tenant = Annotated[str, Depends(tenant)]
IdempotencyKey = Annotated[str | None, Depends(idempotency_key)]
Trace = Annotated[str, Depends(traceparent)]
