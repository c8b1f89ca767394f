"""Requests that offer another protocol, as every JDK's client does: the offer is ignored, the body
is read, and nothing of a body is ever taken for a request, however the bytes are cut."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import shutil
import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from hypothesis import example, given
from hypothesis import strategies as st
from uvicorn.server import ServerState

from extracot_server.runtime.connections import bounded
from tests.conftest import IN_CI
from tests.server.live import Live, read_chunks, serve, user
from tests.server.test_connections import connect, error_of, read_all

JDK = (
    "Connection: Upgrade, HTTP2-Settings",
    "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABk",
    "Upgrade: h2c",
)
"""What a JDK's `HttpClient` sends with every request over plain HTTP, unless told otherwise."""
WEBSOCKET = ("Connection: keep-alive, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
OFFERS = (
    JDK,
    WEBSOCKET,
    ("upgrade: TLS/1.0, x/2", "CONNECTION:upgrade"),
    ("Upgrade: a", "Upgrade: b", "Connection: x", "Connection: uPgRaDe"),
)
BODIES = {
    "/v1/chat/completions": {"messages": user(), "max_tokens": 5},
    "/v1/responses": {"input": "What is 2 + 2?", "max_output_tokens": 5},
    "/v1/messages": {"messages": user(), "max_tokens": 5},
    "/v1/messages/count_tokens": {"messages": user()},
    "/v1/tokenize": {"prompt": "What is 2 + 2?"},
}


def post(path: str, body: bytes, *fields: str, chunks: int = 0) -> bytes:
    """A POST; its body in so many chunks, or whole after its length."""
    if chunks:
        size = len(body) // chunks + 1
        pieces = [body[at : at + size] for at in range(0, len(body), size)]
        framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        framing, sent = "Transfer-Encoding: chunked", framed + b"0\r\n\r\n"
    else:
        framing, sent = f"Content-Length: {len(body)}", body
    lines = [f"POST {path} HTTP/1.1", "Host: x", framing, *fields]
    return "\r\n".join([*lines, "", ""]).encode() + sent


# One protocol object, fed by hand -----------------------------------------------------------------


class Wire(asyncio.Transport):
    """Keeps what is written; as a connection's, it tells the protocol when it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed
        self.written += bytes(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


@dataclass(slots=True)
class Told:
    """What an app was asked: method, path and body of each request, and whether all was sent."""

    reads: bool = True
    asked: list[tuple[str, str, bytes]] = field(default_factory=list)
    wire: Wire = field(default_factory=Wire)
    hung_up: bool = False

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", self.reads
        while more:
            message = await receive()
            assert message["type"] == "http.request"
            body, more = body + message["body"], message["more_body"]
        self.asked.append((scope["method"], scope["path"], body))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})


def ask(pieces: list[bytes], *, reads: bool = True) -> Told:
    """What comes of these bytes; the connection is not read any more once it is closed."""
    told = Told(reads)

    async def drive() -> None:
        config = uvicorn.Config(told.app, interface="asgi3", ws="none", log_config=None)
        config.load()
        kind = bounded(64 * 1024, 60.0, lambda code: None)
        protocol = kind(config, ServerState(), {})
        protocol.connection_made(told.wire)
        for piece in pieces:
            if told.wire.closed:
                break
            protocol.data_received(piece)
            await asyncio.sleep(0)
        for _ in range(40):
            await asyncio.sleep(0)
        told.hung_up = told.wire.closed
        protocol.connection_lost(None)
        await asyncio.gather(*protocol.tasks)

    asyncio.run(drive())
    return told


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The data in pieces that end at these places."""
    ends = sorted({place % len(data) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(ends)]


TRAP = b"GET /trap HTTP/1.1\r\nHost: x\r\n\r\n"
REQUESTS = st.tuples(
    st.sampled_from([b"", b"{}", TRAP, b"0\r\n\r\n" + TRAP, TRAP * 3]) | st.binary(max_size=40),
    st.sampled_from([(), *OFFERS]),
    st.integers(0, 3),
)
MANY = st.lists(REQUESTS, min_size=1, max_size=4)
PLACES = st.lists(st.integers(0, 10**6), max_size=8)


@given(MANY, PLACES, st.booleans())
@example([(TRAP, JDK, 0), (TRAP, WEBSOCKET, 2), (b"", (), 0)], [], True)
@example([(TRAP, JDK, 0), (TRAP, JDK, 1)], list(range(900)), True)
@example([(TRAP, JDK, 0), (TRAP, JDK, 1)], list(range(900)), False)
def test_every_body_is_read_and_none_is_a_request(
    requests: list[tuple[bytes, tuple[str, ...], int]], places: list[int], reads: bool
) -> None:
    paths = [f"/{number}" for number in range(len(requests))]
    sent = b"".join(
        post(path, body, *offer, chunks=chunks)
        for path, (body, offer, chunks) in zip(paths, requests, strict=True)
    )
    told = ask(cut(sent, places), reads=reads)
    bodies = [body if reads else b"" for body, _, _ in requests]
    assert told.asked == [("POST", path, body) for path, body in zip(paths, bodies, strict=True)]
    assert told.wire.written.count(b"HTTP/1.1 200 OK") == len(requests)
    assert not told.hung_up


@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS", "PUT"])
def test_an_offer_without_a_body_is_ignored_with_any_method(
    method: str, offer: tuple[str, ...]
) -> None:
    head = "\r\n".join([f"{method} /a?b=c HTTP/1.1", "Host: x", *offer, "", ""]).encode()
    told = ask([head + TRAP])
    assert [method_path[:2] for method_path in told.asked] == [(method, "/a"), ("GET", "/trap")]
    assert not told.hung_up


def test_what_else_a_head_says_still_holds() -> None:
    closing = post("/a", b"x", "Upgrade: h2c", "Connection: upgrade, close")
    told = ask([closing + TRAP])
    assert (told.asked, told.hung_up) == ([("POST", "/a", b"x")], True)
    old = b"POST /a HTTP/1.0\r\nUpgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 1\r\n\r\nx"
    told = ask([old + TRAP])
    assert (told.asked, told.hung_up) == ([("POST", "/a", b"x")], True)
    told = ask([post("/a", b"x", *JDK, "Expect: 100-continue")])
    assert told.asked == [("POST", "/a", b"x")]
    assert told.wire.written.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")


OFFERED = b"POST /a HTTP/1.1\r\nUpgrade: a\r\nConnection: upgrade\r\n"
SIZED = b"Content-Length: 1\r\n"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", 405, id="connect"),
        pytest.param(b"CONNECT /a HTTP/1.1\r\n" + SIZED + b"\r\n", 405, id="connect, a path"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, id="http2"),
        pytest.param(OFFERED + SIZED * 2 + b"\r\n", 400, id="two lengths"),
        pytest.param(
            OFFERED + SIZED + b"Transfer-Encoding: chunked\r\n\r\n", 400, id="two framings"
        ),
        pytest.param(OFFERED + b"Transfer-Encoding: gzip\r\n\r\n", 400, id="no framing"),
        pytest.param(b"POST /a HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 400, id="no offer"),
    ],
)
@pytest.mark.parametrize("bytewise", [False, True])
def test_where_no_end_can_be_known_the_connection_ends(
    sent: bytes, status: int, bytewise: bool
) -> None:
    whole = sent + TRAP
    told = ask([bytes([byte]) for byte in whole] if bytewise else [whole])
    assert not any(path == "/trap" for _, path, _ in told.asked)
    assert told.hung_up
    if told.wire.written:
        assert error_of(told.wire.written)[0] == status


# The whole server ---------------------------------------------------------------------------------


def replies(raw: socket.socket, count: int) -> list[tuple[int, bytes]]:
    """So many replies with a length, as status and body."""
    found: list[tuple[int, bytes]] = []
    data = b""
    while len(found) < count:
        head, end, rest = data.partition(b"\r\n\r\n")
        size = next(
            (int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")),
            0,
        )
        if end and len(rest) >= size:
            found.append((int(head.split()[1]), rest[:size]))
            data = rest[size:]
        else:
            more = raw.recv(2**16)
            assert more, data
            data += more
    assert not data
    return found


@pytest.mark.parametrize("path", BODIES)
def test_every_api_reads_the_body_of_a_request_that_offers_an_upgrade(
    token_server: Live, path: str
) -> None:
    body = json.dumps(BODIES[path]).encode()
    with connect(token_server) as raw:
        whole = post(path, body, *JDK)
        raw.sendall(whole + post(path, body, *WEBSOCKET, chunks=3) + post(path, b"{", *JDK))
        for part in cut(whole, [20, len(whole) - len(body), len(whole) - 5]):
            raw.sendall(part)
        statuses = [status for status, _ in replies(raw, 4)]
    assert statuses == [200, 200, 400, 200]


def test_a_connect_is_refused_and_what_follows_is_no_request(token_server: Live) -> None:
    with connect(token_server) as raw:
        raw.sendall(b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\nGET /health HTTP/1.1\r\n\r\n")
        reply = read_all(raw)
    assert error_of(reply) == (405, "method_not_allowed")
    assert b"\r\nallow: " in reply and reply.count(b"HTTP/1.1") == 1


@pytest.fixture(scope="module")
def jdk() -> Any:
    """Posts bodies with a JDK's own client, one connection for all: status and body of replies."""
    java = shutil.which("java")
    if java is None:
        assert not IN_CI, "CI puts a JDK here (.ci/run)"
        pytest.skip("there is no java (apt-get install openjdk-17-jdk-headless)")
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(serve(tool_parser="hermes")).url
        command = [java, str(Path(__file__).parent / "JdkClient.java"), url]
        pipe = subprocess.PIPE
        process = stack.enter_context(subprocess.Popen(command, stdin=pipe, stdout=pipe))
        assert process.stdin is not None and process.stdout is not None
        given, printed = process.stdin, process.stdout

        def send(path: str, body: Any, how: str = "whole") -> tuple[int, str]:
            text = base64.b64encode(json.dumps(body).encode()).decode()
            given.write(f"{path} {how} {text}\n".encode())
            given.flush()
            status, version, reply = printed.readline().decode().split()
            assert version == "HTTP_1_1"
            return int(status), base64.b64decode(reply).decode()

        yield send
        given.close()


@pytest.mark.parametrize("how", ["whole", "chunks", "expect"])
@pytest.mark.parametrize("path", BODIES)
def test_a_jdks_own_client_is_understood(jdk: Any, path: str, how: str) -> None:
    status, text = jdk(path, BODIES[path], how)
    assert status == 200, text
    assert json.loads(text)


def test_a_jdks_own_client_reads_a_stream(jdk: Any) -> None:
    status, text = jdk("/v1/chat/completions", {"messages": user(), "stream": True})
    assert status == 200
    assert read_chunks(text)[-1]["choices"][0]["finish_reason"] == "stop"


def test_a_jdks_own_client_calls_a_tool_in_two_turns(jdk: Any) -> None:
    path, place = "/v1/chat/completions", {"type": "object", "properties": {}}
    tools = [{"type": "function", "function": {"name": "get_weather", "parameters": place}}]
    asked = user("What does get_weather say?")
    status, text = jdk(path, {"messages": asked, "tools": tools}, "chunks")
    message = json.loads(text)["choices"][0]["message"]
    assert status == 200 and message["tool_calls"][0]["function"]["name"] == "get_weather"
    result = {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "Sunny."}
    status, text = jdk(path, {"messages": [*asked, message, result], "tools": tools})
    assert status == 200 and json.loads(text)["choices"][0]["message"]["content"]
