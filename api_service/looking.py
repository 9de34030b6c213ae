"""One look at a task: ETag, 304, and a wait for news if the caller prefers that."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Annotated
from uuid import UUID

from fastapi import Header, Request, Response

from api_service.caller import CallerIdentity, ServiceSet, caller_of
from api_service.changes import Mark
from api_service.existing import existing
from api_service.frame import only_waits
from api_service.hanging_up import unless_gone
from api_service.new_task import Submission
from api_service.prefer import wait_of
from api_service.queries import Row
from api_service.schemas import task_view
from shared.lifecycle import TaskStatus

ETAG = re.compile(r'(?:W/)?"([^"]*)"')

POLL_AFTER = "1"
"""Seconds, as a hint to who polls a task that has not ended."""


def mark_of(row: Row) -> Mark:
    """What has to change for the task to count as moved on."""
    published = row["published"] if "published" in row else row["rung_at"] is not None
    return Mark(row["version"], bool(published))


def etag_of(row: Row) -> str:
    """Version, and whether its message is on its way: places in the queue move without it."""
    mark = mark_of(row)
    return f'"{mark.version}.{int(mark.published)}"'


def versions_of(if_match: str | None) -> list[int] | None:
    """The versions that If-Match allows; None for any."""
    if if_match is None or if_match.strip() == "*":
        return None
    tags = [tag for tag in ETAG.findall(if_match) if re.fullmatch(r"\d{1,9}\.[01]", tag)]
    return [int(tag.partition(".")[0]) for tag in tags]


class TaskLook:
    """Who looks, and how long they would wait."""

    def __init__(
        self, request: Request, services: ServiceSet, caller: CallerIdentity, patience: int | None
    ) -> None:
        self.request = request
        self.services = services
        self.caller = caller
        self.patience = patience

    async def at(self, task_id: UUID, if_none_match: str | None) -> Response:
        """200 with the task, or 304 while it is as the caller knows it.

        A wait ends with the next change of what is known, else with the end of the task.
        """
        if if_none_match is None:
            row = await self._task(task_id)
            return await self._answer(200, *await self._waited_for(row))
        known = ETAG.findall(if_none_match)
        mark, waited = await self._mark(task_id), False
        if self._is(mark, known) and self.patience is not None and not _ended(mark):
            with self.services.places.take(self.caller.name) as waited:
                if waited and await self._news(task_id, mark, self.patience):
                    mark = await self._mark(task_id)
        if self._is(mark, known) or if_none_match.strip() == "*":
            return Response(status_code=304, headers=self._headers(mark, waited))
        return await self._answer(200, await self._task(task_id), waited)

    async def accepted(self, submission: Submission) -> Response:
        """202, or 201 if the task has ended while the caller was willing to wait."""
        row, waited = await self._waited_for(submission.task)
        further = {"Location": f"/v1/tasks/{row['id']}"}
        if submission.replayed:
            further["Idempotent-Replayed"] = "true"
        return await self._answer(201 if waited and _ended(row) else 202, row, waited, further)

    async def _waited_for(self, row: Row) -> tuple[Row, bool]:
        """The task once it has ended, or as it then is; and whether that was waited for."""
        if self.patience is None:
            return row, False
        now = asyncio.get_running_loop().time
        until = now() + self.patience
        with self.services.places.take(self.caller.name) as waits:
            while waits and not _ended(row) and (left := until - now()) > 0:
                if not await self._news(row["id"], row, left):
                    break
                row = await self._task(row["id"])
        return row, waits

    async def _news(self, task_id: UUID, row: Row, seconds: float) -> bool:
        only_waits(self.request.scope)
        news = self.services.changes.news(task_id, mark_of(row), seconds)
        return await unless_gone(news, self.request.receive) or False

    async def _task(self, task_id: UUID) -> Row:
        found = await self.services.reads.task(self.caller.tenant_id, task_id)
        return existing(task_id, found)

    async def _mark(self, task_id: UUID) -> Row:
        found = await self.services.reads.mark(self.caller.tenant_id, task_id)
        return existing(task_id, found)

    async def _answer(
        self, status: int, row: Row, waited: bool, further: Mapping[str, str] | None = None
    ) -> Response:
        wait = await self.services.capacity.wait_for(row["position"])
        document = task_view(row, estimated_wait=wait).model_dump_json()
        headers = {**self._headers(row, waited), **(further or {})}
        return Response(document, status, headers, media_type="application/json")

    def _headers(self, row: Row, waited: bool) -> dict[str, str]:
        headers = {"ETag": etag_of(row)}
        if not _ended(row):
            headers["Retry-After"] = POLL_AFTER
        if waited:
            headers["Preference-Applied"] = f"wait={self.patience:g}"
        return headers

    @staticmethod
    def _is(mark: Row, known: Sequence[str]) -> bool:
        return etag_of(mark).strip('"') in known


def _ended(row: Row) -> bool:
    return TaskStatus(row["status"]).terminal


def look_of(request: Request, prefer: str | None) -> TaskLook:
    """By hand, on the hottest routes: a dependency costs the framework more than all of this."""
    services, caller = request.app.state.services, caller_of(request.scope)
    return TaskLook(request, services, caller, wait_of(prefer))


Prefer = Annotated[
    str | None, Header(description="wait=N: hold the answer for up to 60 s (RFC 7240).")
]
