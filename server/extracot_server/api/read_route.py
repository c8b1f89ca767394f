"""Routes that are read: what answers GET answers HEAD, with the same fields and no body.

Probes and load balancers send HEAD. It goes without saying where there is GET, so the OpenAPI
document does not say it. Our own endpoints also refuse what they do not know in a query; those that
OpenAI has too do not, since its SDKs may send more.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from extracot_server.errors import InvalidRequestError


class ReadRoute(APIRoute):
    """A GET route that takes HEAD; that no body goes out is the HTTP server's to see to."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether a request is this route's."""
        return super().matches(_as_get(scope))

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer it."""
        await super().handle(_as_get(scope), receive, send)


class QueryRoute(ReadRoute):
    """One of our own: where it takes parameters in the query, it takes no others."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Called by FastAPI once, when the route is added."""
        handle = super().get_route_handler()
        known = [field.alias for field in self.dependant.query_params]

        async def handler(request: Request) -> Response:
            unknown = [name[:100] for name in request.query_params if name not in known]
            if known and unknown:
                allowed = f"is not a parameter of this endpoint. Allowed: {', '.join(known)}."
                raise InvalidRequestError.of(unknown[0], allowed, "unsupported_parameter")
            return await handle(request)

        return handler


def _as_get(scope: Scope) -> Scope:
    return {**scope, "method": "GET"} if scope.get("method") == "HEAD" else scope
