"""Why a task waits again, as people read it."""

from __future__ import annotations

from typing import Any

import pytest

from waymark.history import requeued_line


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ({"reason": "replayed"}, "an operator has it dispatched again"),
        ({"reason": "of_tomorrow"}, "it waits again: of_tomorrow"),
        (
            {
                "reason": "failed",
                "code": "transient",
                "detail": "busy",
                "available_at": "2026-11-23T10:00:04Z",
            },
            "another attempt in 4 s: transient: busy",
        ),
    ],
)
def test_each_reason_has_a_line(data: dict[str, Any], line: str) -> None:
    event = {"data": data, "created_at": "2026-11-23T10:00:00Z"}
    assert requeued_line(event) == line
