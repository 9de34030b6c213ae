"""The offline planner as a process of its own: a request in, a plan or a refusal out."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import date
from typing import Any

from waymark.complaints import Complaint

Document = dict[str, Any]  # Any: JSON


def plan(request: Document, *, today: date) -> Document:
    """``roadmap`` and ``explanation``, or ``error`` as a failed task has it."""
    return _ask("plan", say=json.dumps({"request": request, "today": today.isoformat()}))


def stats(language: str) -> Document:
    """Counts of the catalog by domain."""
    return _ask("stats", language)


def _ask(*words: str, say: str = "") -> Document:
    # A process, because services are not imported here: it is the same planner that workers run.
    command = [sys.executable, "-m", "worker_service.generators.offline", *words]
    done = subprocess.run(  # noqa: S603 - only our own commands, never a shell
        command, input=say, capture_output=True, text=True, encoding="utf-8"
    )
    if done.returncode:
        raise Complaint(done.stderr.strip().rpartition("\n")[2] or "the planner did not answer.")
    answer: Document = json.loads(done.stdout)
    return answer
