"""A deadline ends every part of a call, whatever the server drips; and settings, limits of time
among them, that cannot be used are refused in one line. The clock is the real one here."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from extracot_client import (
    AsyncExtracot,
    ConfigurationError,
    ExtracotTimeoutError,
    InvalidArgumentError,
    RetryPolicy,
    TimeLimits,
)
from extracot_client import Extracot as SyncExtracot
from extracot_client.batch_calls import Batches
from extracot_client.retries import parse_retry_after
from extracot_client.settings import resolve_settings
from tests.clients import fake_server as fake
from tests.clients.fake_server import GOOD, Connection, FakeServer, Handler, Seen

DEADLINE = 0.8
PAUSE = 0.2
CHUNKED = b"content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"

Solve = Callable[..., object]


@pytest.fixture(params=["sync", "async"])
def solve(request: pytest.FixtureRequest) -> Solve:
    """Solve ``times`` times with one client of either kind, the last time with a deadline."""

    def run(url: str, *, times: int = 1, deadline: float = DEADLINE) -> object:
        once = RetryPolicy(max_retries=0)
        if request.param == "sync":
            with SyncExtracot(url, retry=once) as client:
                for _ in range(times - 1):
                    client.solve("x")
                return client.solve("x", deadline=deadline)

        async def ask() -> object:
            async with AsyncExtracot(url, retry=once) as client:
                for _ in range(times - 1):
                    await client.solve("x")
                return await client.solve("x", deadline=deadline)

        return asyncio.run(ask())

    return run


def drip(start: bytes, piece: bytes) -> Handler:
    """Send ``start``, then ``piece`` again and again until the client goes."""

    def handle(connection: Connection, request: Seen) -> None:
        connection.send(start)
        for _ in range(int(fake.WAIT / PAUSE)):
            connection.server.gone.wait(PAUSE)
            connection.send(piece)

    return handle


def then(first: Handler, second: Handler) -> Handler:
    """Two requests on one connection."""

    def handle(connection: Connection, request: Seen) -> None:
        first(connection, request)
        following = connection.read_request()
        assert following is not None
        connection.server.seen.append(following)
        second(connection, following)

    return handle


HEADERS = drip(b"HTTP/1.1 200 OK\r\n", b"x-more: 1\r\n")
HEARTBEATS = drip(b"HTTP/1.1 200 OK\r\n" + CHUNKED, b"f\r\n: keep-alive\n\n\n\r\n")
LONG = b"content-type: text/plain\r\ncontent-length: 100000\r\n\r\n"


@pytest.mark.parametrize(
    "handler",
    [
        HEADERS,
        drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        HEARTBEATS,
        drip(b"HTTP/1.1 400 Bad Request\r\n" + LONG, b"x"),
        drip(b"HTTP/1.1 503 Full\r\n" + LONG, b"x"),
        drip(b"HTTP/1.1 200 OK\r\n" + LONG, b"x"),
        fake.hang,
    ],
    ids=["headers", "interim", "heartbeats", "body of a 400", "of a 503", "of a 200", "silence"],
)
def test_a_deadline_ends_what_a_server_drips(solve: Solve, handler: Handler) -> None:
    with FakeServer([handler]) as server:
        with pytest.raises(ExtracotTimeoutError, match="deadline") as caught:
            solve(server.url)
        assert caught.value.phase == "deadline" and server.gone.wait(fake.WAIT)
        assert len(server.seen) == 1


def test_a_deadline_ends_a_call_on_a_connection_used_before(solve: Solve) -> None:
    with FakeServer([then(fake.stream(*GOOD), HEADERS)]) as server:
        with pytest.raises(ExtracotTimeoutError) as caught:
            solve(server.url, times=2)
        assert caught.value.phase == "deadline" and server.gone.wait(fake.WAIT)
        assert len(server.seen) == 2


def test_silence_after_some_text_is_ended_by_the_deadline(solve: Solve) -> None:
    def late(connection: Connection, request: Seen) -> None:
        connection.server.gone.wait(PAUSE)
        fake.stream(*GOOD[:3], end="hang")(connection, request)

    with FakeServer([late]) as server:
        with pytest.raises(ExtracotTimeoutError) as caught:
            solve(server.url, deadline=3 * DEADLINE)
        assert caught.value.phase == "deadline" and server.gone.wait(fake.WAIT)
    assert caught.value.partial_reasoning == "two and two"
    assert caught.value.request_id == "req-fake"


def test_lists_end_with_the_deadline_too() -> None:
    with (
        FakeServer([drip(b"HTTP/1.1 200 OK\r\n" + LONG, b" ")]) as server,
        SyncExtracot(server.url, deadline=DEADLINE) as client,
    ):
        with pytest.raises(ExtracotTimeoutError) as caught:
            client.models()
        assert caught.value.phase == "deadline" and server.gone.wait(fake.WAIT)


@pytest.mark.parametrize("handler", [HEADERS, drip(b"HTTP/1.1 200 OK\r\n" + LONG, b" ")])
@pytest.mark.parametrize("call", ["upload", "create", "get", "download"])
def test_a_batchs_calls_end_with_the_deadline_too(
    tmp_path: Path, call: str, handler: Handler
) -> None:
    file, fetched = tmp_path / "asked.jsonl", tmp_path / "results.jsonl"
    file.write_text("{}")
    with FakeServer([handler]) as server, SyncExtracot(server.url, deadline=DEADLINE) as client:
        batches = Batches(client)
        calls: dict[str, Callable[[], object]] = {
            "upload": lambda: batches.upload(file),
            "create": lambda: batches.create("file-1", "/v1/chat/completions", "24h"),
            "get": lambda: batches.get("b-1"),
            "download": lambda: batches.download("file-1", fetched),
        }
        with pytest.raises(ExtracotTimeoutError) as caught:
            calls[call]()
        assert caught.value.phase == "deadline" and server.gone.wait(fake.WAIT)
        assert len(server.seen) == 1
    assert [one.name for one in tmp_path.iterdir()] == ["asked.jsonl"]


def test_a_reply_within_its_deadline_is_whole(solve: Solve) -> None:
    with FakeServer([fake.stream(*GOOD)]) as server:
        assert solve(server.url, deadline=fake.WAIT)


def test_a_whole_reply_counts_when_the_deadline_ends_the_connection(solve: Solve) -> None:
    with FakeServer([fake.stream(*GOOD, end="hang")]) as server:
        assert solve(server.url)


def test_a_date_beyond_all_calendars_is_no_retry_after() -> None:
    date = "Thu, 01 Jan 99999999999999999999 00:00:30 GMT"
    assert parse_retry_after(date, 0.0) is None


@pytest.mark.parametrize("limit", [-1, 0, 1e12, float("nan"), float("inf"), True, "5"])
def test_time_limits_have_bounds(limit: float) -> None:
    with pytest.raises(ConfigurationError, match="`read`"):
        TimeLimits(read=limit)
    with pytest.raises(ConfigurationError, match="`timeout`"):
        resolve_settings(None, None, timeout=limit)


def test_a_deadline_without_end_is_a_long_time_limit() -> None:
    none = TimeLimits(None, None, None, None)
    assert resolve_settings(None, None, timeout=none).timeout(1e300).read == 30 * 86400


@pytest.mark.parametrize("kind", [SyncExtracot, AsyncExtracot])
@pytest.mark.parametrize(
    ("variable", "proxy"),
    [
        ("ALL_PROXY", "socks5://me:pass-word@proxy:1080"),
        ("HTTP_PROXY", "foo:bar"),
        ("HTTP_PROXY", "http://me:pass-word@proxy:pass-word"),
        ("http_proxy", "ftp://me:pass-word@x:21"),
    ],
)
def test_proxies_that_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, kind: type[SyncExtracot], variable: str, proxy: str
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setitem(sys.modules, "socksio", None)
    monkeypatch.setenv(variable, proxy)
    with pytest.raises(ConfigurationError, match=variable) as caught:
        kind("http://server.example")
    assert "pass-word" not in str(caught.value) and "\n" not in str(caught.value)
    assert kind("http://127.0.0.1:1")  # which no proxy stands before


@pytest.mark.parametrize(
    ("name", "value"),
    [("x-user", "é"), ("x-user", "a\r\nb: c"), ("x-user", "\x00"), ("x-user", 5), ("x user", "a")],
)
def test_headers_that_cannot_be_sent(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=name) as caught:
        SyncExtracot(headers={name: value})
    assert "\n" not in str(caught.value)


def test_headers_are_sent() -> None:
    with (
        FakeServer([fake.stream(*GOOD)]) as server,
        SyncExtracot(server.url, headers={"x-user": " me ", "x-empty": ""}) as client,
    ):
        client.solve("x")
    assert server.seen[0].headers["x-user"] == "me"


def test_half_a_character_is_no_argument() -> None:
    with SyncExtracot("http://127.0.0.1:1") as client:
        for call in (
            lambda: client.solve("a\ud83d"),
            lambda: client.solve("x", system="\ud83d"),
            lambda: client.budget_card("\ud83d"),
        ):
            with pytest.raises(InvalidArgumentError) as caught:
                call()
            assert caught.value.param in ("messages", "model")
