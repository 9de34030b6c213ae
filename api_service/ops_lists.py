"""The operators' lists, page by page. A cursor is where the page before it ended."""

from __future__ import annotations

from datetime import datetime
from typing import TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from api_service import cursors
from api_service.ops_schemas import (
    LARGEST,
    ActPage,
    ActQuery,
    ActView,
    Fingerprint,
    LetterGroup,
    LetterPage,
    LetterQuery,
    LetterView,
    MessagePage,
    MessageView,
    OutboxQuery,
)
from api_service.schemas import Moment
from shared import operating
from shared.database import Database
from shared.lifecycle import Priority


class _Place(BaseModel):
    """What a cursor holds; with anything else in it, it is none of ours."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class _LetterPlace(_Place):
    letter: int = Field(strict=True, ge=1, le=LARGEST)


class _ActPlace(_Place):
    act: int = Field(strict=True, ge=1, le=LARGEST)


class _MessagePlace(_Place):
    at: Moment
    id: UUID

    def beyond(self) -> tuple[datetime, UUID]:
        return self.at, self.id


class _GroupPlace(_Place):
    open: int = Field(strict=True, ge=0, le=LARGEST)
    last: Moment
    id: Fingerprint

    def beyond(self) -> tuple[int, datetime, str]:
        return self.open, self.last, self.id


Place = TypeVar("Place", bound=_Place)


async def messages(database: Database, query: OutboxQuery) -> MessagePage:
    """The oldest first."""
    place = _read(query.cursor, _MessagePlace)
    rows = await operating.messages(
        database,
        tenant=query.tenant,
        priority=Priority[query.priority.upper()] if query.priority else None,
        state=query.state,
        task_id=query.task_id,
        beyond=place.beyond() if place else None,
        limit=query.limit + 1,
    )
    data = [MessageView.model_validate(dict(row)) for row in rows[: query.limit]]
    more = len(rows) > query.limit
    cursor = (
        _written(_MessagePlace(at=data[-1].available_at, id=data[-1].task_id)) if more else None
    )
    return MessagePage(data=data, has_more=more, next_cursor=cursor)


async def letters(database: Database, query: LetterQuery) -> LetterPage:
    """Groups with the most open dead letters first, or single ones by number."""
    return await (_groups if query.grouped else _letters)(database, query)


async def acts(database: Database, query: ActQuery) -> ActPage:
    """The newest first."""
    place = _read(query.cursor, _ActPlace)
    rows = await operating.acts(
        database,
        act=query.act,
        actor=query.actor,
        beyond=place.act if place else None,
        limit=query.limit + 1,
    )
    data = [ActView.model_validate(dict(row)) for row in rows[: query.limit]]
    more = len(rows) > query.limit
    cursor = _written(_ActPlace(act=data[-1].id)) if more else None
    return ActPage(data=data, has_more=more, next_cursor=cursor)


async def _groups(database: Database, query: LetterQuery) -> LetterPage:
    place = _read(query.cursor, _GroupPlace)
    rows = await operating.groups(
        database,
        query.as_filter(),
        resolved=query.resolved,
        beyond=place.beyond() if place else None,
        limit=query.limit + 1,
    )
    data = [LetterGroup.model_validate(dict(row)) for row in rows[: query.limit]]
    more = len(rows) > query.limit
    cursor = None
    if more:
        last = data[-1]
        cursor = _written(_GroupPlace(open=last.open, last=last.last, id=last.fingerprint))
    return LetterPage(data=data, has_more=more, next_cursor=cursor)


async def _letters(database: Database, query: LetterQuery) -> LetterPage:
    place = _read(query.cursor, _LetterPlace)
    rows = await operating.matching(
        database,
        query.as_filter(),
        resolved=query.resolved,
        beyond=place.letter if place else 0,
        limit=query.limit + 1,
    )
    data = [LetterView.model_validate(dict(row)) for row in rows[: query.limit]]
    more = len(rows) > query.limit
    cursor = _written(_LetterPlace(letter=data[-1].id)) if more else None
    return LetterPage(data=data, has_more=more, next_cursor=cursor)


def _written(place: _Place) -> str:
    return cursors.encode(place.model_dump(mode="json"))


def _read(cursor: str | None, kind: type[Place]) -> Place | None:
    """Raises Problem for a cursor of another list, or none of ours."""
    if cursor is None:
        return None
    try:
        return kind.model_validate(cursors.decode(cursor, kind.model_fields))
    except ValidationError:
        raise cursors.not_ours() from None
