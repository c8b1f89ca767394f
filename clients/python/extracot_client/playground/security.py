"""Keeps the playground's page to its own server: a policy the browser enforces, and its own icon.

Plain ASGI, independent of Gradio and FastAPI. Gradio's page links to an app manifest at the
root of the host; a page mounted below it would ask the host's owner for that and for an icon.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Any, Send], Awaitable[None]]

# Everything the page may load is its own server's; a picture in a reply leads nowhere.
POLICY = (
    "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; "
    "form-action 'self'; base-uri 'self'; object-src 'none'"
)
_HEADERS = [(b"content-security-policy", POLICY.encode()), (b"referrer-policy", b"no-referrer")]
_MANIFEST = b'<link rel="manifest" href="/manifest.json" />'
_ICON = b'<link rel="icon" href="favicon.ico" />'


class OwnServerOnly:
    """ASGI middleware: adds the policy to every HTML page and replaces the link to a manifest."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Send) -> None:
        """ASGI entry point."""
        if scope["type"] == "http":
            send = _HtmlSender(send)
        await self._app(scope, receive, send)


class _HtmlSender:
    """Holds a page back until it is whole; lets all else through as it comes."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None
        self._body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and _is_html(message):
            self._start = message
        elif self._start is None or message["type"] != "http.response.body":
            await self._send(message)
        else:
            self._body += message.get("body", b"")
            if not message.get("more_body", False):
                await self._send_page(self._start)

    async def _send_page(self, start: Message) -> None:
        body = self._body.replace(_MANIFEST, _ICON)
        kept = [(name, value) for name, value in start["headers"] if name != b"content-length"]
        length = (b"content-length", str(len(body)).encode())
        await self._send({**start, "headers": [*kept, length, *_HEADERS]})
        await self._send({"type": "http.response.body", "body": body})


def _is_html(start: Message) -> bool:
    return any(
        name.lower() == b"content-type" and value.startswith(b"text/html")
        for name, value in start["headers"]
    )
