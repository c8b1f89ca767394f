"""Routes that are read: what answers GET answers HEAD, with the same fields and no body.

Probes and load balancers send HEAD. It goes without saying where there is GET, so the OpenAPI
document does not say it.
"""

from __future__ import annotations

from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import Receive, Scope, Send


class ReadRoute(APIRoute):
    """A GET route that takes HEAD; that no body goes out is the HTTP server's to see to."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether a request is this route's."""
        return super().matches(_as_get(scope))

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer it."""
        await super().handle(_as_get(scope), receive, send)


def _as_get(scope: Scope) -> Scope:
    return {**scope, "method": "GET"} if scope.get("method") == "HEAD" else scope
