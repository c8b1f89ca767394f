"""HTTP/1.1 for httpx whose streamed bodies can be read without a task being woken for each piece.

httpx's own transport takes some forty microseconds for a piece of an event stream, more than all
that this server does with a token, and looks through every connection at each request. Here the
parser that uvicorn uses (httptools) is fed where the bytes arrive, and whoever reads a body may
``listen``: it is called with each piece in that place, while it waits for one. The rest (URLs,
headers, time-outs, errors) is httpx's. Knows no servers and no event streams.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import cast
from urllib.request import getproxies

import httpx

try:
    import httptools
except ImportError:  # not installed on Windows
    httptools = None  # type: ignore[assignment]

LISTEN = "extracot.listen"
"""The extension of a response: :meth:`Body.listen`."""
Listener = Callable[[bytes], bytes]
"""Is given a piece, and returns what of it is still to be read: all, an end of it, or nothing."""
_MOST_WAITING = 256 * 1024  # bytes that nobody has read yet, before no more are taken in
MOST_OF_A_HEAD = 64 * 1024
"""Bytes of a reply's head, and of whatever else comes in a row that is no part of its body."""
_Origin = tuple[str, str, int]


def direct_transport(keep_alive: float) -> httpx.AsyncBaseTransport | None:
    """A transport of this kind; ``None`` (httpx's own) where the environment names a proxy."""
    if httptools is None or {"http", "https", "all"} & getproxies().keys():
        return None
    return DirectTransport(keep_alive)


class DirectTransport(httpx.AsyncBaseTransport):
    """Connections are kept for ``keep_alive`` seconds after a reply. No HTTP/2, no proxies."""

    def __init__(self, keep_alive: float) -> None:
        self._keep_alive = keep_alive
        self._closed = False
        self._open: set[_Connection] = set()
        self._idle: dict[_Origin, list[_Connection]] = {}
        self._context: ssl.SSLContext | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """See :class:`httpx.AsyncBaseTransport`; raises httpx's errors."""
        times: Mapping[str, float | None] = request.extensions.get("timeout", {})
        asked = _head(request) + await request.aread()
        url = request.url
        origin = (url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80))
        connection = self._kept(origin) or await self._connect(origin, times.get("connect"))
        try:
            body = connection.ask(asked, times.get("read"))
            await body.begun()
        except BaseException:
            await connection.end()
            raise
        body.over = lambda: self._keep(origin, connection)
        return httpx.Response(
            connection.status,
            headers=connection.headers,
            stream=body,
            extensions={"http_version": b"HTTP/1.1", LISTEN: body.listen},
        )

    async def aclose(self) -> None:
        """Close every connection, also those of replies that run."""
        self._closed = True
        self._idle = {}
        for connection in tuple(self._open):
            connection.close()
        await asyncio.sleep(0)  # the loop closes the sockets in its next turn

    def _kept(self, origin: _Origin) -> _Connection | None:
        """The one that was used last: it is the least likely to be closed by now."""
        kept = self._idle.get(origin, [])
        while kept:
            connection = kept.pop()
            if connection.wake():
                return connection
        return None

    async def _keep(self, origin: _Origin, connection: _Connection) -> None:
        """A reply is over, or was given up."""
        if self._closed or not connection.reusable:
            await connection.end()
            return
        kept = self._idle.setdefault(origin, [])
        kept.append(connection)
        connection.rest(self._keep_alive, lambda: kept.remove(connection))

    async def _connect(self, origin: _Origin, seconds: float | None) -> _Connection:
        scheme, host, port = origin
        if scheme not in ("http", "https"):
            raise httpx.UnsupportedProtocol(f"the URL has the scheme {scheme!r}")
        context = self._tls() if scheme == "https" else None
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(seconds):
                _, connection = await loop.create_connection(
                    lambda: _Connection(self._open),
                    host,
                    port,
                    ssl=context,
                    server_hostname=host if context else None,
                )
        except TimeoutError as error:
            raise httpx.ConnectTimeout(str(error)) from error
        except OSError as error:  # and those of TLS
            raise httpx.ConnectError(str(error) or type(error).__name__) from error
        return connection

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = httpx.create_ssl_context()
        return self._context


