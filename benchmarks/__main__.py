"""``python -m benchmarks [--long] [AREA …]``: measure all or some, each figure beside its bar."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

from benchmarks import api, planner, relay, report, worker
from benchmarks.report import Figure
from benchmarks.servers import Servers, servers
from shared.logs import set_up_logs
from shared.settings import Settings

Area = Callable[[Servers, bool], Coroutine[Any, Any, list[Figure]]]
"""Measures on servers of its own; the flag asks for the long runs, too."""

AREAS: dict[str, Area] = {
    "planner": planner.measure,
    "api": api.measure,
    "worker": worker.measure,
    "relay": relay.measure,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("areas", nargs="*", metavar="AREA", help=" | ".join(AREAS))
    parser.add_argument("--long", action="store_true", help="the million-row and long runs, too")
    asked = parser.parse_args()
    unknown = [name for name in asked.areas if name not in AREAS]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]!r}; there are {', '.join(AREAS)}")
    set_up_logs(Settings(log_level="error"), "benchmark")
    figures: list[Figure] = []
    for name in asked.areas or AREAS:
        print(f"Measuring: {name}", file=sys.stderr)
        with servers() as fresh:
            found = uvloop.run(AREAS[name](fresh, asked.long))
        report.show(name, found)
        figures += found
        report.keep(figures, merge=bool(asked.areas))
    missed = [one.name for one in figures if not one.holds]
    for one in missed:
        print(f"Does not hold: {one}.")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
