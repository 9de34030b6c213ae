"""How the whole stack is at one moment, and as lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from waymark.stack_lines import (
    WORKER_HEADINGS,
    overview_facts,
    queue_facts,
    worker_row,
)
from waymark.tables import Clock, columns, cut
from waymark.task_lines import row_of
from waymark.terminal import clean

if TYPE_CHECKING:
    from waymark.connection import Connection
    from waymark.errors import Document

NEWEST = 20
"""Tasks that are asked for; a terminal shows as many as it has room for."""

TASK_HEADINGS = ("task", "status", "priority", "accepted", "goal")


@dataclass(frozen=True, slots=True)
class Snapshot:
    overview: Document
    queues: list[Document]
    workers: list[Document]
    tasks: list[Document]
    clock: Clock

    @classmethod
    def take(cls, client: Connection) -> Snapshot:
        """Four questions, one after the other. Raises ApiError, Unreachable."""
        from waymark.exchange import Call, exchange

        def ask(path: str, **params: int) -> Document:
            return client.call("GET", path, params=params)

        first = client.run(exchange(Call("GET", "/v1/ops/overview")))
        return cls(
            first.document,
            ask("/v1/ops/queues")["data"],
            [one for one in ask("/v1/ops/workers")["data"] if one["state"] != "gone"],
            ask("/v1/tasks", limit=NEWEST)["data"],
            Clock.of(first.headers),
        )

    @property
    def document(self) -> Document:
        """For programs: the documents of the API, under the names of their addresses."""
        lists = {"queues": self.queues, "workers": self.workers, "tasks": self.tasks}
        return {"overview": self.overview, **lists}

    def lines(self, edge: int | None = None) -> Iterator[str]:
        """``edge``: cells that a line may take; None for as many as it needs."""
        yield from _facts(overview_facts(self.overview, self.clock), edge)
        for queue in self.queues:
            yield ""
            yield from _facts(queue_facts(queue, self.clock), edge)
        for headings, rows in (
            (WORKER_HEADINGS, [worker_row(one, self.clock) for one in self.workers]),
            (TASK_HEADINGS, [row_of(one, self.clock) for one in self.tasks]),
        ):
            if rows:
                yield ""
                yield from columns(headings, rows, edge)


def _facts(facts: Mapping[str, str], edge: int | None) -> Iterator[str]:
    for name, value in facts.items():
        yield cut(clean(f"{name:<14}{value}"), edge)
