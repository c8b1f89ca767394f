"""Limits of a connection: bounds on a request's head, on its time to arrive, and on the
silence of a peer that has vanished. uvicorn itself has none of them.

And what a client offers to speak instead of HTTP/1.1 is ignored, as RFC 9110 (7.8) has it: llhttp,
the parser below, ends such a request at its head, so it would lose its body, and the next request
would be looked for in there.

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

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from extracot_server.api.errors import HttpError
from extracot_server.api.sse import HANG_UP, SEND_BODY, DirectBody

_log = logging.getLogger("extracot.connections")
_log.setLevel(logging.ERROR)
_PROBES = 3
_PER_HEADER = 32  # bytes that keeping one costs besides its text
_MOST_WAITING = 256
"""Replies that wait to be sent together at most."""
Refused = Callable[[str], object]


class Outbox:
    """What this process's replies have to send, sent together in the loop's next turn.

    A step of an engine has a token for each of many replies. Sent one by one, with the next one's
    work between them, each wakes whoever reads; sent in a row they wake it once, and that is most
    of what they cost.
    """

    def __init__(self) -> None:
        self._full: list[DirectChunks] = []

    def add(self, chunks: DirectChunks) -> None:
        """This one has something to send."""
        if not self._full:
            asyncio.get_running_loop().call_soon(self.flush)
        self._full.append(chunks)
        if len(self._full) == _MOST_WAITING:
            self.flush()

    def flush(self) -> None:
        """Send all."""
        full, self._full = self._full, []
        for chunks in full:
            try:
                chunks.flush()
            except Exception:  # the others are to be sent all the same
                _log.exception("a part of a reply could not be written")


class DirectChunks(DirectBody):
    """Writes a body that is sent in chunks as uvicorn's ``send`` does, and without a wait."""

    def __init__(self, cycle: RequestResponseCycle, outbox: Outbox) -> None:
        self._cycle = cycle
        self._outbox = outbox
        self._parts: list[bytes] = []

    def ready(self) -> bool:
        """Whether the reply is being sent, and its client has taken most of what was."""
        cycle = self._cycle
        return bool(
            cycle.chunked_encoding
            and cycle.response_started
            and not (cycle.response_complete or cycle.disconnected or cycle.flow.write_paused)
            # uvicorn tells only the last of several requests of a connection that it has ended.
            and not cycle.transport.is_closing()
        )

    def write(self, body: bytes) -> None:
        """Write a part of the body that is not empty, in the loop's next turn at the latest."""
        first = not self._parts
        self._parts.append(b"%x\r\n%b\r\n" % (len(body), body))
        if first:
            self._outbox.add(self)

    def flush(self) -> None:
        """Write now what has been left for then."""
        parts, self._parts = self._parts, []
        cycle = self._cycle
        if parts and not (cycle.disconnected or cycle.transport.is_closing()):
            cycle.transport.write(b"".join(parts))


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits; a subclass made by :func:`bounded` sets them."""

    max_header_bytes: int
    receive_seconds: float
    refused: Refused
    outbox: Outbox

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
        self._plain_head = b""  # of a request with an offer: its head without that
        self._tunnel = False
        super().connection_made(transport)
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._arrived()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; what is in no complete header yet is counted here."""
        self._unset_keepalive_if_required()
        try:
            self._parse(data)
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
            return
        if self._arriving is None and not self._replying():
            self._expect()  # stray line ends, which begin no request and yet end uvicorn's wait
        if self._in_head and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > self.max_header_bytes:
                self._refuse_head()

    def _parse(self, data: bytes) -> None:
        """Feed the parser. Where it ends a request at an offer, another one begins that request
        again without it, so body and what follows are read as of any other.
        """
        rest: bytes | memoryview = data
        while True:
            try:
                self.parser.feed_data(rest)
                return
            except httptools.HttpParserUpgrade as ended:
                rest = memoryview(rest)[ended.args[0] :]
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's is
            self.parser.feed_data(self._plain_head)

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
        """The head is whole; one with an offer is parsed again without."""
        if self.parser.get_method() == b"CONNECT":
            self._tunnel = True  # what follows is no HTTP, whatever it looks like
            raise ValueError("no tunnels")
        if self.parser.should_upgrade():
            self._plain_head = self._without_offer()
            return
        self._in_head = False
        super().on_headers_complete()
        if self.cycle is not None:
            direct = DirectChunks(self.cycle, self.outbox)
            self.scope["extensions"][SEND_BODY] = {"call": self.cycle.send, "direct": direct}

    def on_message_complete(self) -> None:
        """The request is whole: from here on its time is the server's."""
        if self.parser.should_upgrade():
            return  # only the parser thinks so
        self._arrived()
        self._begun = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """What could not be parsed, or had a head too large, which ends the parsing as well."""
        if self._head_bytes > self.max_header_bytes:
            self._refuse_head()
        elif self._tunnel:
            text = "This is no proxy: CONNECT is not allowed."
            self._refuse(405, "method_not_allowed", text, "allow: GET, HEAD, POST, OPTIONS\r\n")
        else:
            self._refuse(400, "invalid_http", msg)

    def _without_offer(self) -> bytes:
        """The head that has just been parsed, for a parser that is to see no offer in it.

        Without `Upgrade`, `Connection: upgrade` has no meaning; what else that field says has one.
        """
        first = (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        lines = [b"%b %b HTTP/%b" % first]
        lines += [b"%b: %b" % pair for pair in self.headers if pair[0] != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

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

    def _refuse(self, status: int, code: str, message: str, fields: str = "") -> None:
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
                f"{fields}content-type: application/json\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        self.transport.close()


def bounded(
    max_header_bytes: int, receive_seconds: float, refused: Refused
) -> type[BoundedProtocol]:
    """The protocol with these limits; ``refused`` is told the code of each refusal."""
    limits = {"max_header_bytes": max_header_bytes, "receive_seconds": receive_seconds}
    shared = {"refused": staticmethod(refused), "outbox": Outbox()}
    return type("Bounded", (BoundedProtocol,), {**limits, **shared})


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
