"""``python -m tests.chaos.mutants``: take each guard away in turn; the tests have to notice.

Each mutant is a copy of the tree with one guard removed. It is caught when the tests of the guards,
which pass on the tree as it is, fail on the copy. Prints a table; exits with 1 if one got away.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

TESTS = [
    f"tests/integration/test_{name}.py"
    for name in ("fencing", "steps", "cancellation", "deadlines", "sweeper", "generation")
]
SCHEMA = ["tests/integration/test_migrations.py"]

STATEMENTS = "worker_service/statements.py"
STEPS = "worker_service/steps.py"
BOOK = "worker_service/stepbook.py"
GENERATION = "worker_service/generation.py"
HEARTBEAT = "worker_service/heartbeat.py"
SWEEPS = "relay_service/outbox.py"
FIRST = "shared/migrations/versions/0001_tasks_and_outbox.py"
THIRD = "shared/migrations/versions/0003_steps_cancellation_deadlines.py"


@dataclass(frozen=True, slots=True)
class Mutant:
    guard: str
    file: str
    old: str
    new: str = ""
    nth: int = 1
    """Which occurrence of ``old`` in the file is replaced."""


MUTANTS = (
    Mutant("token: extend", STATEMENTS, "tasks.lease_token = held.token AND"),
    Mutant("token: look", STATEMENTS, "tasks.lease_token = held.token AND", nth=2),
    Mutant("token: record", STATEMENTS, "AND task.lease_token = due.token"),
    Mutant("token: complete", STATEMENTS, "AND task.lease_token = finished.token"),
    Mutant("token: requeue", STATEMENTS, "AND task.lease_token = wish.token"),
    Mutant("token: fail", STATEMENTS, "AND lease_token = :token AND", "AND"),
    Mutant("token: cancel", STATEMENTS, "AND lease_token = :token AND", "AND", nth=2),
    Mutant("token: a new one each time", STATEMENTS, "task.lease_token + 1", "task.lease_token"),
    Mutant("takeover: lease has lapsed", STATEMENTS, "AND task.lease_expires_at < now()"),
    Mutant("takeover: budget", STATEMENTS, "AND task.takeovers < $5::integer"),
    Mutant("takeover: suspects alone", STATEMENTS, "< $6::integer", "< $6::integer + 99"),
    Mutant("takeover: sweeper's lease check", SWEEPS, "AND lease_expires_at < now()"),
    Mutant("takeover: sweeper's budget", SWEEPS, "WHEN takeovers < :max_takeovers", "WHEN true"),
    Mutant("result key", FIRST, 'sa.PrimaryKeyConstraint("task_id", name="roadmaps_pk"),'),
    Mutant("step lookup", STEPS, "if kept is not None and kept.output is not None:", "if False:"),
    Mutant("step: tries", STEPS, "if failures >= self.settings.step_tries:", "if False:"),
    Mutant("step: outputs are kept", THIRD, "op.execute(KEPT)", "pass"),
    Mutant("step: boundary of a drain", STEPS, "self.heartbeat.boundary(self.lease)", "pass"),
    Mutant(
        "step: input hash",
        BOOK,
        "CANONICAL.encode(job.inputs).encode()",
        'b""',
    ),
    Mutant(
        "cancel: acquire",
        STATEMENTS,
        "AND task.takeovers < $5::integer AND task.cancel_requested_at IS NULL",
        "AND task.takeovers < $5::integer",
    ),
    Mutant(
        "cancel: complete",
        STATEMENTS,
        "AND task.status = 'running' AND task.cancel_requested_at IS NULL",
        "AND task.status = 'running'",
    ),
    Mutant(
        "cancel: requeue",
        STATEMENTS,
        "AND task.status = 'running' AND task.cancel_requested_at IS NULL",
        "AND task.status = 'running'",
        nth=2,
    ),
    Mutant(
        "cancel: fail",
        STATEMENTS,
        "AND cancel_requested_at IS NULL\n        RETURNING id,",
        "\n        RETURNING id,",
    ),
    Mutant("cancel: only who was asked", STATEMENTS, "AND cancel_requested_at IS NOT NULL"),
    Mutant("cancel: heartbeat", HEARTBEAT, "elif seen.canceling:", "elif False:"),
    Mutant(
        "cancel: sweeper",
        SWEEPS,
        "WHEN cancel_requested_at IS NOT NULL THEN 'canceled'",
        "WHEN false THEN 'canceled'",
    ),
    Mutant(
        "entry: written before", STATEMENTS, "WHERE step.entry_id = entry.entry_id", "WHERE false"
    ),
    Mutant("entry: being written", THIRD, "IF written = entry THEN", "IF false THEN"),
    Mutant("extend: locked rows", STATEMENTS, "FOR NO KEY UPDATE OF tasks SKIP LOCKED"),
    Mutant("suspects: one at a time", GENERATION, "if self._with_suspect:", "if False:"),
    Mutant("answers: to the end", STEPS, "await asyncio.wait({writing}, timeout=NOTICE)", "pass"),
    Mutant(
        "deadline: acquire",
        STATEMENTS,
        "AND (task.deadline_at IS NULL OR task.deadline_at > now())",
    ),
    Mutant("self-fence", HEARTBEAT, "if left <= 0:", "if False:"),
    Mutant("terminal trigger", FIRST, "op.execute(LIFECYCLE)", "pass"),
)


def main() -> int:
    print("as it is: ", end="", flush=True)
    if not _passes(ROOT):
        print("fails. Mend the tests first.")
        return 1
    print("passes")
    # All of them first: a guard that has moved is told before the long runs begin.
    for mutant in MUTANTS:
        _mutated(ROOT, mutant)
    escaped = [mutant.guard for mutant in MUTANTS if not _report(mutant)]
    print(f"{len(MUTANTS) - len(escaped)} of {len(MUTANTS)} caught")
    return 1 if escaped else 0


def _report(mutant: Mutant) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "tree"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "*.egg-info", "build"))
        (copy / mutant.file).write_text(_mutated(copy, mutant), encoding="utf-8")
        caught = not _passes(copy)
    print(f"{mutant.guard:<34} {'caught' if caught else 'GOT AWAY'}", flush=True)
    return caught


def _mutated(tree: Path, mutant: Mutant) -> str:
    """Raises ValueError when the guard is not where it was."""
    parts = (tree / mutant.file).read_text(encoding="utf-8").split(mutant.old)
    if len(parts) <= mutant.nth:
        raise ValueError(f"{mutant.guard}: {mutant.file} has no such guard: {mutant.old}")
    before, after = mutant.old.join(parts[: mutant.nth]), mutant.old.join(parts[mutant.nth :])
    return before + mutant.new + after


def _passes(tree: Path) -> bool:
    """Whether the tests of the guards pass; what breaks at import counts as noticed, too."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", *TESTS, *SCHEMA],
        cwd=tree,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
