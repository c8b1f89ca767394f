"""uvicorn with this server's graceful shutdown: finish what runs, within limits, then drop it.

A stop refuses new requests and gives running replies the grace time. What is left then, or at a
second stop, is dropped: the engine ends it, so a stream still gets its error event and ``[DONE]``.
Knows nothing of signals: who calls :meth:`GracefulServer.stop`, and why, is the command's.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn

from extracot_server.model_registry.registry import AppState
from extracot_server.runtime.connections import bounded

_ERROR_EVENT_SECONDS = 2.0  # for it to reach its client; who does not read is cut off


class GracefulServer(uvicorn.Server):
    """A uvicorn server that leaves signals and the app's lifespan to its caller."""

    def __init__(self, config: uvicorn.Config, state: AppState) -> None:
        super().__init__(config)
        self._state = state
        self.gave_up = False
        self._drop_now = asyncio.Event()
        self._ended = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are not uvicorn's: it would raise them again and spoil the exit code."""
        yield

    def stop(self) -> None:
        """First call: refuse new requests, finish what runs. Second: drop what still runs."""
        if self.should_exit:
            self._drop_now.set()
        self._state.stop()
        self.should_exit = True

    def give_up(self) -> None:
        """Stop because nothing can be served any more; ``gave_up`` tells it later."""
        self.gave_up = True
        self.stop()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the listeners and wait for running requests, as long as they may take."""
        self._state.stop()
        dropping = asyncio.create_task(self._drop_in_time())
        try:
            await super().shutdown(sockets)
        finally:
            self._ended.set()
            self._drop_now.set()
            await dropping

    async def _drop_in_time(self) -> None:
        await _wait(self._drop_now, self._state.settings.grace_seconds)
        if self._ended.is_set():
            return
        dropping = asyncio.create_task(self._state.drop())
        await _wait(self._ended, _ERROR_EVENT_SECONDS)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await dropping


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def make_server(app: Callable[..., Any], state: AppState) -> GracefulServer:
    """The server for an app (and its state) of :func:`extracot_server.app.create_app`."""
    settings, rejected = state.settings, state.metrics.rejected
    config = uvicorn.Config(
        app,
        http=bounded(
            settings.max_header_bytes,
            settings.receive_timeout_seconds,
            lambda code: rejected.labels(code).inc(),
        ),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=settings.log_level == "debug",
        server_header=False,
        timeout_keep_alive=settings.keep_alive_seconds,  # type: ignore[arg-type]  # only waited for
    )
    return GracefulServer(config, state)
