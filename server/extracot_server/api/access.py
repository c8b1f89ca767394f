"""The outermost middleware: keeps one record per request, written as a log line and a span.

One line for each request to ``/v1/``, however it ends; what probes and scrapes ask for is only of
interest at level ``debug``. Keys are never in a record.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from extracot_server.observability.request_log import RequestRecord, open_record
from extracot_server.trace_context import continued

if TYPE_CHECKING:
    from extracot_server.observability.tracing import Tracing

log = logging.getLogger("extracot.access")
_LONGEST_PATH = 200


class AccessMiddleware:
    """Writes the record of every request; ``tracing`` is ``None`` where no spans are wanted."""

    def __init__(self, app: ASGIApp, *, keep_prompts: bool, tracing: Tracing | None) -> None:
        self._app = app
        self._keep_prompts = keep_prompts
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # As it may stand in a log: one line, no control characters, not without end.
        path = "".join(c if c.isprintable() else "?" for c in scope["path"][:_LONGEST_PATH])
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
            _write(record)


def _write(record: RequestRecord) -> None:
    level = logging.INFO if record.path.startswith("/v1/") else logging.DEBUG
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
