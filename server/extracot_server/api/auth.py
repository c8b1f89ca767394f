"""Keys at the door: who is calling, before anything of a request is read. The key is not kept."""

from __future__ import annotations

from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from extracot_server.api.errors import InvalidKeyError
from extracot_server.keys import ANYBODY, Caller, KeyStore


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
        presented = presented_key(Headers(scope=scope))
        caller = self._keys.find(presented)
        if caller is None:
            error = InvalidKeyError(missing=presented is None)
            await self._respond(error)(scope, receive, send)
            return
        scope.setdefault("state", {})["caller"] = caller
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


def caller_of(request: Request) -> Caller:
    """Who sends this request; :data:`ANYBODY` where no key is asked for."""
    caller: Caller = getattr(request.state, "caller", ANYBODY)
    return caller
