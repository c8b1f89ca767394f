"""A small OpenAI-compatible chat server for tests, in a thread, over real HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, dict[str, str], dict[str, Any]]
Answer = Callable[[dict[str, Any]], Reply]


def completion(content: str, reasoning: str | None = None, *, finish: str = "stop") -> Reply:
    """A chat completion that holds this text."""
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if reasoning is not None:
        message["reasoning_content"] = reasoning
    usage = {
        "prompt_tokens": 7,
        "completion_tokens": 12,
        "completion_tokens_details": {"reasoning_tokens": 9},
    }
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return 200, {}, {"object": "chat.completion", "choices": [choice], "usage": usage}


def failure(status: int, message: str, **headers: str) -> Reply:
    """An OpenAI error."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, named, {"error": {"message": message, "type": "error"}}


@dataclass
class ChatServer:
    """``answer`` decides each reply; ``bodies`` are the requests in the order they came."""

    url: str
    answer: Answer
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    running: int = 0
    most_at_once: int = 0


@contextmanager
def serve(answer: Answer) -> Iterator[ChatServer]:
    """The server at a free port of this machine while the block runs."""
    server = ChatServer("", answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with server.lock:
                server.bodies.append(body)
                server.headers.append(dict(self.headers))
                server.running += 1
                server.most_at_once = max(server.most_at_once, server.running)
            try:
                status, headers, reply = server.answer(body)
            finally:
                with server.lock:
                    server.running -= 1
            data = json.dumps(reply).encode()
            try:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # the client was killed: that is what is tested

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
