"""``GET /v1/tasks``: newest first, along the ids, which grow with time; no page costs more for
being far back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from urllib.parse import urlencode
from uuid import UUID

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import RowMapping, text

from api_service import cursors
from api_service.queries import COLUMNS, with_documents
from api_service.schemas import NO_NUL, Metadata, Moment, storable
from shared.database import Database
from shared.lifecycle import TaskStatus

WINDOW = 20_000
"""Tasks that one page looks through when no index helps; its cursor goes on from there."""

SKEW = timedelta(minutes=10)
"""Ids are made by the clocks of the API's machines, ``created_at`` is PostgreSQL's."""

LAST_ID = UUID(int=2**128 - 1)


Wanted = Annotated[
    str,
    Field(min_length=1, max_length=200, json_schema_extra=NO_NUL),
    AfterValidator(storable),
]


class TaskQuery(BaseModel):
    """The query string; ``metadata[KEY]=VALUE`` arrives as ``metadata``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    status: TaskStatus | None = Field(default=None, description="Only tasks in this state.")
    created_after: Moment | None = Field(default=None, description="Only tasks accepted later.")
    created_before: Moment | None = Field(default=None, description="Only tasks accepted earlier.")
    q: Wanted | None = Field(
        default=None, description="Only tasks whose goal has this in it, in any case."
    )
    metadata: Metadata = Field(
        default={}, description="Only tasks with this metadata: metadata[customer]=42."
    )
    limit: int = Field(default=20, ge=1, le=100)
    cursor: Annotated[str, Field(max_length=500)] | None = Field(
        default=None, description="`next_cursor` of the page before."
    )
    include_total: Literal["estimate"] | None = Field(
        default=None, description="Adds `total_estimate`, which PostgreSQL's planner guesses."
    )


async def task_query(request: Request) -> TaskQuery:
    """A dependency. Raises RequestValidationError, as the framework does for what it reads."""
    request.state.query_model = TaskQuery
    asked: dict[str, Any] = {}
    for name, value in request.query_params.multi_items():
        if name.startswith("metadata[") and name.endswith("]"):
            asked.setdefault("metadata", {})[name[9:-1]] = value
        elif name == "metadata":
            asked["metadata"] = value  # not an object: refused below
        else:
            asked[name] = value
    try:
        return TaskQuery.model_validate(asked)
    except ValidationError as error:
        found = [one | {"loc": _parameter(one["loc"])} for one in error.errors()]
        raise RequestValidationError(found) from error


def _parameter(location: Sequence[str | int]) -> tuple[str | int, ...]:
    """Where it stands in the query string: one parameter for each key of the metadata."""
    name, *key = location
    if name == "metadata" and key:
        return "query", f"metadata[{key[0]}]"
    return "query", *location


@dataclass(frozen=True, slots=True)
class Page:
    rows: Sequence[RowMapping]
    next_id: UUID | None
    """From where the next page goes on: with the tasks before this one."""
    total_estimate: int | None = None

    @property
    def next_cursor(self) -> str | None:
        return None if self.next_id is None else cursors.encode({"before": str(self.next_id)})


async def page_of(database: Database, tenant_id: str, query: TaskQuery) -> Page:
    """At most ``query.limit`` tasks; perhaps fewer, although more are to come."""
    search = _Search.of(tenant_id, query)
    async with database.autocommit() as connection:
        rows = (await connection.execute(search.page(), search.parameters)).mappings().all()
        next_id: UUID | None = None
        if len(rows) > query.limit:
            rows = rows[: query.limit]
            next_id = rows[-1]["id"]
        elif search.windowed:
            next_id = await connection.scalar(WINDOW_END, search.parameters)
            if next_id and rows:  # what was accepted meanwhile has moved the window
                next_id = min(next_id, rows[-1]["id"])
        total = None
        if query.include_total:
            plan = await connection.scalar(search.explained(), search.of_all_pages)
            total = int(plan[0]["Plan"]["Plan Rows"])
    return Page(rows, next_id, total)


def links(query: TaskQuery, page: Page) -> str:
    """The ``Link`` header (RFC 8288): first and, if there is one, next."""
    asked = list(_asked(query))
    found = [f'<{_address(asked)}>; rel="first"']
    if page.next_cursor:
        found.append(f'<{_address([*asked, ("cursor", page.next_cursor)])}>; rel="next"')
    return ", ".join(found)


def _asked(query: TaskQuery) -> Iterator[tuple[str, str]]:
    document = query.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    document.pop("cursor", None)
    for key, value in document.pop("metadata", {}).items():
        yield f"metadata[{key}]", value
    for name, value in document.items():
        yield name, str(value)


