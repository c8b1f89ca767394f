"""The OpenAI SDK, unchanged: sync, async, streaming, usage, and errors as its typed exceptions."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import openai
import pytest
import yaml
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel

from extracot_server.engine.scripted.engine import ScriptedBehaviour
from tests.server.live import QUESTION, Live, serve

MESSAGES: Any = [{"role": "user", "content": QUESTION}]
BUDGET = {"budget": 0.2}


def ask(live: Live, **fields: Any) -> ChatCompletion:
    """One reply through the SDK."""
    fields = {"model": "scripted", "messages": MESSAGES, **fields}
    with live.openai() as client:
        reply: ChatCompletion = client.chat.completions.create(**fields)
    return reply


def extra(model: Any, name: str) -> Any:
    """A field that OpenAI's own types do not know."""
    return (model.model_extra or {})[name]


def test_a_budgeted_answer(token_server: Live) -> None:
    reply = ask(token_server, extra_body=BUDGET)
    message = reply.choices[0].message
    assert message.role == "assistant"
    assert message.content is not None and "\\boxed{" in message.content
    assert extra(message, "reasoning") == extra(message, "reasoning_content")
    budget = extra(reply, "budget")
    assert (budget["level"], budget["reasoning_tokens"] > 0) == ("0.2", True)
    assert reply.usage is not None and reply.usage.completion_tokens_details is not None
    assert reply.usage.completion_tokens_details.reasoning_tokens == budget["reasoning_tokens"]
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens


def test_a_stream_with_usage(token_server: Live) -> None:
    content = reasoning = ""
    chunks: list[ChatCompletionChunk] = []
    with token_server.openai() as client:
        stream = client.chat.completions.create(
            model="scripted",
            messages=MESSAGES,
            stream=True,
            stream_options={"include_usage": True},
            extra_body=BUDGET,
        )
        for chunk in stream:
            chunks.append(chunk)
            for choice in chunk.choices:
                content += choice.delta.content or ""
                reasoning += (choice.delta.model_extra or {}).get("reasoning") or ""
    whole = ask(token_server, extra_body=BUDGET)
    assert content == whole.choices[0].message.content
    assert reasoning == extra(whole.choices[0].message, "reasoning")
    assert chunks[-1].usage == whole.usage
    assert extra(chunks[-1], "budget") == extra(whole, "budget")
    assert chunks[-2].choices[0].finish_reason == "stop"


def test_the_sdks_own_stream_helper(token_server: Live) -> None:
    with (
        token_server.openai() as client,
        client.chat.completions.stream(model="scripted", messages=MESSAGES) as stream,
    ):
        final = stream.get_final_completion()
    assert final.choices[0].message.content == ask(token_server).choices[0].message.content


@pytest.mark.anyio
async def test_async(token_server: Live) -> None:
    async with token_server.async_openai() as client:
        reply = await client.chat.completions.create(
            model="scripted@0.2", messages=MESSAGES, n=2, seed=1
        )
        assert len(reply.choices) == 2
        assert extra(reply, "budget")["source"] == "alias"
        stream = await client.chat.completions.create(
            model="scripted", messages=MESSAGES, stream=True, extra_body=BUDGET
        )
        text = "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])
        assert text == ask(token_server, extra_body=BUDGET).choices[0].message.content
        names = [model.id async for model in client.models.list()]
        assert "scripted@auto" in names


@pytest.mark.anyio
async def test_many_at_once_do_not_mix(token_server: Live) -> None:
    async with token_server.async_openai() as client:

        async def one(number: int) -> str | None:
            reply = await client.chat.completions.create(
                model="scripted",
                messages=[{"role": "user", "content": f"What is {number} + {number}?"}],
                extra_body=BUDGET,
            )
            return reply.choices[0].message.content

        together = await asyncio.gather(*(one(number) for number in range(24)))
        assert together == [await one(number) for number in range(24)]
        assert len(set(together)) > 12


def test_effort_logprobs_stop_and_formats(token_server: Live) -> None:
    low = ask(token_server, reasoning_effort="low")
    assert extra(low, "budget")["level"] == "0.4"
    reply = ask(token_server, logprobs=True, top_logprobs=2)
    logprobs = reply.choices[0].logprobs
    assert logprobs is not None and logprobs.content is not None
    assert "".join(row.token for row in logprobs.content) == reply.choices[0].message.content
    stopped = ask(token_server, stop=["is"])
    assert stopped.choices[0].message.content == "The answer "
    schema = {
        "name": "n",
        "schema": {
            "type": "object",
            "properties": {"n": {"type": "integer"}},
            "required": ["n"],
        },
    }
    as_json = ask(token_server, response_format={"type": "json_schema", "json_schema": schema})
    assert as_json.choices[0].message.content == '{"n": 0}'


