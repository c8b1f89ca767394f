"""Hostile and mangled input over real HTTP: bodies, raw bytes, and clients of streams.

Whatever comes, the reply is a success or a refusal in OpenAI's shape, never a 5xx, never silence,
and the engine holds nothing afterwards.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.server.live import Live, read_chunks, user

pytestmark = pytest.mark.usefixtures("idle_at_the_end")
# The server lives on from example to example: what one leaves behind, the next would meet.
SHARED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
QUICK = {"max_tokens": 6, "temperature": 0.5}

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.sampled_from([10**400, -(10**400)]),  # JSON has them, and no float
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(["<COMP_20>", "</think>", "<|im_start|>", "\ud800", "\x00", "native", "auto"]),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
FIELDS = [
    "model", "messages", "budget", "reasoning_effort", "include_reasoning", "stream",
    "stream_options", "n", "max_tokens", "max_completion_tokens", "temperature", "top_p",
    "top_k", "min_p", "presence_penalty", "frequency_penalty", "seed", "stop",
    "repetition_penalty", "logit_bias", "logprobs", "top_logprobs", "min_tokens", "ignore_eos",
    "response_format", "user", "metadata", "tools", "tool_choice", "include_instruction",
]  # fmt: skip
plausible = st.fixed_dictionaries(
    {},
    optional={
        "budget": st.floats(0, 1) | st.sampled_from(["auto", "native", "none", {"ratio": 0.4}]),
        "stream": st.booleans(),
        "n": st.integers(1, 3),
        "seed": st.integers(-5, 5),
        "stop": st.text(max_size=3) | st.lists(st.text(max_size=3), max_size=3),
        "logprobs": st.booleans(),
        "top_logprobs": st.integers(0, 3),
        "stream_options": st.just({"include_usage": True}),
        "response_format": st.sampled_from([{"type": "json_object"}, {"type": "text"}]),
        "messages": st.text(max_size=40).map(user),
    },
)


@pytest.fixture
def idle_at_the_end(token_server: Live) -> Any:
    yield
    token_server.wait_for(lambda: token_server.in_flight() == 0)
    token_server.wait_for(lambda: token_server.metric_sum("extracot_requests_in_flight") == 0)
    assert token_server.http.get("/ready").status_code == 200
    assert token_server.chat(budget=0.2)["choices"][0]["message"]["content"]


def judge(live: Live, content: bytes) -> int:
    """Send it; the status of a reply that is as it should be."""
    response = live.post(content)
    assert response.status_code < 500, (content, response.text)
    if response.status_code != 200:
        error = response.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["message"] and error["type"] and len(response.text) < 4000
    elif response.headers["content-type"].startswith("text/event-stream"):
        assert all("error" not in chunk for chunk in read_chunks(response.text))
    else:
        assert response.json()["usage"]["completion_tokens"] >= 0
    return response.status_code


def dumps(body: Any) -> bytes:
    """JSON as clients may send it, `NaN` and half characters included."""
    return json.dumps(body).encode()


@SHARED
@given(st.binary(max_size=200))
def test_any_bytes(token_server: Live, content: bytes) -> None:
    assert judge(token_server, content) == 400


@SHARED
@given(values)
def test_any_json(token_server: Live, body: Any) -> None:
    judge(token_server, dumps(body))


@settings(SHARED, max_examples=120)
@given(plausible, st.dictionaries(st.sampled_from(FIELDS), values, max_size=2))
def test_a_good_body_with_bad_fields(token_server: Live, good: Any, bad: Any) -> None:
    judge(token_server, dumps({"messages": user(), **QUICK, **good, **bad, **QUICK}))


@SHARED
@given(plausible, st.data())
def test_a_body_cut_or_changed_anywhere(token_server: Live, good: Any, data: Any) -> None:
    whole = bytearray(dumps({"messages": user(), **QUICK, **good}))
    at = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        del whole[at:]
    else:
        whole[at] = data.draw(st.integers(0, 255))
    judge(token_server, bytes(whole))


def connect(live: Live) -> socket.socket:
    host, port = live.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=120)


@SHARED
@given(st.lists(st.binary(max_size=60), max_size=5), st.booleans())
def test_any_bytes_on_a_connection(token_server: Live, parts: list[bytes], reset: bool) -> None:
    """Not even HTTP, in pieces, with a goodbye or without."""
    with connect(token_server) as raw, contextlib.suppress(OSError):
        for part in parts:
            raw.sendall(part)
        if reset:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            raw.shutdown(socket.SHUT_WR)
            while data := raw.recv(4096):
                assert data.startswith(b"HTTP/1.1 4"), data


@SHARED
@given(plausible, st.integers(0, 3000), st.integers(1, 400), st.booleans())
def test_a_client_of_a_stream_that_reads_as_it_likes(
    token_server: Live, good: Any, bytes_read: int, bite: int, reset: bool
) -> None:
    """It reads so much, in such bites, and is gone."""
    content = dumps({"messages": user(), **good, "stream": True, "max_tokens": 60})
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    with connect(token_server) as raw:
        raw.sendall(head.encode() + content)
        got = b""
        while len(got) < bytes_read and (data := raw.recv(bite)):
            got += data
            if got.endswith((b"\r\n0\r\n\r\n", b"}}")):
                break
        if len(got) >= 12:
            assert got[9:12] in (b"200", b"400"), got
        if reset:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


HEADERS = st.dictionaries(
    st.from_regex(r"[A-Za-z-]{1,20}", fullmatch=True).filter(
        lambda name: (
            name.lower()
            not in (
                "host",
                "content-length",
                "transfer-encoding",
                "connection",
                "expect",
                "upgrade",
            )
        )
    ),
    # A value has no space at its ends: clients refuse to send it.
    st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f")).map(
        str.strip
    ),
    max_size=5,
)


@SHARED
@given(HEADERS, st.text(max_size=30), st.text(max_size=20))
def test_any_headers_paths_and_queries(
    token_server: Live, headers: dict[str, str], path: str, query: str
) -> None:
    raw = {name: value.encode("latin-1") for name, value in headers.items()}
    quoted = "/" + "".join(f"%{byte:02x}" for byte in path.encode(errors="replace"))
    response = token_server.http.get(
        quoted, headers=raw, params={"q": query.encode(errors="replace")}
    )
    assert response.status_code in (200, 404, 405, 307)
    assert response.headers["x-request-id"]
