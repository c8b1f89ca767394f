"""The pieces both twins share, each by itself: settings, retries, events, exported names."""

from __future__ import annotations

import copy
import pickle
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

import extracot_client
from extracot_client import (
    AsyncExtracot,
    ConfigurationError,
    Extracot,
    OverloadedError,
    RetryPolicy,
    TimeLimits,
)
from extracot_client.retries import parse_retry_after
from extracot_client.settings import parse_base_url, resolve_settings
from extracot_client.sse import SSEDecoder
from extracot_client.streaming import ReplyAssembler
from tests.clients.fake_server import GOOD
from tests.clients.test_assembling import reader


def test_every_exported_name_is_there() -> None:
    for name in extracot_client.__all__:
        assert getattr(extracot_client, name) is not None
    assert sorted(extracot_client.__all__) == extracot_client.__all__
    assert dir(extracot_client) == extracot_client.__all__
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        extracot_client.Nonsense  # noqa: B018


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("http://h:8000", "http://h:8000"),
        ("http://h:8000/v1", "http://h:8000"),
        (" https://h/llm/v1/ ", "https://h/llm"),
        ("http://user:pw@h/", "http://h"),
        ("http://[::1]:80/", "http://[::1]"),
    ],
)
def test_base_urls(given: str, shown: str) -> None:
    assert resolve_settings(given, None).shown_url == shown


@pytest.mark.parametrize(
    "bad",
    [
        "h:8000",
        "ftp://h",
        "http://",
        "//h",
        "http://h:port",
        "\x00",
        "http://xn--a.b",
        "http://a..b",
    ],
)
def test_bad_base_urls(bad: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_base_url(bad)
    assert "\n" not in str(caught.value)


def test_arguments_beat_variables_beat_defaults() -> None:
    variables = {"EXTRACOT_BASE_URL": "http://v", "EXTRACOT_API_KEY": "vk"}
    both = resolve_settings("http://a", "ak", variables=variables)
    assert (both.shown_url, both.api_key) == ("http://a", "ak")
    either = resolve_settings(None, None, variables=variables)
    assert (either.shown_url, either.api_key) == ("http://v", "vk")
    neither = resolve_settings(None, None, variables={})
    assert (neither.shown_url, neither.api_key) == ("http://127.0.0.1:8000", None)


def test_the_key_is_never_shown() -> None:
    key = "sk-very-secret"
    url = "http://user:password@127.0.0.1:1"
    for client in (Extracot(url, key), AsyncExtracot(url, key)):
        for text in (repr(client), str(client), repr(client._core), repr(client._http.headers)):
            assert key not in text and "password" not in text
    for bad in ("with space", "ké", "a\nb"):
        with pytest.raises(ConfigurationError) as caught:
            Extracot(url, bad)
        assert bad not in str(caught.value)


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan"), True])
def test_bad_time_limits(timeout: float) -> None:
    with pytest.raises(ConfigurationError):
        Extracot(timeout=timeout)
    with pytest.raises(ConfigurationError):
        Extracot(deadline=-1)


def test_limits_shrink_to_the_deadline() -> None:
    settings = resolve_settings(None, None, timeout=TimeLimits(5, None, 30, 120), variables={})
    assert settings.timeout(2.0).as_dict() == dict.fromkeys(("connect", "read", "write", "pool"), 2)
    assert settings.timeout().read is None


def test_proxies_do_not_stand_before_this_machine() -> None:
    for url in ("http://localhost:1", "http://127.1.2.3", "http://[::1]"):
        assert not resolve_settings(url, None).trust_env
    context = ssl.create_default_context()
    assert resolve_settings("https://example.org", None, verify=context).trust_env


@given(st.integers(0, 9), st.floats(0, 1), st.one_of(st.none(), st.floats(0, 1e6)))
def test_delays_stay_within_their_bounds(
    attempt: int, chance: float, retry_after: float | None
) -> None:
    policy = RetryPolicy(max_retries=8, random=lambda: chance)
    delay = policy.delay(attempt, OverloadedError("full", status=503, retry_after=retry_after))
    if attempt >= 8 or (retry_after is not None and retry_after > policy.max_retry_after):
        assert delay is None
    elif retry_after is None:
        assert delay is not None and policy.base / 2 <= delay <= policy.cap
    else:
        assert delay is not None and retry_after <= delay <= retry_after + policy.base


@given(st.text())
def test_any_retry_after_is_a_wait_or_nothing(value: str) -> None:
    seconds = parse_retry_after(value, 0.0)
    assert seconds is None or seconds >= 0


def events(data: bytes, cuts: list[int]) -> list[str]:
    decoder = SSEDecoder()
    found, start = [], 0
    for cut in [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]:
        found += decoder.feed(data[start:cut])
        start = cut
    return found


@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=1)),
    st.sampled_from(["\n", "\r", "\r\n"]),
    st.lists(st.integers(0, 10_000), max_size=20),
)
def test_events_are_the_same_however_they_are_cut(
    texts: list[str], line_end: str, cuts: list[int]
) -> None:
    lines = [f": comment{line_end}data: {text}{line_end}{line_end}" for text in texts]
    # A comment at the end, because a lone CR is only known to be one by what follows it.
    data = ("".join(lines) + ":" + line_end).encode()
    assert events(data, cuts) == texts


def test_fields_of_events() -> None:
    data = b"\xef\xbb\xbfevent: note\ndata:one\ndata: two\nid: 7\nretry: 1\nodd\n\n\n\ndata\n\n"
    found = SSEDecoder().feed(data)
    assert found == ["one\ntwo", ""]


@given(st.lists(st.integers(0, 10_000), max_size=30))
def test_a_reply_is_the_same_however_it_is_cut(cuts: list[int]) -> None:
    data = b"".join(GOOD)
    stream = reader()
    start = 0
    for cut in [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]:
        list(stream.feed(data[start:cut]))
        start = cut
    stream.end()
    assert stream.solution is not None and stream.solution.reasoning == "two and two"
    assert stream.solution.boxed == "4" and stream.solution.usage.reasoning_tokens == 7


def test_a_refusal_is_shown_as_an_answer() -> None:
    reply = ReplyAssembler()
    for delta in ({"content": ""}, {"refusal": "I "}, {"refusal": "can't."}):
        reply.add({"choices": [{"index": 0, "delta": delta}]})
    assert "".join(reply.answer) == "I can't."


def test_errors_can_be_copied_and_sent_to_other_processes() -> None:
    error = OverloadedError("full", status=503, param="p", retry_after=2.0)
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert (str(twin), twin.status, twin.retry_after) == (str(error), 503, 2.0)