@pytest.mark.parametrize(
    ("fields", "kind", "param"),
    [
        ({"extra_body": {"budget": 1.2}}, openai.BadRequestError, "budget"),
        ({"extra_body": {"buget": 0.2}}, openai.BadRequestError, "buget"),
        ({"temperature": 9}, openai.BadRequestError, "temperature"),
        ({"messages": []}, openai.BadRequestError, "messages"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, None, "tools"),
        ({"model": "gpt-4o"}, openai.NotFoundError, "model"),
        ({"stream": True, "model": "gpt-4o"}, openai.NotFoundError, "model"),
        ({"stream": True, "extra_body": {"budget": {}}}, openai.BadRequestError, "budget"),
    ],
)
def test_errors_are_typed(
    token_server: Live, fields: dict[str, Any], kind: type[openai.APIStatusError] | None, param: str
) -> None:
    with pytest.raises(kind or openai.BadRequestError) as caught:
        ask(token_server, **fields)
    assert caught.value.param == param
    assert caught.value.type in ("invalid_request_error", "not_found_error")
    assert caught.value.code and caught.value.request_id
    assert param in caught.value.message or param == "messages"


def test_too_large_and_unavailable_are_typed(token_server: Live) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        ask(token_server, messages=[{"role": "user", "content": "x" * 5_000_000}])
    assert caught.value.status_code == 413
    with serve(ScriptedBehaviour(die_after_tokens=0)) as live:
        for _ in range(2):
            with pytest.raises(openai.InternalServerError) as failed:
                ask(live)
            assert failed.value.status_code == 503
            assert failed.value.response.headers["retry-after"]


def test_an_error_in_a_stream_is_raised_by_the_sdk() -> None:
    with serve(ScriptedBehaviour(die_after_tokens=8)) as live, live.openai() as client:
        stream = client.chat.completions.create(model="scripted", messages=MESSAGES, stream=True)
        with pytest.raises(openai.APIError) as caught:
            list(stream)
        assert caught.value.code == "engine_unavailable"


def test_leaving_a_stream_through_the_sdk_aborts() -> None:
    with serve(ScriptedBehaviour(token_interval_seconds=0.05)) as live, live.openai() as client:
        stream = client.chat.completions.create(model="scripted", messages=MESSAGES, stream=True)
        next(iter(stream))
        assert live.in_flight() == 1
        stream.close()
        live.wait_for(lambda: live.in_flight() == 0)


def test_a_raw_response_carries_the_headers(token_server: Live) -> None:
    with token_server.openai() as client:
        raw = client.chat.completions.with_raw_response.create(
            model="scripted", messages=MESSAGES, extra_body=BUDGET
        )
    assert "0.2" in raw.headers["x-extracot-budget"]
    assert raw.request_id == raw.headers["x-request-id"]


# The rest of the SDK: each call as its documentation has it --------------------------------------


class Number(BaseModel):
    """What `parse` is to fill in."""

    n: int


@pytest.mark.parametrize("budget", [0.2, "none", {"ratio": 1, "max_reasoning_tokens": 4}])
def test_parse_gives_an_object_whatever_the_budget(token_server: Live, budget: Any) -> None:
    with token_server.openai() as client:
        reply = client.chat.completions.parse(
            model="scripted",
            messages=MESSAGES,
            response_format=Number,
            extra_body={"budget": budget},
        )
    assert reply.choices[0].message.parsed == Number(n=0)


def test_the_stream_helper_has_events_and_parses(token_server: Live) -> None:
    with (
        token_server.openai() as client,
        client.chat.completions.stream(
            model="scripted",
            messages=MESSAGES,
            response_format=Number,
            logprobs=True,
            stream_options={"include_usage": True},
        ) as stream,
    ):
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done", "logprobs.content.done"} <= set(kinds)
    assert final.choices[0].message.parsed == Number(n=0)
    assert final.usage is not None and final.usage.completion_tokens > 0


def test_several_choices_and_seeds(token_server: Live) -> None:
    def thoughts(seed: int) -> list[str]:
        reply = ask(token_server, n=3, seed=seed)
        assert [choice.index for choice in reply.choices] == [0, 1, 2]
        assert len({extra(c, "budget")["reasoning_tokens"] for c in reply.choices}) >= 1
        return [extra(choice.message, "reasoning") for choice in reply.choices]

    first = thoughts(5)
    assert first == thoughts(5) != thoughts(6)
    assert len(set(first)) == 3


@pytest.mark.parametrize("effort", ["none", "minimal", "low", "medium", "high", "xhigh"])
def test_every_effort_of_the_sdk(token_server: Live, effort: Any) -> None:
    budget = extra(ask(token_server, reasoning_effort=effort), "budget")
    assert (budget["source"], budget["requested"]) == ("reasoning_effort", effort)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"max_completion_tokens": 1}, "length"),
        ({"max_tokens": 2}, "length"),
        ({"max_completion_tokens": 60}, "stop"),
        ({"stop": "boxed"}, "stop"),
        ({"stop": ["never", "is"]}, "stop"),
    ],
)
def test_how_a_reply_ends(token_server: Live, fields: dict[str, Any], reason: str) -> None:
    reply = ask(token_server, **fields)
    assert reply.choices[0].finish_reason == reason
    assert reply.choices[0].message.content
    assert reply.usage is not None
    limit = fields.get("max_tokens", fields.get("max_completion_tokens", 4096))
    assert reply.usage.completion_tokens <= limit


