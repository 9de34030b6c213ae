"""Tries the API with all that its description allows, and with much that it does not.

``python -m tests.fuzz`` sends some 20,000 requests to a stack of its own; a test sends fewer.
"""

from __future__ import annotations

import random
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import AcceptedNegativeData, Failure
from schemathesis.core.transport import Response
from schemathesis.engine import events, from_schema
from schemathesis.engine.recorder import CheckNode, ScenarioRecorder
from schemathesis.generation.case import Case
from schemathesis.hooks import HookContext
from schemathesis.openapi.checks import RejectedPositiveData
from schemathesis.schemas import BaseSchema

from api_service.examples import ROADMAP
from shared import migrate
from tests.conftest import Servers
from tests.transcript import stack
from waymark.embedded import PostgresServer, ValkeyServer

CASES = 20_000
EXAMPLES = 300
"""Random cases for each operation in one round."""

STACK = {"WAYMARK_API_RATE": "10000000", "WAYMARK_PRESENCE": "1"}

UNDO = {
    "pause_outbox": "/v1/ops/outbox/resume",
    "pause_queue": "/v1/ops/outbox/resume",
    "pause_intake": "/v1/ops/intake/resume",
    "drain_worker": "/v1/ops/workers/{}/undrain",
}
"""What would stop everything is undone at once, or nothing else would be tried any more."""

REFUSALS = ["400", "404", "405", "409", "413", "415", "422", "431"]
"""Of what does not fit the description. 413, 431: a value is longer than any body or address."""

GOAL = re.compile(r"[!-~]{3,300}")
"""Goals with other characters stay as they are, and fail in most cases."""

DATE = re.compile(r"\d{4}-\d\d-\d\d")
DAYS = {"start_date": 3, "until": 90, "not_before": 1}

BEYOND_SCHEMAS = (
    "idempotency-key-reused",
    "invalid-cursor",
    "precondition-failed",
    "task-deleted",
)
"""Refusals of what fits the description: they depend on what was sent before."""

BEYOND_TYPES = re.compile(
    r"(/tasks/\d+)?(|/input|/input/start_date|/input/until|/not_before|/deadline_seconds)"
    r"|/preview_token|/rate_per_second"
)
"""Where a rule depends on today's date, on two fields at once, or on an earlier answer."""


@dataclass(slots=True)
class Summary:
    """What was sent, and what came of it."""

    statuses: dict[str, Counter[int]] = field(default_factory=dict)
    """By operation."""
    failures: dict[str, str] = field(default_factory=dict)
    """The first of each kind: what was expected, and how to repeat it."""
    undocumented: int = 0
    server_errors: int = 0

    @property
    def cases(self) -> int:
        return sum(sum(one.values()) for one in self.statuses.values())

    def add(self, recorder: ScenarioRecorder) -> None:
        for case_id, interaction in recorder.interactions.items():
            label = recorder.cases[case_id].value.operation.label
            status = interaction.response.status_code if interaction.response else 0
            self.statuses.setdefault(label, Counter())[status] += 1
            self.server_errors += status >= 500
        for case_id, checks in recorder.checks.items():
            label = recorder.cases[case_id].value.operation.label
            for check in checks:
                if check.failure_info:
                    answer = recorder.interactions[case_id].response
                    self._add_failure(label, check, answer.text if answer else "no answer")

    def _add_failure(self, label: str, check: CheckNode, answer: str) -> None:
        assert check.failure_info
        self.undocumented += check.name == "status_code_conformance"
        told = f"{check.failure_info.failure.message}\n{check.failure_info.code_sample}\n{answer}"
        self.failures.setdefault(f"{label}: {check.failure_info.failure.title}", told)

    def merge(self, other: Summary) -> None:
        for label, found in other.statuses.items():
            self.statuses.setdefault(label, Counter()).update(found)
        self.failures = other.failures | self.failures
        self.undocumented += other.undocumented
        self.server_errors += other.server_errors

    def lines(self) -> Iterator[str]:
        for label, found in sorted(self.statuses.items()):
            counts = "  ".join(f"{status} × {count}" for status, count in sorted(found.items()))
            yield f"{label:52} {sum(found.values()):6}  {counts}"
        for kind, told in self.failures.items():
            yield f"\nFAILED {kind}\n{told}"
        yield ""
        yield (
            f"{self.cases} cases over {len(self.statuses)} operations: "
            f"{self.server_errors} server errors, {self.undocumented} undocumented statuses, "
            f"{len(self.failures)} kinds of failures"
        )


def fuzz(url: str, *, examples: int, seed: int) -> Summary:
    """One round: the examples, the edges of each schema, ``examples`` random cases for each
    operation, and as many walks along the links."""
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", config=_config(examples, seed))
    _steer(schema, url)
    summary = Summary()
    for event in from_schema(schema).execute():
        match event:
            case events.ScenarioFinished():
                summary.add(event.recorder)
            case events.NonFatalError():
                summary.failures.setdefault(event.label, str(event.value))
            case events.FatalError():
                raise event.exception
            case _:
                pass
    return summary


