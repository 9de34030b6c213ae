"""A query string that is not understood in full is refused: what was meant would not be done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from api_service.listing import task_query

READ_BY_HAND = (task_query,)
"""Dependencies that look at the query string themselves, and refuse what they do not know."""


class StrictRoute(APIRoute):
    """For ``route_class=``. Models of a query forbid what they do not know; the framework passes
    over the query of a route without one, and takes the last of what is said twice."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        by_hand = any(one.call in READ_BY_HAND for one in self.dependant.dependencies)
        asks_nothing = not (self.dependant.query_params or by_hand)

        async def strict(request: Request) -> Response:
            if request.scope["query_string"]:
                faults = list(_faults(request, asks_nothing=asks_nothing))
                if faults:
                    raise RequestValidationError(faults)
            return await handle(request)

        return strict


def _faults(request: Request, *, asks_nothing: bool) -> Iterator[dict[str, Any]]:
    """As pydantic tells of them."""
    for name, times in Counter(name for name, _ in request.query_params.multi_items()).items():
        where = ("query", name)
        if asks_nothing:
            yield {"type": "extra_forbidden", "loc": where}
        elif times > 1:
            error = f"is given {times} times; say it once"
            yield {"type": "value_error", "loc": where, "ctx": {"error": error}}