def test_sampling_fields_and_those_that_ask_for_nothing(token_server: Live) -> None:
    reply = ask(
        token_server,
        temperature=0.7,
        top_p=0.9,
        presence_penalty=0.5,
        frequency_penalty=-0.5,
        logit_bias={"999": -100},
        user="u",
        metadata={"a": "b"},
        store=False,
        modalities=["text"],
        tools=[],
        tool_choice="none",
        service_tier="auto",
        prompt_cache_key="k",
        extra_body={"top_k": 5, "min_p": 0.1, "repetition_penalty": 1.1},
    )
    sent = token_server.engine.requests[-1].sampling
    assert (sent.temperature, sent.top_p, sent.top_k, sent.min_p) == (0.7, 0.9, 5, 0.1)
    assert (sent.presence_penalty, sent.frequency_penalty) == (0.5, -0.5)
    assert sent.logit_bias[999] == -100
    ignored = extra(reply, "budget")["ignored_fields"]
    assert ignored == ["modalities", "prompt_cache_key", "service_tier", "store"]


def test_conversations(token_server: Live) -> None:
    earlier: Any = [
        {"role": "developer", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "2 + "}, {"type": "text", "text": "2?"}],
        },
    ]
    first = ask(token_server, messages=earlier)
    message = first.choices[0].message.model_dump(exclude_none=True)  # reasoning and all
    assert "reasoning" in message
    again = ask(token_server, messages=[*earlier, message, *MESSAGES], extra_body=BUDGET)
    assert again.choices[0].message.content
    assert extra(again, "budget")["ignored_fields"] == []
    prompt = token_server.engine.tokenizer.decode(token_server.engine.requests[-1].token_ids)
    assert "2 + 2?" in prompt and message["reasoning"] not in prompt


def test_models_and_what_is_not_there(token_server: Live) -> None:
    with token_server.openai() as client:
        assert client.models.retrieve("scripted@0.4").id == "scripted@0.4"
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("gpt-4o")
        with pytest.raises(openai.NotFoundError):
            client.embeddings.create(model="scripted", input="x")
        with pytest.raises(openai.NotFoundError):
            client.completions.create(model="scripted", prompt="x")


@pytest.mark.anyio
async def test_async_raw_streaming_and_helper(token_server: Live) -> None:
    async with token_server.async_openai() as client:
        chats = client.chat.completions
        raw = await chats.with_raw_response.create(model="scripted", messages=MESSAGES)
        assert raw.parse().choices[0].message.content and raw.headers["x-extracot-budget"]
        async with chats.with_streaming_response.create(
            model="scripted", messages=MESSAGES, stream=True
        ) as response:
            lines = [line async for line in response.iter_lines() if line]
        assert response.headers["content-type"].startswith("text/event-stream")
        assert lines[-1] == "data: [DONE]"
        async with chats.stream(model="scripted", messages=MESSAGES) as stream:
            deltas = [e.delta async for e in stream if e.type == "content.delta"]
            final = await stream.get_final_completion()
        assert "".join(deltas) == final.choices[0].message.content
        parsed = await chats.parse(model="scripted", messages=MESSAGES, response_format=Number)
        assert parsed.choices[0].message.parsed == Number(n=0)
        with pytest.raises(openai.BadRequestError):
            await chats.create(model="scripted", messages=MESSAGES, extra_body={"budget": 2})


def test_keys_are_typed_errors_and_retries_wait_as_told(tmp_path: Path) -> None:
    keys = tmp_path / "keys.yaml"
    entries = [
        {"name": "busy", "key": "sk-busy", "requests_per_minute": 1, "default": 0.4},
        {"name": "tight", "key": "sk-tight", "reasoning_tokens_ceiling": 7},
    ]
    keys.write_text(yaml.safe_dump({"keys": entries}))
    with serve(keys=keys) as live, live.openai() as client:

        def call(key: str, **options: Any) -> ChatCompletion:
            reply: ChatCompletion = client.with_options(
                api_key=key, **options
            ).chat.completions.create(model="scripted", messages=MESSAGES)
            return reply

        with pytest.raises(openai.AuthenticationError) as wrong:
            call("sk-wrong")
        assert wrong.value.code == "invalid_api_key"
        assert extra(call("sk-busy"), "budget")["level"] == "0.4"
        with pytest.raises(openai.RateLimitError) as limited:
            call("sk-busy")
        assert limited.value.code == "rate_limit_exceeded"
        assert 1 <= int(limited.value.response.headers["retry-after"]) <= 60
        tight = extra(call("sk-tight"), "budget")
        assert (tight["max_reasoning_tokens"], tight["cap_reason"]) == (7, "operator")