def _config(examples: int, seed: int) -> SchemathesisConfig:
    return SchemathesisConfig.from_dict(
        {
            "seed": seed,
            "continue-on-failure": True,
            "request-timeout": 20,
            "generation": {"max-examples": examples, "database": "none"},
            "phases": {"stateful": {"generation": {"max-examples": 2 * examples}}},
            "checks": {"negative_data_rejection": {"expected-statuses": REFUSALS}},
        }
    )


def _steer(schema: BaseSchema, url: str) -> None:
    """Where chance alone would not get far, or far too far."""
    roadmap_id = _a_roadmap(url)

    @schema.hook
    def map_path_parameters(context: HookContext, path_parameters: Any) -> Any:  # Any: as below
        if path_parameters == {"roadmap_id": ROADMAP}:
            return {"roadmap_id": roadmap_id}
        return path_parameters

    @schema.hook
    def map_body(context: HookContext, body: Any) -> Any:  # Any: JSON
        return _within_reach(body)

    @schema.hook
    def map_headers(context: HookContext, headers: Any) -> Any:  # Any: absent, or a dictionary
        if headers and len(headers.get("prefer", "")) % 2:
            return {**headers, "prefer": "wait=1"}
        return headers

    @schema.hook
    def after_call(context: HookContext, case: Case[Any], response: Response) -> None:
        undo = UNDO.get(case.operation.definition.raw.get("operationId", ""))
        if undo and response.status_code == 200:
            worker = (case.path_parameters or {}).get("worker_id")
            httpx2.post(url + undo.format(worker), json={"reason": "undone"}, timeout=10)

    @schema.hook
    def filter_failure(
        context: HookContext, failure: Failure, case: Case[Any], response: Response
    ) -> bool:
        match failure:
            case RejectedPositiveData():
                return not (_is_beyond_schemas(response.json()) or _has_round_float(case.body))
            case AcceptedNegativeData():
                return not _is_judged_one_by_one(case.body)
            case _:
                return True


def _a_roadmap(url: str) -> str:
    """In place of that of the examples: walks along the links find one too rarely."""
    body = {"input": {"goal": "Learn SQL"}}
    made = httpx2.post(f"{url}/v1/tasks", json=body, headers={"Prefer": "wait=60"}, timeout=70)
    return str(made.json()["result"]["roadmap_id"])


def _within_reach(body: Any) -> Any:
    """With dates of the next months, whose refusal would hide all else, and goals that succeed."""
    match body:
        case dict():
            return {name: _likely(name, _within_reach(value)) for name, value in body.items()}
        case list():
            return [_within_reach(one) for one in body]
        case _:
            return body


def _likely(name: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if name == "goal" and GOAL.fullmatch(value):
        return "Learn SQL"
    if name in DAYS and DATE.match(value):
        moment = datetime.now(UTC) + timedelta(days=DAYS[name])
        return moment.isoformat() if name == "not_before" else moment.date().isoformat()
    return value


def _is_judged_one_by_one(body: object) -> bool:
    """Such a batch is accepted with a problem in it."""
    return isinstance(body, dict) and body.get("atomic") is False


def _is_beyond_schemas(problem: Mapping[str, Any]) -> bool:
    """Whether a request may break this rule although it fits the description."""
    if problem["code"] in ("validation-failed", "batch-rejected"):
        return all(BEYOND_TYPES.fullmatch(error["pointer"]) for error in problem.get("errors", ()))
    return problem["code"] in BEYOND_SCHEMAS


def _has_round_float(value: object) -> bool:
    """JSON Schema takes 3.0 for an integer; here an integer is written as one."""
    match value:
        case float():
            return value.is_integer()
        case dict():
            return any(map(_has_round_float, value.values()))
        case list():
            return any(map(_has_round_float, value))
        case _:
            return False


def main() -> int:
    total = Summary()
    with tempfile.TemporaryDirectory() as name, _stack(Path(name)) as url:
        while total.cases < CASES:
            total.merge(fuzz(url, examples=EXAMPLES, seed=random.randrange(2**32)))
            print(f"{total.cases} cases …", file=sys.stderr)
    print("\n".join(total.lines()))
    return 1 if total.failures else 0


@contextmanager
def _stack(folder: Path) -> Iterator[str]:
    postgres, valkey = PostgresServer(folder / "postgres"), ValkeyServer(folder / "valkey")
    try:
        postgres.start()
        valkey.start()
        migrate.upgrade(postgres.url)
        with stack(Servers(postgres, valkey), folder, STACK) as url:
            yield url
    finally:
        valkey.stop()
        postgres.remove()


if __name__ == "__main__":
    sys.exit(main())
