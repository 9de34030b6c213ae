"""What can be shown of a roadmap before its concepts have content: each stage as an event."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from shared.roadmap import Roadmap, Stage

PARTIAL_BYTES = 8 * 1024
"""Of JSON, at most; names that do not fit are left out. An event is for people to glance at."""


def partials(plan: Roadmap) -> list[Mapping[str, Any]]:
    return [_partial(stage) for stage in plan.stages]


def _partial(stage: Stage) -> Mapping[str, Any]:
    names = [one.name for module in stage.modules for one in module.concepts]
    partial = {
        "id": stage.id,
        "name": stage.name,
        "week_from": stage.week_from,
        "week_to": stage.week_to,
        "hours": stage.hours,
        "outcome": stage.outcome,
        "concepts": names,
    }
    while len(json.dumps(partial)) > PARTIAL_BYTES:
        names.pop()
    return partial
