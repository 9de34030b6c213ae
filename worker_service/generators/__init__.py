"""What makes roadmaps: the port, and the choice of its adapter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker_service.generators.port import RoadmapGenerator

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from shared.settings import Settings

__all__ = ["RoadmapGenerator", "choose"]


def choose(settings: Settings, redis_client: Redis) -> RoadmapGenerator:
    """The model that the settings name, with the offline planner behind it; else that one alone.

    ``redis_client`` is where workers share the rate of a model's calls.
    """
    # Imported here: who plans without a task needs no broker, and the planner is large.
    from worker_service.generators.offline.generator import OfflineGenerator

    if settings.llm_model is None:
        return OfflineGenerator()
    return _with_model(settings, settings.llm_model, redis_client)


def _with_model(settings: Settings, model_name: str, redis_client: Redis) -> RoadmapGenerator:
    # Imported here: a worker without a model needs no HTTP client.
    from worker_service.generators.llm import LlmGenerator
    from worker_service.generators.llm.bucket import Bucket
    from worker_service.generators.llm.model import Model
    from worker_service.generators.offline.generator import OfflineGenerator

    per_minute = settings.llm_calls_per_minute
    bucket = Bucket(redis_client, per_minute, settings.llm_api_key) if per_minute else None
    return LlmGenerator(
        Model(settings, bucket),
        fallback=OfflineGenerator(),
        model_name=model_name,
        at_once=settings.llm_side_by_side,
    )
