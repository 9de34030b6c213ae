"""The `llm` generator: a model's words, checked and put in order, with the catalog behind it."""

from worker_service.generators.llm.generator import LlmGenerator

__all__ = ["LlmGenerator"]
