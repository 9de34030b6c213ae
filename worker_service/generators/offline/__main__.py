"""The planner as a process, JSON in, JSON out: for ``waymark plan``, ``make check`` and the API."""

from __future__ import annotations

import json
import signal
import sys
from datetime import date
from pathlib import Path
from traceback import extract_tb
from typing import Any

from shared.errors import StartupError, TaskError
from shared.roadmap import LANGUAGES, RoadmapRequest

from . import design, laid_out, load_catalog
from .content import contents_of, with_content
from .explaining import explain
from .matching import match_goal
from .planning import select
from .reading import FOLDER, read_catalog
from .review import problems
from .stats import stats_of

USAGE = """\
python -m worker_service.generators.offline plan    reads {"request", "today"}, prints the plan
python -m worker_service.generators.offline serve    reads such lines, answers each with its sizes
python -m worker_service.generators.offline stats LANGUAGE    prints counts by domain
python -m worker_service.generators.offline check [FOLDER]    says what is wrong with a catalog
"""


def main(words: list[str]) -> int:
    try:
        match words:
            case ["plan"]:
                asked = json.load(sys.stdin)
                return _print(_plan(asked["request"], date.fromisoformat(asked["today"])))
            case ["serve"]:
                return _serve()
            case ["stats", language]:
                return _print(stats_of(load_catalog(language)).model_dump(mode="json"))
            case ["check", *folder]:
                return _check(Path(folder[0]) if folder else FOLDER)
            case _:
                sys.stderr.write(USAGE)
                return 2
    except StartupError as error:
        sys.stderr.write(f"{error}\n")
        return 1


def _plan(document: Any, today: date) -> dict[str, Any]:  # Any: JSON
    """The plan with its explanation, or why there is none."""
    request = RoadmapRequest.model_validate(document)
    catalog = load_catalog(request.language)
    try:
        match = match_goal(catalog, request.goal)
        selection = select(catalog, request, match, start=request.start_date or today)
        designed = laid_out(request, match, selection, today=today)
    except TaskError as error:
        return {"error": error.as_dict()}
    roadmap = with_content(designed, contents_of(catalog, designed))
    explanation = explain(request, match, selection)
    return {
        "roadmap": roadmap.model_dump(mode="json"),
        "explanation": explanation.model_dump(mode="json"),
    }


def _serve() -> int:
    """A line in, a line out, until nobody is left to ask: a process that dies closes its end. A
    Ctrl-C at its terminal is for that process to deal with."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for line in sys.stdin:
        sys.stdout.write(json.dumps(_sizes(line)) + "\n")
        sys.stdout.flush()
    return 0


def _sizes(line: str) -> dict[str, Any]:
    """Of the plan: goal, feasible, stages, concepts, hours, weeks. ``error`` if there is none;
    ``broke`` if it is our fault: what and where, without anything that a learner wrote."""
    try:
        asked = json.loads(line)
        request = RoadmapRequest.model_validate(asked["request"])
        catalog = load_catalog(request.language)
        match = match_goal(catalog, request.goal)
        designed = design(catalog, request, match, today=date.fromisoformat(asked["today"]))
    except TaskError as error:
        return {"error": error.as_dict()}
    except StartupError as error:
        return {"broke": str(error)}
    except Exception as error:  # noqa: BLE001 - the next request may do better
        return {"broke": f"{type(error).__name__} at {_place(error)}"}
    return {
        "goal": designed.title,
        "feasible": designed.fit.feasible,
        "stages": len(designed.stages),
        "concepts": sum(1 for _ in designed.concepts()),
        "hours": designed.total_hours,
        "weeks": designed.weeks,
    }


def _place(error: Exception) -> str:
    last = extract_tb(error.__traceback__)[-1]
    return f"{Path(last.filename).name}:{last.lineno}"


def _check(folder: Path) -> int:
    found = list(problems([read_catalog(folder, language) for language in LANGUAGES]))
    for one in found:
        sys.stderr.write(f"{one}\n")
    return 1 if found else 0


def _print(document: dict[str, Any]) -> int:
    json.dump(document, sys.stdout, ensure_ascii=False)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
