"""Whether a Redis may be trusted: it forgets nothing by policy, and it is ours alone.

No Redis library is imported here: relay and worker hand in their client.
"""

from __future__ import annotations

import secrets
from typing import Any, Protocol
from uuid import UUID

from shared.errors import StartupError
from shared.messages import DEPLOYMENT_KEY, INCARNATION_KEY


class Pipeline(Protocol):
    def set(self, name: str, value: str, *, nx: bool) -> Any: ...
    def get(self, name: str) -> Any: ...
    def info(self, section: str) -> Any: ...
    async def execute(self) -> list[Any]: ...


async def incarnation(pipeline: Pipeline, deployment_id: UUID) -> str:
    """Name this Redis' present memory; another name later means that it has forgotten.

    The name is the server's run id and a marker key. Flushed or restarted empty: no marker.
    Restarted from disk, or failed over to a replica that lagged: another run id.
    Raises StartupError when this Redis may evict keys, or serves another database.
    """
    pipeline.set(DEPLOYMENT_KEY, str(deployment_id), nx=True)
    pipeline.get(DEPLOYMENT_KEY)
    pipeline.set(INCARNATION_KEY, secrets.token_hex(16), nx=True)
    pipeline.get(INCARNATION_KEY)
    pipeline.info("server")
    pipeline.info("memory")
    _, owner, _, marker, server, memory = await pipeline.execute()

    if owner.decode() != str(deployment_id):
        raise StartupError(
            f"this Redis serves deployment {owner.decode()}, the database is deployment "
            f"{deployment_id}. Two deployments need two Redis databases: correct "
            "WAYMARK_REDIS_URL or WAYMARK_DATABASE_URL; if the other deployment is gone for good, "
            f"delete the key {DEPLOYMENT_KEY}."
        )
    policy = memory.get("maxmemory_policy")
    if policy != "noeviction":
        raise StartupError(
            f"this Redis has maxmemory-policy {policy}: when full it would drop whole queues. "
            "Set `maxmemory-policy noeviction`."
        )
    return f"{server['run_id']}:{marker.decode()}"
