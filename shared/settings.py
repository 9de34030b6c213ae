"""Every setting of Waymark, and the only reader of the environment (``WAYMARK_*``)."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.errors import StartupError

PREFIX = "WAYMARK_"


def _url_with(*schemes: str) -> AfterValidator:
    def check(value: SecretStr) -> SecretStr:
        if not value.get_secret_value().startswith(tuple(f"{scheme}://" for scheme in schemes)):
            raise ValueError(f"must start with {' or '.join(f'{s}://' for s in schemes)}")
        return value

    return AfterValidator(check)


DatabaseUrl = Annotated[SecretStr, _url_with("postgresql", "postgres")]
RedisUrl = Annotated[SecretStr, _url_with("redis", "rediss", "unix")]
OPENAI = "https://api.openai.com/v1"
HttpUrl = Annotated[str, Field(pattern=r"^https?://[^/\s]+")]


class Settings(BaseSettings):
    """One frozen object, read once in ``__main__`` and handed down. Times are in seconds."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="ignore", allow_inf_nan=False
    )

    database_url: DatabaseUrl | None = Field(
        default=None, description="PostgreSQL, e.g. postgresql://user:password@host:5432/waymark."
    )
    redis_url: RedisUrl | None = Field(
        default=None, description="Redis or Valkey, e.g. redis://host:6379/0."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe log line that is written."
    )
    startup_timeout: float = Field(
        default=15,
        gt=0,
        description="How long a starting role waits for PostgreSQL before it gives up.",
    )
    metrics_port: int | None = Field(
        default=None, ge=1, le=65535, description="Prometheus port of this process; off if unset."
    )
    metrics_host: str = Field(default="127.0.0.1", description="Address of the metrics port.")
    failpoints: str = Field(
        default="", description="For tests only: name=kill|stop|sleep:SECONDS|raise, with commas."
    )
    ready_fd: int | None = Field(
        default=None, description="Set by the supervisor: where a role says that it is ready."
    )

    database_pool: int = Field(
        default=4,
        ge=2,  # the relay verifies through a second session while its claim holds the first
        description="Connections per process; on few cores small beats large.",
    )
    database_connect_timeout: float = Field(
        default=5, gt=0, description="For opening a connection."
    )
    database_command_timeout: float = Field(default=10, gt=0, description="For one statement.")
    database_lock_timeout: float = Field(default=3, gt=0, description="For waiting for a lock.")
    redis_timeout: float = Field(default=2, gt=0, description="For one round trip to Redis.")

    api_host: str = Field(default="127.0.0.1", description="Address that the API listens on.")
    api_port: int = Field(default=8080, ge=0, le=65535, description="Port of the API.")
    api_max_body: int = Field(
        default=64 * 1024, ge=1024, description="Largest accepted request body, in bytes."
    )
    api_rate: int | None = Field(
        default=60_000,
        ge=1,
        description="Requests of one caller in a minute, per API process; JSON null: no limit.",
    )
    api_streams: int = Field(
        default=1000,
        ge=1,
        description="Streams and waits of one caller that are open at once, per API process.",
    )
    api_in_flight: int = Field(
        default=1000,
        ge=1,
        description="Requests worked on at once; more are refused at once, with 503.",
    )
    api_read_timeout: float = Field(
        default=10,
        gt=0,
        description="For a request to arrive: its head, and then its body.",
    )
    api_write_timeout: float = Field(
        default=20,
        gt=0,
        description="A client that takes nothing of an answer for so long is cut off.",
    )
    stream_poll: float = Field(
        default=0.1,
        gt=0,
        description="Pause between two looks for news of all tasks that are followed.",
    )
    stream_ping: float = Field(
        default=15, gt=0, description="A stream without news says so this often."
    )
    presence: float = Field(
        default=10,
        gt=0,
        description="Relays and workers say that they are alive, and look for orders, this often.",
    )
    doorbell_interval: float = Field(
        default=0.05, gt=0, description="The API rings the relay at most this often."
    )

    relay_batch: int = Field(default=200, ge=1, le=1000, description="Messages per claim.")
    relay_poll: float = Field(
        default=0.08,
        gt=0,
        description="Pause between two looks at an empty outbox while no doorbell is heard.",
    )
    relay_poll_listening: float = Field(
        default=1, gt=0, description="The same while the doorbell is proved to be heard."
    )
    relay_full_look: float = Field(
        default=30,
        gt=0,
        description="The outbox is looked through from its very start this often.",
    )
    relay_window: int | None = Field(
        default=None,
        ge=1,
        description="Messages kept waiting in Redis. Unset: 4 per live worker slot, at least 64.",
    )
    relay_ageing: float = Field(
        default=60, gt=0, description="A message counts as one priority higher after this long."
    )
    tenant_weights: dict[str, Annotated[int, Field(ge=1, le=1000)]] = Field(
        default={},
        description='Shares of tenants in a backlog, 1 unless named: {"acme": 3} as JSON.',
    )
    tenant_max_running: int | None = Field(
        default=None, ge=1, description="Tasks of one tenant that run at once; no limit if unset."
    )
    verify_tries: int = Field(
        default=5, ge=1, description="Looks for a task before its message is buried."
    )
    verify_step: float = Field(
        default=0.05, gt=0, description="Pause after look n is n times this."
    )
    sweep_interval: float = Field(
        default=2, gt=0, description="Pause between two rounds of the sweeper."
    )
    memory_check: float = Field(
        default=1, gt=0, description="Pause between two looks whether Redis lost its memory."
    )
    redeliver_after: float = Field(
        default=60, gt=0, description="A doorbell nobody answered rings again after this long."
    )
    retention_days: float | None = Field(
        default=None,
        gt=0,
        le=36500,
        description="Ended tasks are deleted after so many days, roadmaps too; kept if unset.",
    )

    worker_concurrency: int = Field(
        default=32, ge=1, le=1000, description="Generations side by side in one worker."
    )
    lookup_tries: int = Field(default=10, ge=1, description="Looks of a worker for its task.")
    lookup_step: float = Field(default=0.2, gt=0, description="Pause after look n is n times this.")
    lookup_jitter: float = Field(default=0.1, ge=0, description="Random part of that pause.")
    lease: float = Field(default=60, ge=1, description="How long a worker owns a task unheard.")
    heartbeat: float = Field(default=15, gt=0, description="Pause between two lease extensions.")
    watchdog: float = Field(
        default=20, gt=0, description="A worker whose event loop hangs for this long ends itself."
    )
    cancel_poll: float = Field(
        default=1, gt=0, description="Pause between two looks for tasks to be canceled."
    )
    generation_timeout: float = Field(
        default=1800, gt=0, description="For one attempt; a hung one counts as failed."
    )
    step_timeout: float = Field(default=300, gt=0, description="For one step of a generation.")
    step_tries: int = Field(
        default=3, ge=1, description="Failures of a step before its generator does without it."
    )
    max_attempts: int = Field(default=4, ge=1, description="Generations before a task fails.")
    max_takeovers: int = Field(
        default=3, ge=0, description="Vanished workers that are replaced before a task fails."
    )
    retry_base: float = Field(default=2, gt=0, description="First pause before another attempt.")
    retry_cap: float = Field(default=300, gt=0, description="Longest pause before an attempt.")
    drain: float = Field(
        default=20, gt=0, description="How long a stopping role may finish what it holds."
    )

    llm_model: str | None = Field(
        default=None, description="Model that makes the roadmaps; unset: the offline planner."
    )
    llm_base_url: HttpUrl = Field(default=OPENAI, description="An OpenAI-compatible server.")
    llm_api_key: SecretStr | None = Field(default=None, description="Its key, if it wants one.")
    llm_output: Literal["schema", "json"] = Field(
        default="schema",
        description="How the model is told its shape: response_format json_schema or json_object.",
    )
    llm_max_tokens: int | None = Field(
        default=None, ge=256, description="Most tokens of one answer; the server's own if unset."
    )
    llm_first_byte: float = Field(
        default=120, gt=0, description="From a call to the first byte of its answer."
    )
    llm_timeout: float = Field(default=180, gt=0, description="For a whole call.")
    llm_max_bytes: int = Field(
        default=2 * 1024 * 1024, ge=1024, description="Largest accepted answer, in bytes."
    )
    llm_patience: float = Field(
        default=3600,
        ge=0,
        description="How long a task may be put off by a busy model before that is charged.",
    )
    llm_side_by_side: int = Field(
        default=4, ge=1, le=100, description="Calls of one task at the same time."
    )
    llm_calls_per_minute: int | None = Field(
        default=None, ge=1, description="Calls with one key, over all workers; no limit if unset."
    )
    llm_price_in: float | None = Field(
        default=None, ge=0, description="USD for a million tokens that the model reads."
    )
    llm_price_out: float | None = Field(
        default=None, ge=0, description="USD for a million tokens that the model writes."
    )
    llm_budget: float | None = Field(
        default=None, gt=0, description="USD that one task may cost; needs both prices."
    )

    @field_validator("heartbeat")
    @classmethod
    def _keeps_the_lease(cls, heartbeat: float, others: ValidationInfo) -> float:
        lease = others.data.get("lease", math.inf)
        if heartbeat > lease / 2:
            raise ValueError(f"must be at most half of {PREFIX}LEASE ({lease:g} s), to keep it")
        return heartbeat

    @field_validator("llm_base_url", "llm_api_key")
    @classmethod
    def _serves_a_model(cls, value: Any, others: ValidationInfo) -> Any:  # Any: either field's
        if value not in (None, OPENAI) and others.data.get("llm_model") is None:
            raise ValueError(f"is of no use without {PREFIX}LLM_MODEL: name the model, too")
        return value

    @field_validator("llm_budget")
    @classmethod
    def _can_be_kept(cls, budget: float | None, others: ValidationInfo) -> float | None:
        if budget and None in (others.data.get("llm_price_in"), others.data.get("llm_price_out")):
            raise ValueError(
                f"needs {PREFIX}LLM_PRICE_IN and {PREFIX}LLM_PRICE_OUT, to know what a call costs"
            )
        return budget

    def require_database(self) -> str:
        """The database URL; a sentence that says what to set when there is none."""
        return _required(self.database_url, "DATABASE_URL", "postgresql://user:password@host/db")

    def require_redis(self) -> str:
        """The Redis URL; a sentence that says what to set when there is none."""
        return _required(self.redis_url, "REDIS_URL", "redis://host:6379/0")


