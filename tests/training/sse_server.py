"""A plain OpenAI-compatible server that streams, in a thread: what a bare vLLM looks like."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Chunks = list[dict[str, Any]]
Answer = Callable[[dict[str, Any]], Chunks | int]
"""The chunks of a reply, or the status of an error."""


def delta(**fields: str) -> dict[str, Any]:
    """A chunk with a piece of text."""
    return _chunk([{"index": 0, "delta": fields, "finish_reason": None}])


def end(
    prompt: int, completion: int, reasoning: int | None = None, *, finish: str = "stop"
) -> Chunks:
    """The last two chunks: why it ended, and usage."""
    usage: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": completion}
    usage["total_tokens"] = prompt + completion
    if reasoning is not None:
        usage["completion_tokens_details"] = {"reasoning_tokens": reasoning}
    last = _chunk([{"index": 0, "delta": {}, "finish_reason": finish}])
    return [last, {**_chunk([]), "usage": usage}]


def _chunk(choices: list[dict[str, Any]]) -> dict[str, Any]:
    head = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return {**head, "choices": choices}


@dataclass
class StreamServer:
    """``bodies`` are the requests in the order they came."""

    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def serve_streams(answer: Answer, models: tuple[str, ...] = ("m",)) -> Iterator[StreamServer]:
    """The server at a free port while the block runs."""
    server = StreamServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"  # the end of a reply is the end of the connection

        def do_GET(self) -> None:
            if self.path != "/v1/models":
                return self._send(404, {"error": {"message": "no such page"}})
            names = [
                {"id": name, "object": "model", "created": 1, "owned_by": ""} for name in models
            ]
            return self._send(200, {"object": "list", "data": names})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with server.lock:
                server.bodies.append(body)
                reply = answer(body)
            if isinstance(reply, int):
                return self._send(reply, {"error": {"message": f"said {reply}"}})
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            for chunk in reply:
                self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
                self.wfile.flush()
            self.wfile.write(b"data: [DONE]\n\n")

        def _send(self, status: int, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    server.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
