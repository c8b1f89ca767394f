"""What one connection may cost: heads, bodies and readers that take for ever, peers that vanish."""

from __future__ import annotations

import contextlib
import json
import socket
from typing import Any

import pytest

from extracot_server.cli import bind
from extracot_server.config.settings import Settings
from extracot_server.engine.scripted.engine import ScriptedBehaviour
from extracot_server.runtime.connections import notice_vanished_peers
from tests.server.live import Live, read_events, serve, user

PATH = "/v1/chat/completions"
ENDLESS = ScriptedBehaviour(never_close=True, max_model_len=10**9)


def connect(live: Live, *, receive_buffer: int | None = None) -> socket.socket:
    host, port = live.url.removeprefix("http://").split(":")
    raw = socket.socket()
    if receive_buffer is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    raw.settimeout(120)
    raw.connect((host, int(port)))
    return raw


def request(body: bytes, *headers: str, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    lines = [f"POST {PATH} HTTP/1.1", "Host: x", f"Content-Length: {size}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def read_all(raw: socket.socket) -> bytes:
    """Until the server hangs up."""
    parts = []
    with contextlib.suppress(ConnectionResetError):  # it closed with bytes of ours unread
        while data := raw.recv(2**16):
            parts.append(data)
    return b"".join(parts)


def error_of(reply: bytes) -> tuple[int, str]:
    """Status and code of a refusal in OpenAI's shape."""
    head, _, body = reply.partition(b"\r\n\r\n")
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert b"connection: close" in head.lower()
    return int(head.split()[1]), error["code"]


CHAT = json.dumps({"messages": user(), "max_tokens": 5}).encode()


@pytest.mark.parametrize(
    "head",
    [
        b"GET /health HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 70_000 + b"\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 600_000,
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /health HTTP/1.1\r\n" + b"a: b\r\n" * 3_000 + b"\r\n",
        b"GET /health HTTP/1.1\r\n" + b"".join(b"h%d: %d\r\n" % (n, n) for n in range(60_000)),
    ],
    ids=["one header", "unfinished", "target", "many", "many unfinished"],
)
def test_a_large_head_is_refused_before_it_is_parsed(head: bytes) -> None:
    with serve() as live, connect(live) as raw:
        with contextlib.suppress(ConnectionError):  # it may hang up while we send
            raw.sendall(head)
        reply = read_all(raw)
        if reply:  # a reset may take the reply with it, as TCP has it
            assert error_of(reply) == (431, "headers_too_large")
        assert live.metric_sum("extracot_rejected_total", reason="headers_too_large") == 1
        assert live.http.get("/health").status_code == 200


def test_heads_below_the_limit_pass() -> None:
    with serve() as live:
        assert live.http.get("/health", headers={"x-long": "a" * 60_000}).status_code == 200


@pytest.mark.parametrize(
    "head", [b"GARBAGE\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01" * 9]
)
def test_what_is_not_http_is_a_400_in_openais_shape(head: bytes) -> None:
    with serve() as live, connect(live) as raw:
        raw.sendall(head)
        assert error_of(read_all(raw)) == (400, "invalid_http")


@pytest.mark.parametrize(
    "sent",
    [b"POST /v1/chat", request(b"", length=100), request(CHAT[:20], length=len(CHAT))],
    ids=["half a head", "no body", "half a body"],
)
def test_a_request_that_does_not_arrive_is_a_408(sent: bytes) -> None:
    with serve(receive_timeout_seconds=0.3) as live, connect(live) as raw:
        raw.sendall(sent)
        assert error_of(read_all(raw)) == (408, "request_timeout")
        assert live.metric_sum("extracot_rejected_total", reason="request_timeout") == 1
        assert live.metric_sum("extracot_requests_total") == 0
        live.wait_for(lambda: len(live.server.server_state.connections) == 1)  # the client's own


def test_silence_is_hung_up_on() -> None:
    with serve(receive_timeout_seconds=0.3) as live, connect(live) as raw:
        assert read_all(raw) == b""
        assert live.metric_sum("extracot_rejected_total") == 0


def test_a_second_request_that_hesitates_does_not_break_the_first() -> None:
    behaviour = ScriptedBehaviour(token_interval_seconds=0.02)
    with serve(behaviour, receive_timeout_seconds=0.3) as live, connect(live) as raw:
        body = json.dumps({"messages": user(), "max_tokens": 50, "ignore_eos": True}).encode()
        raw.sendall(request(body) + b"POST /v1/chat")
        reply = read_all(raw)
        head, _, rest = reply.partition(b"\r\n\r\n")
        assert head.split()[1] == b"200"
        assert json.JSONDecoder().raw_decode(rest.decode())[0]["usage"]["completion_tokens"] == 50
        assert rest.rpartition(b"\r\n\r\n")[0].endswith(b"connection: close")  # then its 408


def reads_nothing(live: Live, **fields: Any) -> socket.socket:
    """A stream whose client takes nothing, until the server can send no more of it."""
    body = json.dumps({"messages": user(), "stream": True, "ignore_eos": True, **fields}).encode()
    raw = connect(live, receive_buffer=4096)
    raw.sendall(request(body))
    live.wait_for(lambda: live.in_flight() > 0)
    return raw


def test_a_client_that_reads_nothing_times_out_and_its_slot_is_freed() -> None:
    with serve(ENDLESS, max_running=1, send_timeout_seconds=0.5) as live, reads_nothing(live):
        reply = live.post(max_tokens=5)  # waits for the only turn
        assert reply.status_code == 200
        assert live.metric_sum("extracot_aborts_total", reason="disconnect") == 1
        assert live.in_flight() == 0
        live.wait_for(lambda: len(live.server.server_state.connections) == 1)


def test_who_reads_slowly_but_reads_gets_everything() -> None:
    with serve(ENDLESS, send_timeout_seconds=30.0) as live:
        with reads_nothing(live, max_tokens=4000) as raw:
            text = read_all_chunked(raw)
        assert text.endswith("data: [DONE]\n\n")
        assert sum('"reasoning"' in event for event in read_events(text)) > 3000


def read_all_chunked(raw: socket.socket) -> str:
    """The body of a chunked reply, read in small bites."""
    data = b""
    while not data.endswith(b"\r\n0\r\n\r\n"):
        data += raw.recv(700)
    body, rest = b"", data.partition(b"\r\n\r\n")[2]
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return body.decode()


def test_an_idle_connection_is_kept_as_long_as_is_set() -> None:
    assert Settings(engine="scripted").keep_alive_seconds > 90  # pools of proxies wait that long
    with serve(keep_alive_seconds=1.0) as live, connect(live) as raw:
        raw.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        reply = read_all(raw)  # until it hangs up
        assert reply.startswith(b"HTTP/1.1 200 OK") and b"connection: close" not in reply.lower()
    with serve() as live:
        live.http.get("/health")
        (kept,) = live.server.server_state.connections
        assert kept.timeout_keep_alive == 120  # type: ignore[union-attr]


def test_line_ends_alone_keep_no_connection() -> None:
    with serve(receive_timeout_seconds=2.0) as live, connect(live) as raw:
        raw.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        reply = b""
        while not reply.endswith(b"}"):
            reply += raw.recv(2**16)
        raw.sendall(b"\r\n")
        assert read_all(raw) == b""


def test_a_half_closed_socket_counts_as_gone() -> None:
    behaviour = ScriptedBehaviour(token_interval_seconds=0.02, never_close=True)
    with serve(behaviour) as live, connect(live) as raw:
        raw.sendall(request(json.dumps({"messages": user(), "stream": True}).encode()))
        live.wait_for(lambda: live.in_flight() > 0)
        raw.shutdown(socket.SHUT_WR)
        live.wait_for(lambda: live.in_flight() == 0)
        live.wait_for(lambda: live.metric_sum("extracot_aborts_total", reason="disconnect") == 1)


def test_the_kernel_is_told_to_notice_peers_that_vanished() -> None:
    """A peer without power sends no FIN; nothing unprivileged can cause that, so: the options."""
    with contextlib.closing(bind("127.0.0.1", 0)) as listener:
        notice_vanished_peers(listener, 60.0)
        listener.listen()
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000
            idle = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
            pause = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL)
            probes = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT)
            assert idle + pause * probes <= 60
