"""Runs a line of a batch through this very app, as if it had come by HTTP.

So every check, limit, metric and log line is that of a request of its own. Whose it is stands in
the scope, since the key itself is not kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Message

from extracot_server.admission.keys import KeyStore
from extracot_server.api.auth import VOUCHED
from extracot_server.api.errors import InvalidKeyError, to_http
from extracot_server.batches.lines import body_bytes
from extracot_server.batches.results import Sent
from extracot_server.batches.runner import BatchRunner
from extracot_server.batches.store import BatchStore
from extracot_server.config.setting_values import SettingsError
from extracot_server.errors import InvalidRequestError
from extracot_server.model_registry.registry import AppState

log = logging.getLogger("extracot.batches")


def batch_runner(app: FastAPI, state: AppState) -> BatchRunner | None:
    """What runs the batches of this app; ``None`` without a folder for them."""
    settings = state.settings
    if settings.batch_folder is None:
        return None
    store = BatchStore(settings.batch_folder, settings)
    send = LineSender(app, state.keys)
    return BatchRunner(store, send, settings.max_body_bytes, state.metrics)


@contextlib.asynccontextmanager
async def running(runner: BatchRunner | None) -> AsyncIterator[None]:
    """Run batches while the block lasts; :class:`SettingsError` for an unusable folder."""
    if runner is None:
        yield
        return
    try:
        runner.store.prepare()
    except OSError as error:
        folder = runner.store.folder
        raise SettingsError(f"batch_folder {folder}: {error.strerror or error}") from None
    task = asyncio.create_task(runner.run())
    task.add_done_callback(_say_why)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _say_why(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("batches run no more in this process", exc_info=error)


class LineSender:
    """The ``send`` of ``batches.running`` for an app."""

    def __init__(self, app: ASGIApp, keys: KeyStore) -> None:
        self._app = app
        self._keys = keys

    async def __call__(
        self, owner: str, endpoint: str, request_id: str, body: dict[str, Any]
    ) -> Sent:
        """What the endpoint answers. A key that has gone since is a 401 of each line."""
        principal = self._keys.named(owner)
        if principal is None:
            gone = to_http(InvalidKeyError(missing=False))
            return Sent(gone.status, request_id, gone.body)
        try:
            raw = body_bytes(body)
        except RecursionError:
            deep = to_http(InvalidRequestError("The body is nested too deeply.", param="body"))
            return Sent(deep.status, request_id, deep.body)
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": endpoint,
            "raw_path": endpoint.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(raw)).encode()),
                (b"x-request-id", request_id.encode()),
            ],
            "client": None,
            "server": None,
            VOUCHED: principal.for_batches(),
        }
        exchange = _Exchange(raw)
        await self._app(scope, exchange.receive, exchange.send)
        state = scope.get("state", {})
        return exchange.sent(
            request_id, began=bool(state.get("running")), code=state.get("error_code")
        )


class _Exchange:
    """A client that sends its body at once, stays, and reads the whole reply."""

    def __init__(self, raw: bytes) -> None:
        self._raw: bytes | None = raw
        self._status = 500
        self._headers: dict[bytes, bytes] = {}
        self._parts: list[bytes] = []

    async def receive(self) -> Message:
        """The body, then nothing for ever: it never hangs up."""
        if self._raw is None:
            await asyncio.get_running_loop().create_future()
        raw, self._raw = self._raw, None
        return {"type": "http.request", "body": raw, "more_body": False}

    async def send(self, message: Message) -> None:
        """Take in a part of the reply."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = {name.lower(): value for name, value in message["headers"]}
        else:
            self._parts.append(message.get("body", b""))

    def sent(self, request_id: str, *, began: bool, code: str | None) -> Sent:
        """The reply as a whole.

        ``began``: whether the request got as far as the engine; ``code``: of the error that became
        of it, which only OpenAI's form of a body says.
        """
        wait = self._headers.get(b"retry-after", b"")
        return Sent(
            self._status,
            request_id,
            json.loads(b"".join(self._parts) or b"null"),
            int(wait) if wait.isdigit() else None,
            lost=began and (self._status == 500 or code == "engine_unavailable"),
        )
