"""A worker whose event loop is stuck ends itself; one that was stopped for a while does not."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from worker_service.watchdog import EXIT_CODE

WATCHED = """
import asyncio, re, threading, time
from worker_service.watchdog import Watchdog

async def main():
    watchdog = Watchdog({patience}, threading.get_ident())
    watched = asyncio.create_task(watchdog.run())
    await asyncio.sleep(0)

    threading.Thread(target=asyncio.run, args=[watchdog.watch()], daemon=True).start()
    print("watched", flush=True)
    {work}
    print("ended", flush=True)

asyncio.run(main())
"""

HOLDS_THE_INTERPRETER = 're.match(r"(a+)+$", "a" * 64 + "b")'
"""Backtracks for ever, and lets no other thread run meanwhile."""


def watched(work: str, patience: float = 1.0) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WATCHED.format(patience=patience, work=work)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_loop_that_hangs_ends_its_process_and_the_log_names_the_place() -> None:
    process = watched("time.sleep(60)")
    out, _ = process.communicate(timeout=50)
    assert process.returncode == EXIT_CODE
    assert "loop_stuck" in out
    assert "in main" in out, "the stack that it stood in"
    assert "ended" not in out


def test_a_loop_that_holds_the_interpreter_is_ended_by_the_kernel() -> None:
    process = watched(HOLDS_THE_INTERPRETER)
    out, _ = process.communicate(timeout=50)
    assert (process.returncode, out) == (-signal.SIGPROF, "watched\n")


def test_a_loop_that_turns_is_left_alone() -> None:
    process = watched("await asyncio.sleep(3)")
    out, _ = process.communicate(timeout=50)
    assert (process.returncode, out) == (0, "watched\nended\n")


def test_a_process_that_was_stopped_and_continued_is_no_stuck_loop() -> None:
    process = watched("await asyncio.sleep(4)", patience=2.5)
    assert process.stdout is not None
    assert process.stdout.readline() == "watched\n"
    process.send_signal(signal.SIGSTOP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(4)  # longer than its patience
    process.send_signal(signal.SIGCONT)
    out, _ = process.communicate(timeout=50)
    assert (process.returncode, out) == (0, "ended\n")
