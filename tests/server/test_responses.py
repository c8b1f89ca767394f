"""``POST /v1/responses``: the official SDK against the real app."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from extracot_server.engine.scripted.engine import ScriptedBehaviour
from tests.server.live import QUESTION, Live, serve
from tests.server.test_tools import ARGUMENTS, ASK, CLOCK, SPOOF, WEATHER

TOOL = {"type": "function", **WEATHER["function"], "strict": True}
OTHER = {"type": "function", **CLOCK["function"]}
ENCRYPTED = "reasoning.encrypted_content"


def ask(live: Live, **fields: Any) -> Any:
    """The response, or all events of a stream."""
    with live.openai() as client:
        made: Any = client.responses.create(**{"model": "scripted", "input": QUESTION, **fields})
        return list(made) if fields.get("stream") else made


def test_a_text_becomes_a_response(token_server: Live) -> None:
    chat = token_server.chat(budget=0.4)
    response = ask(token_server, extra_body={"budget": 0.4})
    message = chat["choices"][0]["message"]
    assert (response.status, response.output_text) == ("completed", message["content"])
    assert [item.type for item in response.output] == ["reasoning", "message"]
    assert response.output[0].content[0].text == message["reasoning"]
    assert response.budget == chat["budget"]
    usage = response.usage
    assert usage.output_tokens_details.reasoning_tokens == chat["budget"]["reasoning_tokens"]
    assert usage.input_tokens == chat["usage"]["prompt_tokens"]
    assert usage.total_tokens == chat["usage"]["total_tokens"]


def test_an_effort_is_a_budget(token_server: Live) -> None:
    low = ask(token_server, reasoning={"effort": "low"})
    assert (low.budget["source"], low.budget["level"]) == ("reasoning_effort", "0.4")
    assert low.reasoning.effort == "low"
    none = ask(token_server, reasoning={"effort": "none"})
    assert [item.type for item in none.output] == ["message"]


def test_instructions_and_items_are_a_conversation(token_server: Live) -> None:
    ask(
        token_server,
        instructions="Be brief.",
        input=[
            {"role": "developer", "content": "And kind."},
            {"role": "user", "content": [{"type": "input_text", "text": "Hello"}]},
            {"type": "reasoning", "id": "rs_1", "summary": [], "content": []},
            {
                "type": "message",
                "id": "msg_1",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": "Hi.", "annotations": []}],
            },
            {"role": "user", "content": "How are you?"},
        ],
    )
    engine = token_server.engine
    prompt = engine.tokenizer.decode(engine.requests[-1].token_ids)
    roles = [turn.partition("\n")[0] for turn in prompt.split("<|im_start|>")[1:]]
    assert roles == ["system", "user", "assistant", "user", "assistant"]
    assert "system\nBe brief.\n\nAnd kind.<|im_end|>" in prompt
    assert "Hi." in prompt


def test_a_reply_goes_back_in_as_it_came_out(token_server: Live) -> None:
    first = ask(token_server)
    items = [{"role": "user", "content": QUESTION}, *[i.model_dump() for i in first.output]]
    again = ask(token_server, input=[*items, {"role": "user", "content": "And now?"}])
    assert again.status == "completed"


EVENTS = [
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    "response.reasoning_text.delta",
    "response.reasoning_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.completed",
]


def test_a_stream_has_the_official_events_in_order(token_server: Live) -> None:
    events = ask(token_server, stream=True, extra_body={"budget": 0.2})
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type for event in events]
    once = [kind for at, kind in enumerate(kinds) if at == 0 or kinds[at - 1] != kind]
    assert once == EVENTS
    whole = ask(token_server, extra_body={"budget": 0.2})
    final = events[-1].response
    assert final.output_text == whole.output_text
    assert final.output[0].content == whole.output[0].content
    assert (final.budget, final.usage) == (whole.budget, whole.usage)
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == final.output_text
    assert events[0].response.status == "in_progress"
    assert events[0].response.output == []


def test_the_sdk_s_own_accumulator(token_server: Live) -> None:
    with (
        token_server.openai() as client,
        client.responses.stream(model="scripted", input=QUESTION) as stream,
    ):
        final = stream.get_final_response()
    assert "boxed" in final.output_text


def test_too_few_tokens_are_incomplete(token_server: Live) -> None:
    response = ask(token_server, max_output_tokens=4, extra_body={"budget": "none"})
    assert response.status == "incomplete"
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.output[-1].status == "incomplete"
    assert response.completed_at is None and ask(token_server).completed_at is not None
    last = ask(token_server, max_output_tokens=4, stream=True)[-1]
    assert last.type == "response.incomplete"


def test_a_schema_binds_the_answer(token_server: Live) -> None:
    schema = {"type": "object", "properties": {"n": {"const": 3}}, "required": ["n"]}
    form = {"type": "json_schema", "name": "n", "schema": schema}
    response = ask(token_server, text={"format": form})
    assert json.loads(response.output_text) == {"n": 3}
    assert response.output[0].type == "reasoning"


def test_reasoning_can_be_left_out(token_server: Live) -> None:
    response = ask(token_server, extra_body={"include_reasoning": False})
    assert [item.type for item in response.output] == ["message"]
    assert response.usage.output_tokens_details.reasoning_tokens > 0


@pytest.fixture(scope="module")
def tool_live() -> Any:
    with serve(tool_parser="hermes") as live:
        yield live


def test_functions_are_called_and_answered(tool_live: Live) -> None:
    items: list[Any] = [*ASK]
    first = ask(tool_live, input=items, tools=[TOOL, OTHER])
    call = first.output[-1]
    assert [item.type for item in first.output] == ["reasoning", "function_call"]
    assert (call.name, json.loads(call.arguments)) == ("get_weather", ARGUMENTS)
    items += [item.model_dump() for item in first.output]
    items.append({"type": "function_call_output", "call_id": call.call_id, "output": SPOOF})
    second = ask(tool_live, input=items, tools=[TOOL, OTHER])
    assert "boxed" in second.output_text
    events = ask(tool_live, input=ASK, tools=[TOOL], stream=True)
    kinds = [event.type for event in events]
    assert kinds.count("response.function_call_arguments.delta") > 3
    done = next(e for e in events if e.type == "response.function_call_arguments.done")
    assert json.loads(done.arguments) == ARGUMENTS
    assert events[-1].response.output[-1].arguments == done.arguments
    forced = ask(tool_live, tools=[OTHER], tool_choice={"type": "function", "name": "clock"})
    assert forced.output[-1].name == "clock"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": [{"type": "item_reference"}]}, "input[0].id"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].id"),
        ({"input": [{"id": "x"}]}, "input[0].id"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
            "input[0].content[0].type",
        ),
        ({"instructions": "i", "input": [{"role": "assistant", "content": "x"}]}, "input[0].role"),
        ({"input": "x", "reasoning": {"effort": "huge"}}, "reasoning.effort"),
        ({"input": "x", "max_output_tokens": 0}, "max_output_tokens"),
        ({"input": "x", "budget": 1.2}, "budget"),
        ({"input": "x", "buget": 0.2}, "buget"),
        ({"input": "x", "previous_response_id": "resp_1"}, "previous_response_id"),
        ({"input": "x", "store": "yes"}, "store"),
        ({"input": "x", "conversation": "conv_1"}, "conversation"),
        ({"input": "x", "generate": False}, "generate"),
        ({"input": "x", "moderation": {"model": "m"}}, "moderation"),
        ({"input": "x", "top_logprobs": 3}, "top_logprobs"),
        ({"input": "x", "truncation": "head"}, "truncation"),
        ({"input": "x", "max_tool_calls": -1}, "max_tool_calls"),
        ({"input": "x", "prompt_cache_options": {"prewarm": True}}, "prompt_cache_options.prewarm"),
        ({"input": "x", "stream_options": {"include_obfuscation": False}}, "stream_options"),
        ({"input": "x", "include": "all"}, "include"),
        ({"input": "x", "include": [1]}, "include[0]"),
        ({"input": "x", "include": ["reasoning.content"]}, "include[0]"),
        (
            {"input": "x", "include": [ENCRYPTED, "message.output_text.logprobs"]},
            "include[1]",
        ),
        ({"input": "x", "reasoning": {"summary": "short"}}, "reasoning.summary"),
        ({"input": "x", "reasoning": {"summary": True}}, "reasoning.summary"),
        ({"input": "x", "reasoning": {"generate_summary": ""}}, "reasoning.generate_summary"),
        ({"input": "x", "reasoning": {"context": "all_turns"}}, "reasoning.context"),
        ({"input": "x", "reasoning": {"mode": "pro"}}, "reasoning.mode"),
        ({"input": "x", "text": {"verbosity": "loud"}}, "text.verbosity"),
        ({"input": "x", "background": True}, "background"),
        ({"input": "x", "max_tokens": 5}, "max_tokens"),
        ({"input": "x", "tools": [{"type": "web_search"}]}, "tools[0]"),
        ({"input": "x", "tools": [{}]}, "tools[0]"),
        ({"input": "x", "tools": [{"type": "function"}]}, "tools[0]"),
        ({"input": "x", "tools": [OTHER]}, "tools"),
        ({"input": "x", "text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"input": "x", "text": {"format": {"type": "json_schema"}}}, "text.format.schema"),
        ({"input": "x " * 5000}, "input"),
    ],
)
def test_wrong_bodies_name_the_field(token_server: Live, body: dict[str, Any], param: str) -> None:
    before = len(token_server.engine.requests)
    reply = token_server.http.post("/v1/responses", json=body)
    assert reply.status_code == 400, reply.text
    error = reply.json()["error"]
    assert error["param"] == param
    assert "messages[" not in error["message"]
    assert len(token_server.engine.requests) == before


def test_harmless_and_unknown_fields(token_server: Live) -> None:
    response = ask(
        token_server,
        store=False,
        metadata={"a": "b"},
        service_tier="auto",
        extra_body={"truncation": "disabled", "zebra": 1, "top_k": 7},
    )
    assert token_server.engine.requests[-1].sampling.top_k == 7
    assert response.metadata == {"a": "b"}
    assert response.budget["ignored_fields"] == ["truncation", "zebra"]


def test_errors_are_the_sdk_s(token_server: Live) -> None:
    with pytest.raises(openai.NotFoundError):
        ask(token_server, model="gpt-4o")


def test_a_failure_in_a_stream_is_an_event() -> None:
    with serve(ScriptedBehaviour(fail_after_tokens=5)) as live:
        last = ask(live, stream=True)[-1]
        assert (last.type, last.response.status) == ("response.failed", "failed")
        assert last.response.error.code == "server_error" and last.response.completed_at is None
        with pytest.raises(openai.InternalServerError):
            ask(live)
