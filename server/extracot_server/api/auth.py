"""Authentication: who sends a request, before its body is read. The key is not kept."""

from __future__ import annotations

from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from extracot_server.admission.keys import ANONYMOUS, KeyStore, Principal
from extracot_server.api.errors import InvalidKeyError

VOUCHED = "extracot.principal"
"""In a scope: whose request it is, said by the server itself. Nothing that arrives by HTTP can put
it there."""


class KeyMiddleware:
    """Lets requests to ``/v1/`` pass with a known key only, and says whose it is."""

    def __init__(
        self,
        app: ASGIApp,
        keys: KeyStore,
        respond: Callable[[Exception], ASGIApp],
        *,
        protect_metrics: bool,
    ) -> None:
        self._app = app
        self._keys = keys
        self._respond = respond
        self._metrics = protect_metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point."""
        if scope["type"] != "http" or not self._guarded(scope["path"]):
            await self._app(scope, receive, send)
            return
        if isinstance(scope.get(VOUCHED), Principal):
            scope.setdefault("state", {})["principal"] = scope[VOUCHED]
            await self._app(scope, receive, send)
            return
        presented = presented_key(Headers(scope=scope))
        principal = self._keys.find(presented)
        if principal is None:
            error = InvalidKeyError(missing=presented is None)
            await self._respond(error)(scope, receive, send)
            return
        scope.setdefault("state", {})["principal"] = principal
        await self._app(scope, receive, send)

    def _guarded(self, path: str) -> bool:
        if path == "/metrics":
            return self._metrics
        return path == "/v1" or path.startswith("/v1/")


def presented_key(headers: Headers) -> bytes | None:
    """The key a client sent: a bearer token, or Anthropic's header."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    found = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "").strip()
    return found.encode("latin-1") or None


def principal_of(request: Request) -> Principal:
    """Who sends this request; :data:`ANONYMOUS` where no key is required."""
    principal: Principal = getattr(request.state, "principal", ANONYMOUS)
    return principal