def _required(value: SecretStr | None, name: str, example: str) -> str:
    if value is None:
        raise StartupError(
            f"{PREFIX}{name} is not set: a single role needs it, e.g. {PREFIX}{name}={example}. "
            "To run everything with embedded servers, use `waymark up`."
        )
    return value.get_secret_value()


def load_settings() -> Settings:
    """Read ``WAYMARK_*`` and, for any of them, ``WAYMARK_*_FILE`` (a file that holds the value).

    Raises StartupError that names the variable, what is wrong with it and what is allowed.
    """
    try:
        return Settings(**_values_from_files())
    except ValidationError as error:
        raise StartupError("; ".join(_complaint(one) for one in error.errors())) from None


def _values_from_files() -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name in Settings.model_fields:
        variable = PREFIX + name.upper()
        if f"{variable}_FILE" not in os.environ:
            continue
        if variable in os.environ:
            raise StartupError(f"{variable} and {variable}_FILE are both set: keep one of them.")
        values[name] = _read(f"{variable}_FILE", os.environ[f"{variable}_FILE"])
    return values


def _read(variable: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise StartupError(f"{variable} names {path}, which cannot be read: {error}") from None


def _complaint(error: Any) -> str:
    variable = PREFIX + str(error["loc"][0]).upper()
    reason = error["msg"].removeprefix("Value error, ")
    return f"{variable} is not usable: {reason}. `waymark config` lists all settings."
