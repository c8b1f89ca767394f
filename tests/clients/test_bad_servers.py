"""Servers that are down, slow, busy, half there or not what they should be: a typed error, and
never a second request after the first byte. Sleeping and clocks are replaced throughout."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from extracot_client import (
    AsyncExtracot,
    AuthenticationError,
    Clock,
    ConnectionLostError,
    Event,
    Extracot,
    ExtracotAPIError,
    ExtracotClientError,
    ExtracotConnectionError,
    ExtracotTimeoutError,
    NotFoundError,
    OverloadedError,
    RateLimitError,
    RequestTooLargeError,
    RetryPolicy,
    ServerError,
    ServerUnreachableError,
    Solution,
    StreamFailedError,
    UnexpectedReplyError,
)
from tests.clients import fake_server as fake
from tests.clients.fake_server import GOOD, FakeServer, Handler

KEY = "sk-very-secret"
NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT


@dataclass
class Time:
    """A clock that only moves when somebody sleeps."""

    now: float = 1000.0
    sleeps: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds

    async def async_sleep(self, seconds: float) -> None:
        self.sleep(seconds)

    @property
    def clock(self) -> Clock:
        return Clock(monotonic=lambda: self.now, wall=lambda: NOW)


Ask = Callable[..., Solution]


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest, time: Time) -> Ask:
    """Solve once with either twin, on the fake clock and without jitter.

    ``watch`` is called with each event before the next is read.
    """

    def run(
        url: str, *, watch: Callable[[Event], None] = lambda _: None, **options: object
    ) -> Solution:
        retry = options.pop("retry", RetryPolicy(random=lambda: 1.0))
        timeout = options.pop("timeout", None)
        shared = {"retry": retry, "timeout": timeout, "clock": time.clock}
        if request.param == "sync":
            with (
                Extracot(url, KEY, sleep=time.sleep, **shared) as client,  # type: ignore[arg-type]
                client.stream("x", **options) as stream,  # type: ignore[arg-type]
            ):
                for event in stream:
                    watch(event)
                return stream.result()

        async def solve() -> Solution:
            async with (
                AsyncExtracot(url, KEY, sleep=time.async_sleep, **shared) as client,  # type: ignore[arg-type]
                client.stream("x", **options) as stream,  # type: ignore[arg-type]
            ):
                async for event in stream:
                    watch(event)
                return await stream.result()

        return asyncio.run(solve())

    return run


@pytest.fixture
def time() -> Iterator[Time]:
    yield Time()


def test_a_good_stream_is_understood(ask: Ask) -> None:
    with FakeServer([fake.stream(*GOOD)]) as server:
        solution = ask(server.url, budget=0.2)
    assert (solution.reasoning, solution.boxed) == ("two and two", "4")
    assert solution.report.reasoning_tokens == 7 and solution.request_id == "req-fake"
    (seen,) = server.seen
    assert seen.path == "/v1/chat/completions"
    assert seen.headers["authorization"] == f"Bearer {KEY}"
    assert seen.json == {
        "messages": [{"role": "user", "content": "x"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "budget": 0.2,
    }


def test_no_server(ask: Ask, no_server: str, time: Time) -> None:
    with pytest.raises(ServerUnreachableError, match="No server answers at http://"):
        ask(no_server)
    assert time.sleeps == [0.5, 1.0]


def test_a_host_that_is_none(ask: Ask) -> None:
    with pytest.raises(ServerUnreachableError):
        ask("http://nowhere.invalid", retry=RetryPolicy(max_retries=0))


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("retry_after", "slept"),
    [
        ("3", 3.5),
        ("0", 0.5),
        ("1.25", 1.75),
        ("Tue, 14 Nov 2023 22:13:27 GMT", 7.5),
        ("Tue, 14 Nov 2023 22:13:00 GMT", 0.5),
        ("soon", 0.5),
        ("-4", 0.5),
        (None, 0.5),
    ],
)
def test_retry_after_is_obeyed(
    ask: Ask, time: Time, status: int, retry_after: str | None, slept: float
) -> None:
    fields = {} if retry_after is None else {"retry_after": retry_after}
    with FakeServer([fake.error(status, **fields), fake.stream(*GOOD)]) as server:
        solution = ask(server.url)
    assert time.sleeps == [slept] and solution.timings.retries == 1
    assert solution.timings.total == 0  # of the request that was answered, not of the wait


def test_a_wait_that_is_too_long_is_not_waited(ask: Ask, time: Time) -> None:
    with (
        FakeServer([fake.error(429, "later", retry_after="3600")]) as server,
        pytest.raises(RateLimitError, match="later") as caught,
    ):
        ask(server.url)
    assert caught.value.retry_after == 3600 and time.sleeps == [] and len(server.seen) == 1


def test_a_wait_beyond_the_deadline_is_not_waited(ask: Ask, time: Time) -> None:
    with (
        FakeServer([fake.error(503, retry_after="20")]) as server,
        pytest.raises(OverloadedError),
    ):
        ask(server.url, deadline=10.0)
    assert time.sleeps == []


def test_retries_run_out(ask: Ask, time: Time) -> None:
    with (
        FakeServer([fake.error(503, "full", x_request_id="req-9")]) as server,
        pytest.raises(OverloadedError, match="full") as caught,
    ):
        ask(server.url, retry=RetryPolicy(max_retries=4, cap=2.0, random=lambda: 1.0))
    assert caught.value.request_id == "req-9"
    assert time.sleeps == [0.5, 1.0, 2.0, 2.0] and len(server.seen) == 5


def test_a_connection_dropped_before_the_reply_is_tried_again(ask: Ask, time: Time) -> None:
    with FakeServer([fake.drop, fake.stream(*GOOD)]) as server:
        assert ask(server.url).boxed == "4"
    assert time.sleeps == [0.5]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, AuthenticationError),
        (404, NotFoundError),
        (413, RequestTooLargeError),
        (418, ExtracotAPIError),
        (500, ServerError),
        (502, ServerError),
    ],
)
def test_other_refusals_are_not_tried_again(
    ask: Ask, time: Time, status: int, kind: type[ExtracotAPIError]
) -> None:
    refused = fake.error(status, "no entry", param="p", code="c", x_request_id="req-1")
    with FakeServer([refused]) as server, pytest.raises(kind) as caught:
        ask(server.url)
    error = caught.value
    assert (error.status, error.param, error.code, error.request_id) == (status, "p", "c", "req-1")
    assert str(error) == f"no entry (HTTP {status}, param p, code c, request req-1)"
    assert time.sleeps == [] and len(server.seen) == 1


def test_a_server_that_echoes_the_key_does_not_leak_it(ask: Ask) -> None:
    refused = fake.error(401, f"Incorrect API key provided: {KEY}")
    with FakeServer([refused]) as server, pytest.raises(AuthenticationError) as caught:
        ask(server.url)
    assert KEY not in str(caught.value) and KEY not in repr(caught.value)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("<html><head><title>502 Bad Gateway</title></head></html>", "'502 Bad Gateway'"),
        ("\n<!DOCTYPE html><p>Sorry", "a web page"),
        ("", "an empty body"),
        ("upstream\r\nunhappy", "'upstream unhappy'"),
        ({"detail": "Not Found"}, "Not Found"),
        ({"error": "plain words"}, "plain words"),
        ("[" * 60_000, "'[[["),
    ],
)
def test_error_bodies_of_others(ask: Ask, body: str, words: str) -> None:
    with FakeServer([fake.reply(502, body)]) as server, pytest.raises(ServerError) as caught:
        ask(server.url)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_redirect_says_where_to(ask: Ask) -> None:
    moved = fake.reply(301, location="https://elsewhere.example/")
    with FakeServer([moved]) as server, pytest.raises(ExtracotAPIError, match="elsewhere"):
        ask(server.url)


@pytest.mark.parametrize("body", ["<html><title>Log in</title></html>", {"choices": []}, ""])
def test_a_success_that_is_no_stream(ask: Ask, body: str) -> None:
    with FakeServer([fake.reply(200, body)]) as server, pytest.raises(UnexpectedReplyError) as e:
        ask(server.url)
    assert "instead of an event stream" in str(e.value)


@pytest.mark.parametrize(
    "frames",
    [
        [b"data: {broken\n\n"],
        [b"data: [1]\n\n"],
        [b"data: " + b"[" * 100_000 + b"\n\n"],
        [b'data: {"choices": 5}\n\n'],
        [b'data: {"choices": [{"delta": {"content": ["x"]}}]}\n\n'],
        [fake.chunk(content="x"), fake.DONE],
        [*GOOD[:-2], fake.last_chunk(reasoning_tokens="many"), fake.DONE],
    ],
)
def test_events_that_are_no_chunks(ask: Ask, frames: list[bytes], time: Time) -> None:
    with FakeServer([fake.stream(*frames)]) as server, pytest.raises(UnexpectedReplyError) as e:
        ask(server.url)
    assert e.value.request_id == "req-fake" and "\n" not in str(e.value)
    assert time.sleeps == [] and len(server.seen) == 1


@pytest.mark.parametrize(
    ("frames", "end", "words"),
    [
        (GOOD[:3], "short", "in the middle of the reply"),
        (GOOD[:3], "reset", "in the middle of the reply"),
        (GOOD[:3], "whole", "before the reply was whole"),
        (GOOD[:-1], "whole", "before the reply was whole"),
        ([*GOOD[:3], b'data: {"choi'], "whole", "in the middle of an event"),
        ([*GOOD[:3], GOOD[3].rstrip(b"\n")], "whole", "in the middle of an event"),
    ],
)
def test_a_broken_stream_is_never_tried_again(
    ask: Ask, frames: list[bytes], end: str, words: str, time: Time
) -> None:
    handlers: list[Handler] = [fake.stream(*frames, end=end), fake.stream(*GOOD)]
    with FakeServer(handlers) as server, pytest.raises(ConnectionLostError, match=words) as caught:
        ask(server.url)
    error = caught.value
    assert error.started and error.request_id == "req-fake"
    if end != "reset":  # a reset may overtake what was sent before it
        assert error.partial_reasoning == "two and two"
    assert time.sleeps == [] and len(server.seen) == 1


def test_a_whole_reply_counts_however_the_connection_ends(ask: Ask) -> None:
    with FakeServer([fake.stream(*GOOD, end="short")]) as server:
        assert ask(server.url).boxed == "4"


def test_a_server_that_talks_on_after_done(ask: Ask) -> None:
    chatter = [b": still here\n\n"] * 50
    with FakeServer([fake.stream(*GOOD, *chatter, end="hang")]) as server:
        assert ask(server.url, timeout=0.5).boxed == "4"


def test_an_error_event_in_a_stream(ask: Ask, time: Time) -> None:
    body = {"error": {"message": "The engine died.", "code": "engine_unavailable"}}
    frames = [*GOOD[:4], fake.frame(body), fake.DONE]
    with FakeServer([fake.stream(*frames)]) as server, pytest.raises(StreamFailedError) as caught:
        ask(server.url)
    error = caught.value
    assert error.code == "engine_unavailable" and error.status is None
    assert error.partial_answer == "It is \\boxed{4}." and time.sleeps == []


@pytest.mark.parametrize("handler", [fake.hang, fake.stream(*GOOD[:2], end="hang")])
def test_silence_is_a_timeout(ask: Ask, handler: Handler, time: Time) -> None:
    with FakeServer([handler]) as server:
        with pytest.raises(ExtracotTimeoutError) as caught:
            ask(server.url, timeout=0.2)
        assert caught.value.phase == "read" and time.sleeps == []
        assert server.gone.wait(fake.WAIT)
        assert len(server.seen) == 1


def test_heartbeats_do_not_outlive_a_deadline(ask: Ask, time: Time) -> None:
    read = threading.Event()

    def tick(connection: fake.Connection, request: fake.Seen) -> None:
        fake.stream(GOOD[1], end="open")(connection, request)
        assert read.wait(fake.WAIT)  # the clock stands still until the first words are in
        for _ in range(3):
            time.now += 10
            connection.send(b"f\r\n: keep-alive\n\n\n\r\n")
        connection.wait_until_gone()

    with FakeServer([tick]) as server:
        with pytest.raises(ExtracotTimeoutError) as caught:
            ask(server.url, deadline=15.0, watch=lambda event: read.set())
        assert caught.value.phase == "deadline" and caught.value.partial_reasoning == "two "
        assert server.gone.wait(fake.WAIT)


def test_lists_are_checked_too() -> None:
    page = fake.reply(200, "<html><title>Hi</title></html>")
    odd = fake.reply(200, {"data": [{"no": "id"}]})
    with FakeServer([page, odd]) as server, Extracot(server.url) as client:
        with pytest.raises(UnexpectedReplyError, match="a web page titled 'Hi'"):
            client.models()
        with pytest.raises(UnexpectedReplyError, match=r"data\.0\.id"):
            client.models()


def test_the_tree_of_errors() -> None:
    assert issubclass(OverloadedError, ServerError)
    assert issubclass(ServerUnreachableError, ExtracotConnectionError)
    for kind in (ExtracotAPIError, ExtracotConnectionError, UnexpectedReplyError):
        assert issubclass(kind, ExtracotClientError)
