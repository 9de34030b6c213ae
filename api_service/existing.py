"""What all routes about one task answer when it is not there."""

from __future__ import annotations

from typing import TypeVar
from uuid import UUID

from sqlalchemy import RowMapping

from api_service.problems import Problem
from api_service.queries import Row

AnyRow = TypeVar("AnyRow", Row, RowMapping)


def existing(task_id: UUID, row: AnyRow | None) -> AnyRow:
    """The row. Raises Problem for a task that never was, or was deleted."""
    if row is None:
        raise Problem("task-not-found", f"There is no task {task_id}.")
    if row["deleted_at"]:
        raise Problem("task-deleted", f"Task {task_id} was deleted.")
    return row