def _head(request: httpx.Request) -> bytes:
    """The head as it goes out. Raises :class:`httpx.LocalProtocolError` where it can't be one."""
    if request.method == "HEAD":  # whose replies tell of a body that they do not have
        raise httpx.LocalProtocolError("HEAD is not asked here")
    if any(b"\r" in value or b"\n" in value for _, value in request.headers.raw):
        raise httpx.LocalProtocolError("a header has a line end in it")
    lines = [b"%b %b HTTP/1.1" % (request.method.encode("ascii"), request.url.raw_path)]
    lines += [b"%b: %b" % pair for pair in request.headers.raw]
    return b"\r\n".join([*lines, b"", b""])


class _Connection(asyncio.Protocol):
    """A connection: one request at a time, and what comes back is fed to its body."""

    def __init__(self, everyone: set[_Connection]) -> None:
        self._everyone = everyone
        self._transport: asyncio.Transport | None = None
        self._body: Body | None = None
        self._closing: asyncio.TimerHandle | None = None
        self._asleep: Callable[[], object] = lambda: None
        self.last_heard = 0.0
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.reusable = False
        """The last reply is whole and the server keeps the connection."""

    # ---------------------------------------------------------------------------- its requests

    def ask(self, request: bytes, silence: float | None) -> Body:
        """Send a request; the body of the reply to come, for which ``silence`` is a time-out."""
        if self._transport is None:
            raise httpx.WriteError("the connection has ended")
        self._parser = httptools.HttpResponseParser(self)
        self._until_end = True  # nothing says how long it is
        self._head_size = self._besides = 0
        self.headers, self.reusable = [], False
        self._body = Body(self, silence)
        self.last_heard = asyncio.get_running_loop().time()
        self._transport.write(request)
        return self._body

    def rest(self, seconds: float, asleep: Callable[[], object]) -> None:
        """Wait for another request; ``asleep`` is called if the connection ends first."""
        self._body, self._asleep = None, asleep
        self._closing = asyncio.get_running_loop().call_later(seconds, self._end_rest)

    def wake(self) -> bool:
        """Another request is coming: whether it can be sent here."""
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
        return self._transport is not None and not self._transport.is_closing()

    def _end_rest(self) -> None:
        self._closing = None
        self._asleep()
        self.close()

    def close(self) -> None:
        """Hang up."""
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
        if self._transport is not None:
            self._transport.abort()

    async def end(self) -> None:
        """Hang up, and see it done."""
        self.close()
        await asyncio.sleep(0)  # the loop closes the socket in its next turn

    def hold_back(self, *, on: bool) -> None:
        """Take in nothing more until the reader has caught up."""
        if self._transport is not None and not self._transport.is_closing():
            (self._transport.pause_reading if on else self._transport.resume_reading)()

    # ----------------------------------------------------------------------------- the network

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._everyone.add(self)

    def data_received(self, data: bytes) -> None:
        body = self._body
        if body is None:  # nobody has asked for anything
            if self._closing is not None:
                self._closing.cancel()
                self._end_rest()
            return
        self.last_heard = asyncio.get_running_loop().time()
        self._besides += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._refuse(body, f"it sent what is no HTTP: {error.__context__ or error}")
        if self._besides > MOST_OF_A_HEAD and not body.whole:
            self._refuse(body, f"it sent more than {MOST_OF_A_HEAD} bytes that are of no body")

    def _refuse(self, body: Body, why: str) -> None:
        self.reusable = False
        body.fail(httpx.RemoteProtocolError(why))
        self.close()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._everyone.discard(self)
        if self._closing is not None:
            self._closing.cancel()
            self._end_rest()
        if (body := self._body) is None:
            return
        if exc is None and body.has_begun and self._until_end:
            body.finish()
        elif exc is None and not body.has_begun:
            body.fail(httpx.RemoteProtocolError("Server disconnected without sending a response."))
        elif exc is None:
            body.fail(httpx.RemoteProtocolError("the connection ended before the reply did"))
        else:
            body.fail(httpx.ReadError(str(exc) or type(exc).__name__))

    # ------------------------------------------------------------------------------ the parser

    def on_message_begin(self) -> None:
        if self._body is not None and self._body.whole:
            raise ValueError("more than was asked for")  # the parser stops, and so does all of it

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_size += len(name) + len(value)
        if self._head_size > MOST_OF_A_HEAD:
            raise ValueError(f"headers of more than {MOST_OF_A_HEAD} bytes")
        self.headers.append((name, value))
        if name.lower() in (b"content-length", b"transfer-encoding"):
            self._until_end = False

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        if self.status < 200:  # another reply follows
            self.headers = []
            return
        self._until_end &= self.status not in (204, 304)
        if self._body is not None:
            self._body.begin()

    def on_body(self, data: bytes) -> None:
        self._besides = 0
        if self._body is not None:
            self._body.add(data)

    def on_message_complete(self) -> None:
        if self.status < 200 or self._body is None:
            return
        self.reusable = self._parser.should_keep_alive()
        self._body.finish()


