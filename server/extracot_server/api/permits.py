"""The limits of a key, before anything is done for a request: its rate and how many it has at once.

A route takes a permit before it reads a body; what lets the request in uses it. One that was not
used by the end of the request is given back: what is refused or wrong does not count.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any

from fastapi import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from extracot_server.admission.scheduler import Permit
from extracot_server.api.auth import principal_of
from extracot_server.api.exchange import BodyRoute, app_state

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def take_permit(request: Request, *, slot: bool) -> Permit:
    """What the limits of the request's key leave it; ``admission.scheduler.RefusedError`` if none.

    ``slot``: it is for a reply, of which a key may have so many at once.
    """
    limits = app_state(request).rate_limits
    request.state.permit = limits.take(principal_of(request), monotonic(), slot=slot)
    permit: Permit = request.state.permit
    return permit


class ReplyRoute(BodyRoute):
    """A route whose reply is generated: it holds one of the places of its key."""

    def get_route_handler(self) -> Handler:
        """Called by FastAPI once, when the route is added."""
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            take_permit(request, slot=True)
            return await handle(request)

        return handler


class CountRoute(BodyRoute):
    """A route that only counts tokens: it counts for the rate of its key."""

    def get_route_handler(self) -> Handler:
        """Called by FastAPI once, when the route is added."""
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            permit = take_permit(request, slot=False)
            response = await handle(request)
            permit.use(monotonic())
            return response

        return handler


class PermitMiddleware:
    """Gives back what a request had of its key's limits and did not use."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point."""
        try:
            await self._app(scope, receive, send)
        finally:
            permit = scope.get("state", {}).get("permit")
            if isinstance(permit, Permit):
                permit.give_back()
