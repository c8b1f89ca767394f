"""Server-sent events: the response that sends frames until they end or the client leaves.

What the frames hold is an :class:`Encoder`'s; knows nothing of any API.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from json.encoder import encode_basestring
from typing import Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from extracot_server.api.errors import HttpError
from extracot_server.generation.events import Event

log = logging.getLogger("extracot.server")
HANG_UP = "extracot.hang_up"
"""The ASGI extension, ``{"call": function}``, that closes a connection at once."""
SEND_BODY = "extracot.send_body"
"""The ASGI extension, ``{"call": send}``, that leads a body past the middlewares' wrappers of
``send``: they are only interested in how a reply starts, and a stream has a message a token. Beside
it may be ``direct``: a :class:`DirectBody`."""
HEARTBEAT = b": keep-alive\n\n"
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_LINE_ENDS = {end: f"\\u{ord(end):04x}" for end in "\u0085\u2028\u2029"}


def to_json(value: object) -> str:
    """JSON as it goes out, on one line, for those too who know more line ends than SSE does.

    >>> to_json("a\\u2028é")
    '"a\\\\u2028é"'
    """
    # Most are the text of a token, which takes no encoder.
    text = encode_basestring(value) if value.__class__ is str else _encode(value)
    if not text.isascii():  # most is, and knows it
        for end, escaped in _LINE_ENDS.items():
            if end in text:  # only within a string
                text = text.replace(end, escaped)
    return text


class Encoder(Protocol):
    """What the events of one request look like as frames, in some API."""

    def begin(self) -> bytes:
        """What goes before the first event."""

    def encode(self, event: Event) -> bytes:
        """The frames of one event; empty where it shows nothing."""

    def failed(self, error: HttpError) -> bytes:
        """An error after the first byte."""

    def end(self) -> bytes:
        """What goes last, after an error as well."""


async def wait_for_disconnect(receive: Receive) -> None:
    """Return when the client has gone; to be started once the body has been read."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return


class DirectBody(Protocol):
    """Writes a reply's body without a wait, once it has been begun in the usual way."""

    def ready(self) -> bool:
        """Whether more can be written now; the usual way waits until it can."""

    def write(self, body: bytes) -> None:
        """Write a part of the body that is not empty, soon."""

    def flush(self) -> None:
        """Write at once what has been left for soon: before anything goes the usual way."""


class StreamSink:
    """Sends the events of one request at once, where the server below can."""

    def __init__(self, encoder: Encoder) -> None:
        self._encode = encoder.encode
        self.last_sent = 0.0
        self._body: DirectBody | None = None
        self._now: Callable[[], float] = float

    def connect(self, body: DirectBody | None) -> None:
        """To the connection, which gets what is sent; ``None``: nothing can be sent at once."""
        self._body, self._now = body, asyncio.get_running_loop().time
        self.last_sent = self._now()

    def ready(self) -> bool:
        """See :class:`~extracot_server.generation.fast_path.Sink`."""
        return self._body is not None and self._body.ready()

    def emit(self, event: Event) -> None:
        """See :class:`~extracot_server.generation.fast_path.Sink`."""
        frame = self._encode(event)
        if frame and self._body is not None:
            self.last_sent = self._now()
            self._body.write(frame)

    def send(self, frame: bytes) -> bool:
        """Whether a frame could be sent at once; if not, all before it is, and it is to be now."""
        self.last_sent = self._now()
        if self._body is None:
            return False
        if self._body.ready():
            self._body.write(frame)
            return True
        self._body.flush()
        return False

    def flush(self) -> None:
        """What was emitted is sent before whatever follows."""
        if self._body is not None:
            self._body.flush()


class EventStream(Response):
    """Sends frames as they come; a client that leaves closes the generator behind them."""

    media_type = "text/event-stream"

    def __init__(
        self,
        frames: AsyncGenerator[bytes, None],
        *,
        gone: asyncio.Task[None],
        heartbeat_seconds: float,
        send_seconds: float,
        headers: Mapping[str, str],
        sink: StreamSink,
    ) -> None:
        super().__init__(
            headers={"cache-control": "no-cache", "x-accel-buffering": "no", **headers}
        )
        del self.headers["content-length"]
        self._frames = frames
        self._sink = sink
        self._gone = gone
        self._heartbeat = heartbeat_seconds
        self._send_timeout = send_seconds
        self._blocked = False  # a frame waits for the client to take what was sent before

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the frames end or the client leaves."""
        extensions = scope.get("extensions", {})
        send_body = extensions.get(SEND_BODY, {}).get("call", send)
        self._sink.connect(extensions.get(SEND_BODY, {}).get("direct"))
        sending = asyncio.create_task(self._send_all(send, send_body))
        beating = asyncio.create_task(self._beat(send_body))
        hang_up = extensions.get(HANG_UP, {}).get("call", sending.cancel)
        self._await_reader(hang_up)
        try:
            await asyncio.wait({sending, self._gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._timer.cancel()
            for task in (sending, beating, self._gone):
                task.cancel()
            results = await asyncio.gather(sending, beating, self._gone, return_exceptions=True)
            await self._frames.aclose()
        failure = results[0]
        if isinstance(failure, Exception) and not isinstance(failure, OSError):
            raise failure

    async def _send_all(self, send: Send, send_body: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async for frame in self._frames:
            if frame and not self._sink.send(frame):
                self._blocked = True
                await send_body({"type": "http.response.body", "body": frame, "more_body": True})
                self._blocked = False
        self._sink.flush()
        await send_body({"type": "http.response.body", "body": b"", "more_body": False})

    def _await_reader(self, hang_up: Callable[[], object]) -> None:
        """Disconnect a client that reads nothing for too long: it would hold its slot forever."""
        loop = asyncio.get_running_loop()
        left = self._send_timeout
        if self._blocked:
            left = self._sink.last_sent + self._send_timeout - loop.time()
            if left <= 0:
                log.info(
                    "a client read nothing of its stream for %g s: disconnected", self._send_timeout
                )
                hang_up()
                left = self._send_timeout
        self._timer = loop.call_later(max(left, 0.01), self._await_reader, hang_up)

    async def _beat(self, send_body: Send) -> None:
        """A comment whenever nothing was sent for a while, so that no proxy gives up."""
        now = asyncio.get_running_loop().time
        while True:
            due = now() if self._blocked else self._sink.last_sent
            await asyncio.sleep(max(due + self._heartbeat - now(), 0.01))
            if not self._blocked and now() - self._sink.last_sent >= self._heartbeat:
                self._sink.last_sent = now()
                self._sink.flush()
                await send_body(
                    {"type": "http.response.body", "body": HEARTBEAT, "more_body": True}
                )


async def frames_of(
    first: asyncio.Task[Event],
    events: AsyncGenerator[Event, None],
    encoder: Encoder,
    on_error: Callable[[Exception], HttpError],
    begun: Callable[[], None] = lambda: None,
) -> AsyncGenerator[bytes, None]:
    """Frames of a request: its events', or an error, and always what ends a stream.

    ``first`` is the task of the first event, which has been awaited already. ``begun`` is called
    once that has been sent.
    """
    try:
        yield encoder.begin()
        yield encoder.encode(await first)
        begun()
        async for event in events:
            yield encoder.encode(event)
    except Exception as error:  # mapped in one place; the status line has gone out already
        yield encoder.failed(on_error(error))
    finally:
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await events.aclose()
    yield encoder.end()