class Body(httpx.AsyncByteStream):
    """The body of a reply, as it comes in."""

    def __init__(self, connection: _Connection, silence: float | None) -> None:
        self._connection = connection
        self._silence = silence
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._held_back = False
        self._news = asyncio.Event()
        self._waiting = False
        self._listener: Listener | None = None
        self._failure: Exception | None = None
        self.whole = self._closed = False
        self.has_begun = False
        self.over: Callable[[], Awaitable[None]] | None = None

    # ------------------------------------------------------------------------- from the network

    def begin(self) -> None:
        """The head is there."""
        self.has_begun = True
        self._news.set()

    def add(self, piece: bytes) -> None:
        """A piece has come."""
        if self._waiting and self._listener is not None and not self._pieces:
            piece = self._listener(piece)
            if not piece:
                return
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size > _MOST_WAITING and not self._held_back:
            self._held_back = True
            self._connection.hold_back(on=True)
        self._news.set()

    def finish(self) -> None:
        """Nothing more comes."""
        self.whole = True
        self._news.set()

    def fail(self, error: Exception) -> None:
        """Nothing more comes, and that was not all; what is there is read before that is told."""
        if not self.whole and self._failure is None:
            self._failure = error
        self._news.set()

    # --------------------------------------------------------------------------- for its reader

    async def begun(self) -> None:
        """Until the head is there. Raises httpx's errors."""
        while not self.has_begun:
            if self._failure is not None:
                raise self._failure
            await self._wait()

    def listen(self, listener: Listener) -> None:
        """Have pieces shown to ``listener`` from now on that come while this is waited for."""
        self._listener = listener

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The pieces that no listener has taken. Raises httpx's errors."""
        while True:
            while self._pieces:
                piece = self._pieces.popleft()
                self._size -= len(piece)
                if self._held_back and not self._pieces:
                    self._held_back = False
                    self._connection.hold_back(on=False)
                yield piece
            if self._failure is not None:
                raise self._failure
            if self.whole:
                return
            self._waiting = True
            try:
                await self._wait()
            finally:
                self._waiting = False

    async def _wait(self) -> None:
        """For news, as long as silence may last: what a listener takes is none."""
        self._news.clear()
        while not self._news.is_set():
            due = None if self._silence is None else self._connection.last_heard + self._silence
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._news.wait()
                    return
            now = asyncio.get_running_loop().time()
            if self._silence is not None and now >= self._connection.last_heard + self._silence:
                raise httpx.ReadTimeout("nothing came for too long")

    async def aclose(self) -> None:
        """The reader has had enough: the connection is kept where the reply was whole."""
        if not self._closed:
            self._closed = True
            self._listener = None
            if self._held_back:
                self._held_back = False
                self._connection.hold_back(on=False)
            if self.over is not None:
                await self.over()
