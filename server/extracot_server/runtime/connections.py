"""Limits of a connection: bounds on a request's head, on its time to arrive, and on the
silence of a peer that has vanished. uvicorn itself has none of them.

Refusals have OpenAI's shape, like every other. Knows nothing of what is asked.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from extracot_server.api.errors import HttpError
from extracot_server.api.sse import HANG_UP, SEND_BODY

_log = logging.getLogger("extracot.connections")
_log.setLevel(logging.ERROR)
_PROBES = 3
_PER_HEADER = 32  # bytes that keeping one costs besides its text
Refused = Callable[[str], object]


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits; a subclass made by :func:`bounded` sets them."""

    max_header_bytes: int
    receive_seconds: float
    refused: Refused

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # uvicorn warns of every peer that speaks no HTTP; anybody could fill a log with that.
        self.logger = _log

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A peer has connected: a whole request is to arrive in time."""
        self._arriving: asyncio.TimerHandle | None = None
        self._in_head = False
        self._begun = False
        self._head_bytes = 0
        super().connection_made(transport)
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._arrived()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; what is in no complete header yet is counted here."""
        super().data_received(data)
        if self._in_head and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > self.max_header_bytes:
                self._refuse_head()

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self.scope["extensions"] = {HANG_UP: {"call": self.transport.abort}}
        self._in_head, self._begun, self._head_bytes = True, True, 0
        if self._arriving is None:
            self._expect()

    def on_url(self, url: bytes) -> None:
        """A part of the target."""
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """A whole header."""
        super().on_header(name, value)
        self._count(len(name) + len(value) + _PER_HEADER)

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._in_head = False
        super().on_headers_complete()
        if self.cycle is not None:
            self.scope["extensions"][SEND_BODY] = {"call": self.cycle.send}

    def on_message_complete(self) -> None:
        """The request is whole: from here on its time is the server's."""
        self._arrived()
        self._begun = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """What could not be parsed, or had a head too large, which ends the parsing as well."""
        if self._head_bytes > self.max_header_bytes:
            self._refuse_head()
        else:
            self._refuse(400, "invalid_http", msg)

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self.max_header_bytes:
            raise ValueError("the head is too large")  # the parser stops and reports an error

    def _expect(self) -> None:
        self._arriving = self.loop.call_later(self.receive_seconds, self._too_late)

    def _arrived(self) -> None:
        if self._arriving is not None:
            self._arriving.cancel()
            self._arriving = None

    def _too_late(self) -> None:
        self._arriving = None
        if self._replying():
            self._expect()  # one request still runs; what was sent after it has time until it ends
        elif self._begun:
            limit = f"{self.receive_seconds:g} seconds"
            self._refuse(408, "request_timeout", f"The request did not arrive within {limit}.")
        else:
            self.transport.close()  # nothing was ever asked

    def _replying(self) -> bool:
        cycle = self.cycle
        return bool(self.pipeline) or (
            cycle is not None and not cycle.response_complete and not cycle.more_body
        )

    def _refuse_head(self) -> None:
        limit = self.max_header_bytes
        self._refuse(431, "headers_too_large", f"The request's head is larger than {limit} bytes.")

    def _refuse(self, status: int, code: str, message: str) -> None:
        """Answer outside of the app, unless an answer has begun, and hang up."""
        self._arrived()
        if self.transport.is_closing():
            return
        type(self).refused(code)
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            error = HttpError(status, message, "invalid_request_error", code=code)
            body = json.dumps(error.body).encode()
            head = (
                f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
                "content-type: application/json\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        self.transport.close()


def bounded(
    max_header_bytes: int, receive_seconds: float, refused: Refused
) -> type[BoundedProtocol]:
    """The protocol with these limits; ``refused`` is told the code of each refusal."""
    limits = {"max_header_bytes": max_header_bytes, "receive_seconds": receive_seconds}
    return type("Bounded", (BoundedProtocol,), {**limits, "refused": staticmethod(refused)})


def notice_vanished_peers(listener: socket.socket, seconds: float) -> None:
    """Let the kernel end connections whose peer has answered nothing for about ``seconds``.

    Accepted sockets inherit it. Without it a client whose machine or network is gone, and that
    therefore never hung up, is believed to be there for many minutes. Linux only.
    """
    pause = max(1, round(seconds / (_PROBES + 1)))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, pause)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, pause)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(seconds * 1000))
