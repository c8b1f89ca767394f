"""The outermost middleware: keeps one record per request, written as a log line and a span.

One line for each request to ``/v1/``, however it ends; what probes and scrapes ask for is only of
interest at level ``debug``. A path is written as its route spells it (``/v1/files/{file_id}``):
what a client has put into one, a key by mistake, is in no record.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from extracot_server.observability.request_log import RequestRecord, open_record
from extracot_server.trace_context import continued

if TYPE_CHECKING:
    from extracot_server.observability.tracing import Tracing

log = logging.getLogger("extracot.access")
_LONGEST_PATH = 200
_NO_ROUTE = "unknown"


class RouteNames:
    """How the routes of an app spell the paths of requests."""

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self._routes = routes
        self._plain = {getattr(route, "path", "") for route in routes}

    def name_of(self, scope: Scope) -> str | None:
        """The path of the route that a request is for; ``None`` where there is none."""
        path: str = scope["path"]
        if path in self._plain and "{" not in path:
            return path
        for route in self._routes:
            if route.matches(scope)[0] is not Match.NONE:
                named: str = getattr(route, "path", "")
                return named or None
        return None


class AccessMiddleware:
    """Writes the record of every request; ``tracing`` is ``None`` where no spans are wanted.

    ``routes`` are the app's, all of them.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        routes: Sequence[BaseRoute],
        keep_prompts: bool,
        tracing: Tracing | None,
    ) -> None:
        self._app = app
        self._names = RouteNames(routes)
        self._keep_prompts = keep_prompts
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = self._names.name_of(scope) or _unrouted(scope["path"])
        record = RequestRecord(scope["method"], path, self._keep_prompts)
        span, onward = None, dict[str, str]()
        if self._tracing is not None:
            pairs = ((k.decode("latin-1"), v.decode("latin-1")) for k, v in scope["headers"])
            span = self._tracing.begin(record, dict(pairs))
            onward = self._tracing.headers(span) if span is not None else {}

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
            await send(message)

        scope.setdefault("state", {})  # so that what the id's middleware puts there is seen here
        try:
            with open_record(record), continued(onward):
                await self._app(scope, receive, watched)
        finally:
            record.request_id = scope["state"].get("request_id")
            if self._tracing is not None and span is not None:
                self._tracing.end(span, record)
            _write(record, logging.INFO if scope["path"].startswith("/v1/") else logging.DEBUG)


def _unrouted(path: str) -> str:
    """What is told of a path that is no route's: the client's own text only at level ``debug``."""
    if not log.isEnabledFor(logging.DEBUG):
        return _NO_ROUTE
    # As it may stand in a log: one line, no control characters, not without end.
    return "".join(c if c.isprintable() else "?" for c in path[:_LONGEST_PATH])


def _write(record: RequestRecord, level: int) -> None:
    if log.isEnabledFor(level):
        fields = record.fields()
        log.log(level, "%s", in_words(fields), extra={"fields": fields})


def in_words(fields: dict[str, object]) -> str:
    """A record as one line for people.

    >>> in_words({"method": "POST", "path": "/v1/x", "status": 400, "seconds": 0.01,
    ...           "error": "invalid_value", "request_id": "req-1"})
    'POST /v1/x 400 invalid_value in 0.010 s [req-1]'
    """
    found = fields.get
    words = [f"{found('method')} {found('path')} {found('status', '-')}"]
    words += [str(word) for word in (found("outcome"), found("error")) if word]
    line = f"{' '.join(words)} in {found('seconds', 0.0):.3f} s"
    if "model" in fields:
        line += f": {found('model')} at {found('budget')}"
        line += f" for {found('key')}" if "key" in fields else ""
    if "completion_tokens" in fields:
        line += f", {found('reasoning_tokens')} reasoning + {found('answer_tokens')} answer tokens"
        saved = found("saved_tokens")
        line += f", {saved:g} saved" if isinstance(saved, float) else ""
    if "first_token_seconds" in fields:
        line += f", first token after {found('first_token_seconds'):.3f} s"
    if "prompt" in fields:
        line += f", prompt {found('prompt')!r}"
    return f"{line} [{found('request_id', '-')}]"
