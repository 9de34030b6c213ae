"""The planner as a process: JSON in, JSON out. ``waymark plan`` and ``make check`` run it."""

from __future__ import annotations

import json
import sys
from datetime import date
from pathlib import Path
from typing import Any

from shared.errors import StartupError, TaskError
from shared.roadmap import LANGUAGES, RoadmapRequest

from . import laid_out, load_catalog
from .content import contents_of, with_content
from .explaining import explain
from .matching import match_goal
from .planning import select
from .reading import FOLDER, read_catalog
from .review import problems
from .stats import stats_of

USAGE = """\
python -m worker_service.generators.offline plan    reads {"request", "today"}, prints the plan
python -m worker_service.generators.offline stats LANGUAGE    prints counts by domain
python -m worker_service.generators.offline check [FOLDER]    says what is wrong with a catalog
"""


def main(words: list[str]) -> int:
    try:
        match words:
            case ["plan"]:
                asked = json.load(sys.stdin)
                return _print(_plan(asked["request"], date.fromisoformat(asked["today"])))
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
