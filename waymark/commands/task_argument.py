"""The id of a task, as an argument."""

from __future__ import annotations

from typing import Annotated

import typer

from waymark.complaints import Complaint
from waymark.exit_codes import ExitCode


def _task_id(text: str) -> str:
    from uuid import UUID

    try:
        return str(UUID(text))
    except ValueError:
        raise Complaint(
            f"“{text}” is not a task id.",
            hint="it looks like 01a20a9f-2bbd-728b-87a2-3d216770b6f7; `submit` has printed it.",
            code=ExitCode.USAGE,
        ) from None


TaskArgument = Annotated[
    str, typer.Argument(metavar="TASK_ID", callback=_task_id, help="The id of a task.")
]
