"""Prompt tokens from a prefix cache: told on every API in its own words, where they are known."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from extracot_server.batches.results import tokens_of
from extracot_server.engine.scripted.engine import ScriptedBehaviour
from tests.server.live import QUESTION, Live, serve, user

CACHED = 16
CUT = {"max_reasoning_tokens": 3}
OPTIONS = {"stream_options": {"include_usage": True}}


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    """An engine that says what it had in its cache."""
    with serve(ScriptedBehaviour(cached_tokens=CACHED)) as found:
        yield found


@pytest.fixture(scope="module")
def silent() -> Iterator[Live]:
    """One that does not."""
    with serve() as found:
        yield found


def ask(live: Live) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=live.url, api_key="none", max_retries=0)


@pytest.mark.parametrize(
    ("fields", "requests"),
    [
        ({}, 1),
        ({"budget": 0.2}, 1),
        ({"budget": "auto"}, 2),
        ({"budget": "none"}, 1),
        ({"budget": CUT}, 2),
        ({"budget": CUT, "n": 3}, 6),
        ({"response_format": {"type": "json_object"}}, 2),
    ],
    ids=str,
)
def test_chat_tells_what_its_first_request_found(
    live: Live, fields: dict[str, Any], requests: int
) -> None:
    """A request that goes on with a reply finds its own prompt in the cache: that is not told."""
    before = len(live.engine.requests)
    reply = live.chat(**fields, seed=1)
    assert len(live.engine.requests) - before == requests
    assert reply["usage"]["prompt_tokens_details"] == {"cached_tokens": CACHED}
    chunks = live.chunks(**fields, seed=1, **OPTIONS)
    assert chunks[-1]["usage"] == reply["usage"]


def test_it_is_never_more_than_the_prompt() -> None:
    with serve(ScriptedBehaviour(cached_tokens=10**6)) as live:
        usage = live.chat(budget=0.2)["usage"]
        assert usage["prompt_tokens_details"]["cached_tokens"] == usage["prompt_tokens"]


def test_sdks_and_responses_have_it(live: Live) -> None:
    client, asked = live.openai(), user()
    chat = client.chat.completions.create(model="scripted", messages=asked)  # type: ignore[arg-type]
    assert chat.usage is not None and chat.usage.prompt_tokens_details is not None
    assert chat.usage.prompt_tokens_details.cached_tokens == CACHED
    whole = client.responses.create(model="scripted", input="What is 2+2?")
    assert whole.usage is not None
    assert whole.usage.input_tokens_details.cached_tokens == CACHED
    with client.responses.stream(model="scripted", input="What is 2+2?") as stream:
        streamed = stream.get_final_response()
    assert streamed.usage == whole.usage


def test_messages_count_it_apart_as_anthropic_does(live: Live, silent: Live) -> None:
    asked: dict[str, Any] = {"model": "scripted", "max_tokens": 2048, "messages": user()}
    whole = ask(live).messages.create(**asked).usage
    prompt = ask(silent).messages.create(**asked).usage.input_tokens
    assert (whole.cache_read_input_tokens, whole.cache_creation_input_tokens) == (CACHED, 0)
    assert whole.input_tokens == prompt - CACHED > 0
    with ask(live).messages.stream(**asked) as stream:
        start = next(event for event in stream if event.type == "message_start")
        streamed = stream.get_final_message().usage
    assert start.message.usage.input_tokens == prompt  # nothing is known before the first token
    assert streamed == whole


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": user()}),
        ("/v1/responses", {"input": QUESTION}),
        ("/v1/messages", {"messages": user(), "max_tokens": 2048}),
    ],
)
def test_a_batch_counts_the_whole_prompt(
    live: Live, silent: Live, path: str, body: dict[str, Any]
) -> None:
    found, expected = (tokens_of(one.http.post(path, json=body).json()) for one in (live, silent))
    assert found == expected and found.input > CACHED


def test_where_it_is_not_known_it_is_absent(silent: Live) -> None:
    usage = silent.chat()["usage"]
    assert "prompt_tokens_details" not in usage
    assert silent.chunks(**OPTIONS)[-1]["usage"] == usage
    body: dict[str, Any] = {"input": "What is 2+2?"}
    told = silent.http.post("/v1/responses", json=body).json()["usage"]
    assert told["input_tokens_details"]["cached_tokens"] == 0
    body = {"max_tokens": 2048, "messages": user()}
    told = silent.http.post("/v1/messages", json=body).json()["usage"]
    assert set(told) == {"input_tokens", "output_tokens", "output_tokens_details"}
    assert told["input_tokens"] > CACHED


def test_a_counter_stands_beside_that_of_prompt_tokens() -> None:
    name, prompts = "extracot_cached_prompt_tokens_total", "extracot_prompt_tokens_total"
    with serve(ScriptedBehaviour(cached_tokens=CACHED)) as live:
        model = frozenset({("model", "scripted")})
        assert live.metrics()[name, model] == live.metrics()[prompts, model] == 0
        taken = [live.chat(**fields)["usage"]["prompt_tokens"] for fields in ({}, {"n": 2})]
        live.wait_for(lambda: live.metrics()[prompts, model] == sum(taken))
        assert live.metrics()[name, model] == 2 * CACHED
