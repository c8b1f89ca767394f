"""Streams of ``/v1/messages`` and ``/v1/responses`` in front of an OpenAI-compatible server: what
the official SDKs make of reasoning, a cut, calls, hidden reasoning and a reply that breaks off."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import openai
import pytest

from tests.server.engine.chat_fakes import FakeChat, in_front_of
from tests.server.engine.test_openai_app import CALLS
from tests.server.live import QUESTION, Live, user
from tests.server.test_tools import WEATHER

CAP = {"max_reasoning_tokens": 10}
FUNCTION = WEATHER["function"]


def messages(live: Live, **fields: Any) -> tuple[Any, list[Any]]:
    """Anthropic's final message, and its events."""
    asked: dict[str, Any] = {"model": "thinker", "max_tokens": 2000, "messages": user()}
    with (
        anthropic.Anthropic(base_url=live.url, api_key="none", max_retries=0) as client,
        client.messages.stream(**asked | fields) as stream,
    ):
        events = list(stream)
        return stream.get_final_message(), events


def responses(live: Live, **fields: Any) -> tuple[Any, list[Any]]:
    """OpenAI's final response, and its events."""
    with live.openai() as client:
        asked: dict[str, Any] = {"model": "thinker", "input": QUESTION, "stream": True}
        events = list(client.responses.create(**asked | fields))
    return events[-1].response, events


def budget(value: Any) -> dict[str, Any]:
    """As these SDKs send what they do not know."""
    return {"extra_body": {"budget": value}}


@pytest.mark.parametrize("field", ["reasoning_content", None], ids=["field", "tags"])
def test_a_message_streams_what_the_server_says(field: str | None) -> None:
    fake = FakeChat(field=field, counts="each")
    with in_front_of(fake) as live:
        message, events = messages(live)
        thinking, text = message.content
        assert thinking.thinking.strip() == "".join(fake.reasoning).strip()
        assert text.text == "The answer is 40." and message.stop_reason == "end_turn"
        assert message.usage.output_tokens == (45 if field else 47)
        kinds = [event.type for event in events]
        assert kinds.count("content_block_start") == kinds.count("content_block_stop") == 2
        whole = live.http.post(
            "/v1/messages", json={"model": "thinker", "max_tokens": 2000, "messages": user()}
        ).json()
        assert [block["type"] for block in whole["content"]] == ["thinking", "text"]
        assert whole["content"][0]["thinking"] == thinking.thinking
        assert whole["usage"]["output_tokens"] == message.usage.output_tokens


def test_a_message_is_cut_off_and_goes_on_in_one_stream() -> None:
    fake = FakeChat(hold_after=12, counts="each")
    with in_front_of(fake) as live:
        message, _ = messages(live, **budget({**CAP, "closing": "Time is up."}))
        thinking, text = message.content
        assert thinking.thinking.split()[-3:] == ["Time", "is", "up."]
        assert len(thinking.thinking.split()) == 13
        assert (text.text, message.stop_reason) == ("The answer is 40.", "end_turn")
        assert len(fake.bodies) == 2 and fake.closed == 1
        assert live.metric_sum("extracot_requests_total", outcome="ok") == 1


def test_a_response_is_cut_off_and_goes_on_in_one_stream() -> None:
    fake = FakeChat(hold_after=12, counts="each")
    with in_front_of(fake) as live:
        response, events = responses(live, **budget(CAP))
        assert (response.status, response.output_text) == ("completed", "The answer is 40.")
        reasoning, message = response.output
        assert (reasoning.type, message.type) == ("reasoning", "message")
        said = "".join(e.delta for e in events if e.type == "response.reasoning_text.delta")
        assert len(said.split()) == 10 and "word09" in said and "word10" not in said
        assert response.usage.output_tokens_details.reasoning_tokens == 10
        numbers = [event.sequence_number for event in events]
        assert numbers == list(range(len(events)))


def test_none_streams_an_answer_alone() -> None:
    with in_front_of(FakeChat(counts="each")) as live:
        message, _ = messages(live, thinking={"type": "disabled"})
        assert [block.type for block in message.content] == ["text"]
        response, _ = responses(live, reasoning={"effort": "none"})
        assert [item.type for item in response.output] == ["message"]
        assert response.usage.output_tokens_details.reasoning_tokens == 0


def test_calls_stream_in_both() -> None:
    fake = FakeChat(reasoning=[" look"], calls=CALLS, counts="each")
    anthropics = {"name": FUNCTION["name"], "input_schema": FUNCTION["parameters"]}
    flat = {"type": "function", **FUNCTION}
    with in_front_of(fake) as live:
        message, _ = messages(live, tools=[anthropics])
        used = [block for block in message.content if block.type == "tool_use"]
        assert [(block.id, block.input) for block in used] == [("c1", {"city": "Oslo"}), ("c2", {})]
        assert message.stop_reason == "tool_use"
        response, _ = responses(live, tools=[flat])
        called = [item for item in response.output if item.type == "function_call"]
        assert [(item.call_id, json.loads(item.arguments)) for item in called] == [
            ("c1", {"city": "Oslo"}),
            ("c2", {}),
        ]


def test_hidden_reasoning_is_in_the_usage_of_both() -> None:
    fake = FakeChat(reasoning=[], hidden=30)
    with in_front_of(fake) as live:
        message, _ = messages(live)
        assert [block.type for block in message.content] == ["text"]
        assert message.usage.output_tokens == 35
        response, _ = responses(live)
        assert response.usage.output_tokens_details.reasoning_tokens == 30


def test_a_reply_that_breaks_off_is_an_error_of_each_sdk() -> None:
    fake = FakeChat(break_after=3)
    with in_front_of(fake) as live:
        with pytest.raises(anthropic.APIStatusError) as caught:
            messages(live)
        assert "failed in the middle" in str(caught.value)
        response, events = responses(live)
        assert (events[-1].type, response.status) == ("response.failed", "failed")
        assert len(fake.bodies) == 2, "each was asked once: something had come"


def test_a_busy_server_is_each_sdk_s_own_error() -> None:
    fake = FakeChat(refusal=(429, {"error": {"message": "slow down"}}), retry_after="7")
    with in_front_of(fake) as live:
        with pytest.raises(anthropic.APIStatusError) as caught:
            messages(live)
        assert caught.value.response.headers["retry-after"] == "7"
        with pytest.raises(openai.APIStatusError) as refused:
            responses(live)
        assert refused.value.status_code == 503
