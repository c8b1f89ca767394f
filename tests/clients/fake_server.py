"""A server that does over a real socket what a healthy one never does: hang, break off, talk HTML.

One handler per connection, in order; every request is kept. Replies to one request only, so that
what a handler does to its connection is all that happens to it.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

WAIT = 30.0
"""Seconds after which a test that would hang fails instead; never waited out when all is well."""


@dataclass
class Seen:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass
class Connection:
    """The server's end of one connection."""

    socket: socket.socket
    server: FakeServer
    _buffer: bytes = b""

    def read_request(self) -> Seen | None:
        """The next request, or ``None`` when the client has gone."""
        while b"\r\n\r\n" not in self._buffer:
            data = self.socket.recv(65536)
            if not data:
                return None
            self._buffer += data
        head, _, rest = self._buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)
        }
        length = int(headers.get("content-length", "0"))
        while len(rest) < length:
            rest += self.socket.recv(65536)
        self._buffer = rest[length:]
        method, path, _ = first.split(" ", 2)
        return Seen(method, path, headers, rest[:length])

    def send(self, data: bytes) -> None:
        """Send now; a client that has gone is said on the server."""
        try:
            self.socket.sendall(data)
        except ConnectionError:
            self.server.gone.set()
            raise

    def wait_until_gone(self) -> None:
        """Block until the client closes its end, then say so on the server."""
        try:
            while self.socket.recv(65536):
                continue
        except ConnectionError:
            pass
        self.server.gone.set()

    def reset(self) -> None:
        """Break the connection off the hard way."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


Handler = Callable[[Connection, Seen], None]


@dataclass
class FakeServer:
    """Answers with ``handlers`` in turn; the last one goes on for ever."""

    handlers: list[Handler]
    seen: list[Seen] = field(default_factory=list)
    gone: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._open:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue
        for thread in self._threads:
            thread.join(WAIT)
            assert not thread.is_alive()

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self._listener.getsockname()[:2]
        return f"http://{host}:{port}"

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._open.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, raw: socket.socket) -> None:
        with raw:
            connection = Connection(raw, self)
            try:
                request = connection.read_request()
                if request is None:
                    return
                with self._lock:
                    self.seen.append(request)
                    handler = self.handlers[min(len(self.seen), len(self.handlers)) - 1]
                handler(connection, request)
            except OSError:
                return


def reply(status: int, body: bytes | str | dict[str, Any] = b"", **headers: str) -> Handler:
    """A whole reply; a dict is sent as JSON. ``retry_after="1"`` becomes ``Retry-After: 1``."""

    def handle(connection: Connection, request: Seen) -> None:
        data, kind = body, "text/html"
        if isinstance(data, dict):
            data, kind = json.dumps(data), "application/json"
        raw = data.encode() if isinstance(data, str) else data
        lines = {"content-type": kind, "content-length": str(len(raw)), "connection": "close"}
        lines |= {name.replace("_", "-"): value for name, value in headers.items()}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        connection.send(f"HTTP/1.1 {status} Fake\r\n{head}\r\n".encode() + raw)

    return handle


def error(status: int, message: str = "no", **fields: str) -> Handler:
    """An OpenAI error body; ``retry_after`` and ``x_request_id`` go to the headers."""
    headers = {name: fields.pop(name) for name in ("retry_after", "x_request_id") if name in fields}
    body = {
        "error": {"message": message, "type": "fake_error", "param": None, "code": None} | fields
    }
    return reply(status, body, **headers)


def stream(*frames: bytes, end: str = "whole") -> Handler:
    """An event stream that ends ``whole``, ``short`` (mid-chunk), by ``reset``, or hangs
    (``hang``) until the client goes."""

    def handle(connection: Connection, request: Seen) -> None:
        connection.send(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
            b"x-request-id: req-fake\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        for frame in frames:
            connection.send(f"{len(frame):x}\r\n".encode() + frame + b"\r\n")
        match end:
            case "whole":
                connection.send(b"0\r\n\r\n")
            case "short":
                connection.send(b"ff\r\nhalf a")
            case "reset":
                connection.reset()
            case "hang":
                connection.wait_until_gone()

    return handle


def hang(connection: Connection, request: Seen) -> None:
    """Say nothing at all until the client goes."""
    connection.wait_until_gone()


def drop(connection: Connection, request: Seen) -> None:
    """Close without a word."""


def frame(payload: dict[str, Any]) -> bytes:
    """One event."""
    return f"data: {json.dumps(payload, ensure_ascii=False)}\n\n".encode()


def chunk(finish_reason: str | None = None, **delta: str) -> bytes:
    """One chunk of choice 0."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return frame({"id": "c1", "object": "chat.completion.chunk", "model": "m", "choices": [choice]})


def last_chunk(**budget: Any) -> bytes:
    """The usage chunk with its report."""
    usage = {"prompt_tokens": 5, "completion_tokens": 12, "total_tokens": 17}
    details = {"completion_tokens_details": {"reasoning_tokens": 7}}
    return frame({"id": "c1", "choices": [], "usage": usage | details, "budget": budget})


DONE = b"data: [DONE]\n\n"
REPORT = {"requested": 0.2, "level": "0.2", "reasoning_tokens": 7, "answer_tokens": 4}
GOOD = (
    chunk(role="assistant", content=""),
    chunk(reasoning="two ", reasoning_content="two "),
    chunk(reasoning="and two", reasoning_content="and two"),
    chunk(content="It is \\boxed{4}."),
    chunk("stop"),
    last_chunk(**REPORT),
    DONE,
)