def _address(asked: Sequence[tuple[str, str]]) -> str:
    return "/v1/tasks" + (f"?{urlencode(asked)}" if asked else "")


@dataclass(frozen=True, slots=True)
class _Search:
    source: str
    """What is read newest first: FROM to WHERE, with ``task`` and ``message``."""
    conditions: tuple[str, ...]
    windowed: bool
    parameters: dict[str, Any]
    of_all_pages: dict[str, Any]
    """The same without a cursor."""

    @classmethod
    def of(cls, tenant_id: str, query: TaskQuery) -> _Search:
        metadata = json.dumps(query.metadata) if query.metadata else None
        end = _id_at(query.created_before, SKEW, LAST_ID)
        parameters = {
            "tenant_id": tenant_id,
            "before": min(_before(query.cursor), end),
            "floor": _id_at(query.created_after, -SKEW, UUID(int=0)),
            "created_after": query.created_after,
            "created_before": query.created_before,
            "status": query.status,
            "q": None if query.q is None else f"%{_literal(query.q)}%",
            "metadata": metadata,
            "limit": query.limit + 1,
            "window": WINDOW,
        }
        conditions = tuple(
            condition for name, condition in CONDITIONS.items() if parameters[name] is not None
        )
        narrowed = metadata is not None or query.status in INDEXED
        windowed = not narrowed and (query.q is not None or query.status is not None)
        source = OUTBOX if query.status is TaskStatus.QUEUED else WINDOWED if windowed else TASKS
        return cls(source, conditions, windowed, parameters, parameters | {"before": end})

    def page(self) -> Any:  # Any: see with_documents
        return with_documents(
            f"SELECT {COLUMNS}, CAST(NULL AS integer) AS position {self._matching()} "
            "ORDER BY task.id DESC LIMIT :limit"
        )

    def explained(self) -> Any:  # Any: as above
        return text(f"EXPLAIN (FORMAT JSON) SELECT {self._matching(TASKS)}")

    def _matching(self, source: str | None = None) -> str:
        return f"{source or self.source} AND {' AND '.join((ALIVE, *self.conditions))}"


def _before(cursor: str | None) -> UUID:
    """The cursor's id. Raises Problem for what is not a cursor of ours."""
    if cursor is None:
        return LAST_ID
    try:
        return UUID(str(cursors.decode(cursor, ("before",))["before"]))
    except ValueError:
        raise cursors.not_ours() from None


def _id_at(moment: datetime | None, skew: timedelta, otherwise: UUID) -> UUID:
    """The smallest UUIDv7 of a moment (RFC 9562: 48 bits of Unix time in milliseconds lead)."""
    if moment is None:
        return otherwise
    milliseconds = int((moment.timestamp() + skew.total_seconds()) * 1000)
    return UUID(int=min(max(milliseconds, 0), 2**48 - 1) << 80)


def _literal(text: str) -> str:
    """For LIKE: no character of a search is a wildcard."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


INDEXED = (TaskStatus.FAILED, TaskStatus.CANCELED, TaskStatus.RUNNING, TaskStatus.QUEUED)
"""Their tasks are found without reading over others: by partial indexes, or the outbox."""

ALIVE = "task.deleted_at IS NULL"

CONDITIONS = {
    "created_after": "task.created_at > :created_after",
    "created_before": "task.created_at < :created_before",
    "status": "task.status = :status",
    "q": "task.input ->> 'goal' ILIKE :q",
    "metadata": "task.metadata @> CAST(:metadata AS jsonb) AND task.metadata <> '{}'",
}

RANGE = "task.tenant_id = :tenant_id AND task.id < :before AND task.id >= :floor"

TASKS = f"""
    FROM tasks AS task LEFT JOIN outbox_messages AS message ON message.task_id = task.id
    WHERE {RANGE}
"""

OUTBOX = f"""
    FROM outbox_messages AS message JOIN tasks AS task ON task.id = message.task_id
    WHERE message.task_id < :before AND {RANGE}
"""

WINDOWED = f"""
    FROM (
        SELECT * FROM tasks AS task WHERE {RANGE} ORDER BY task.id DESC LIMIT :window
    ) AS task LEFT JOIN outbox_messages AS message ON message.task_id = task.id
    WHERE true
"""  # noqa: S608 - fixed text, here and below

WINDOW_END = text(
    f"""
    SELECT task.id FROM tasks AS task WHERE {RANGE}
    ORDER BY task.id DESC OFFSET :window - 1 LIMIT 1
    """  # noqa: S608
)
