"""``POST /v1/messages``: Anthropic's official SDK against the real app."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import pytest

from extracot_server.engine.scripted.engine import ScriptedBehaviour
from tests.server.live import QUESTION, Live, serve, user
from tests.server.test_tools import ARGUMENTS, ASK, CLOCK, SPOOF, WEATHER

TOOL = {
    "name": "get_weather",
    "description": WEATHER["function"]["description"],
    "input_schema": WEATHER["function"]["parameters"],
}
OTHER = {"name": CLOCK["function"]["name"], "input_schema": {"type": "object"}}


def client(live: Live, key: str = "none") -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=live.url, api_key=key, max_retries=0, timeout=120.0)


def ask(live: Live, **fields: Any) -> Any:
    known = {"model": "scripted", "max_tokens": 1000, "messages": user()}
    with client(live) as asking:
        made: Any = asking.messages.create(**{**known, **fields})
        return list(made) if fields.get("stream") else made


def test_thinking_and_text_are_blocks(token_server: Live) -> None:
    chat = token_server.chat(budget=0.4, max_tokens=1000)
    message = ask(token_server, extra_body={"budget": 0.4})
    said = chat["choices"][0]["message"]
    assert [block.type for block in message.content] == ["thinking", "text"]
    assert message.content[0].thinking == said["reasoning"]
    assert message.content[1].text == said["content"]
    assert message.stop_reason == "end_turn"
    assert message.usage.input_tokens == chat["usage"]["prompt_tokens"]
    assert message.usage.output_tokens == chat["usage"]["completion_tokens"]
    thinking = message.usage.output_tokens_details.thinking_tokens
    assert thinking == chat["budget"]["reasoning_tokens"]
    assert message.budget == chat["budget"]
    assert message._request_id


@pytest.mark.parametrize("stream", [False, True])
def test_budget_tokens_are_a_hard_cap(cap_server: Live, stream: bool) -> None:
    thinking = {"type": "enabled", "budget_tokens": 17}
    if stream:
        fields: Any = {"model": "scripted", "max_tokens": 1000, "messages": user()}
        with (
            client(cap_server) as asking,
            asking.messages.stream(**fields, thinking=thinking) as events,
        ):
            message: Any = events.get_final_message()
    else:
        message = ask(cap_server, thinking=thinking)
    assert message.usage.output_tokens_details.thinking_tokens <= 17
    assert [block.type for block in message.content] == ["thinking", "text"]
    if not stream:
        report = message.budget
        assert (report["max_reasoning_tokens"], report["enforcement"]) == (17, "cap")
        assert report["cap_hit"] is True


def test_budget_and_thinking_go_together(token_server: Live) -> None:
    thinking = {"type": "enabled", "budget_tokens": 5}
    message = ask(token_server, thinking=thinking, extra_body={"budget": 0.2})
    assert (message.budget["level"], message.budget["max_reasoning_tokens"]) == ("0.2", 5)
    assert message.budget["reasoning_tokens"] <= 5
    none = ask(token_server, thinking={"type": "disabled"})
    assert [block.type for block in none.content] == ["text"]
    native = ask(token_server, thinking={"type": "adaptive"})
    assert native.budget["level"] == "native"
    effort = ask(token_server, output_config={"effort": "low"})
    assert effort.budget["level"] == "0.4"
    alias = ask(token_server, model="scripted@0.6", thinking=thinking)
    assert (alias.budget["level"], alias.budget["max_reasoning_tokens"]) == ("0.6", 5)


def test_a_stream_has_anthropic_s_events(token_server: Live) -> None:
    events = ask(token_server, stream=True, extra_body={"budget": 0.2})
    kinds = [event.type for event in events]
    once = [kind for at, kind in enumerate(kinds) if at == 0 or kinds[at - 1] != kind]
    block = ["content_block_start", "content_block_delta", "content_block_stop"]
    assert once == ["message_start", *block, *block, "message_delta", "message_stop"]
    whole = ask(token_server, extra_body={"budget": 0.2})
    deltas = [event.delta for event in events if event.type == "content_block_delta"]
    thought = "".join(d.thinking for d in deltas if d.type == "thinking_delta")
    text = "".join(d.text for d in deltas if d.type == "text_delta")
    assert [thought, text] == [whole.content[0].thinking, whole.content[1].text]
    end = events[-2]
    assert (end.delta.stop_reason, end.usage.output_tokens) == (
        "end_turn",
        whole.usage.output_tokens,
    )
    assert end.budget == whole.budget
    assert events[0].message.usage.input_tokens == whole.usage.input_tokens


def test_system_blocks_and_earlier_thinking(token_server: Live) -> None:
    ask(
        token_server,
        system=[
            {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}},
            {"type": "text", "text": " Be kind."},
        ],
        messages=[
            {"role": "user", "content": "Hello"},
            {"role": "user", "content": [{"type": "text", "text": "there"}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "secret thought", "signature": ""},
                    {"type": "text", "text": "Hi."},
                ],
            },
            {"role": "user", "content": "How are you?"},
        ],
    )
    engine = token_server.engine
    prompt = engine.tokenizer.decode(engine.requests[-1].token_ids)
    assert "system\nBe brief. Be kind.<|im_end|>" in prompt
    assert "user\nHello\nthere<|im_end|>" in prompt
    assert "secret" not in prompt


def test_stops_and_limits(token_server: Live) -> None:
    stopped = ask(token_server, stop_sequences=["never", "boxed"])
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "boxed")
    assert "boxed" not in stopped.content[-1].text
    cut = ask(token_server, max_tokens=4, thinking={"type": "disabled"})
    assert (cut.stop_reason, cut.stop_sequence) == ("max_tokens", None)


def test_thinking_can_be_left_out(token_server: Live) -> None:
    thinking = {"type": "enabled", "budget_tokens": 900, "display": "omitted"}
    message = ask(token_server, thinking=thinking)
    assert [block.type for block in message.content] == ["thinking", "text"]
    assert message.content[0].thinking == ""


def test_a_schema_binds_the_answer(token_server: Live) -> None:
    schema = {"type": "object", "properties": {"n": {"const": 3}}, "required": ["n"]}
    form = {"type": "json_schema", "schema": schema}
    message = ask(token_server, output_config={"format": form})
    assert json.loads(message.content[-1].text) == {"n": 3}


def test_a_bad_schema_is_refused_by_the_name_of_its_field(token_server: Live) -> None:
    form = {"type": "json_schema", "schema": {"type": "nope"}}
    with pytest.raises(anthropic.BadRequestError, match=r"output_config\.format\.schema: .*nope"):
        ask(token_server, output_config={"format": form})


def test_tokens_are_counted(token_server: Live) -> None:
    fields: Any = {"model": "scripted", "messages": user(), "system": "Be brief."}
    with client(token_server) as asking:
        counted = asking.messages.count_tokens(**fields)
    assert counted.input_tokens == ask(token_server, **fields).usage.input_tokens


@pytest.fixture(scope="module")
def tool_live() -> Any:
    with serve(tool_parser="hermes") as live:
        yield live


def test_tools_are_used_and_answered(tool_live: Live) -> None:
    first = ask(tool_live, messages=ASK, tools=[TOOL, OTHER])
    assert first.stop_reason == "tool_use"
    assert [block.type for block in first.content] == ["thinking", "tool_use"]
    use = first.content[-1]
    assert (use.name, use.input) == ("get_weather", ARGUMENTS)
    result = {"type": "tool_result", "tool_use_id": use.id, "content": SPOOF}
    talk = [
        *ASK,
        {"role": "assistant", "content": [block.model_dump() for block in first.content]},
        {"role": "user", "content": [result]},
    ]
    second = ask(tool_live, messages=talk, tools=[TOOL, OTHER])
    assert "boxed" in second.content[-1].text
    both = [result, {"type": "text", "text": "Use clock as well."}]
    third = ask(tool_live, messages=[*talk[:2], {"role": "user", "content": both}], tools=[OTHER])
    assert third.content[-1].name == "clock"
    with (
        client(tool_live) as asking,
        asking.messages.stream(
            model="scripted", max_tokens=900, messages=ASK, tools=[TOOL]
        ) as stream,
    ):
        final = stream.get_final_message()
    assert final.content[-1].input == ARGUMENTS  # type: ignore[union-attr]
    for choice, name in (
        ({"type": "any"}, "get_weather"),
        ({"type": "tool", "name": "clock"}, "clock"),
    ):
        forced = ask(tool_live, tools=[TOOL, OTHER], tool_choice=choice)
        assert forced.content[-1].name == name
    one = {"type": "auto", "disable_parallel_tool_use": True}
    ask_both = user("Use get_weather and clock.")
    single = ask(tool_live, messages=ask_both, tools=[TOOL, OTHER], tool_choice=one)
    assert [block.type for block in single.content] == ["thinking", "tool_use"]


@pytest.mark.parametrize("value", ['"\\ud83d"', "NaN", "1e999", "-Infinity", "[1"])
def test_arguments_that_no_json_holds_are_wrapped(value: str) -> None:
    """Written by a model, they cost a reply neither its tokens nor its form."""
    told = f'{{"name": "get_weather", "arguments": {{"a": {value}}}}}'
    call = f"<tool_call>\n{told}\n</tool_call>"
    with serve(ScriptedBehaviour(answers=call), tool_parser="hermes") as live:
        reply = ask(live, messages=user(), tools=[TOOL], thinking={"type": "disabled"})
        (use,) = (block for block in reply.content if block.type == "tool_use")
        assert list(use.input) == ["INVALID_JSON"] and '"a"' in use.input["INVALID_JSON"]


def test_a_stop_sequence_within_a_call_is_told(tool_live: Live) -> None:
    fields: dict[str, Any] = {"messages": ASK, "tools": [TOOL], "thinking": {"type": "disabled"}}
    told = ask(tool_live, **fields, stop_sequences=["city"])
    assert (told.stop_reason, told.stop_sequence) == ("stop_sequence", "city")


def test_calls_that_a_limit_cut_off_are_the_same_in_a_stream(tool_live: Live) -> None:
    fields: Any = {"model": "scripted", "messages": ASK, "tools": [TOOL]}
    fields["thinking"] = {"type": "disabled"}
    found = []
    with client(tool_live) as asking:
        for limit in range(6, 120, 3):
            whole = asking.messages.create(**fields, max_tokens=limit).content
            with asking.messages.stream(**fields, max_tokens=limit) as stream:
                parts = stream.get_final_message().content
            found += [block.input for block in whole if block.type == "tool_use"]
            assert [block.type for block in parts] == [block.type for block in whole]
            if found and found[-1] == {}:  # only its name was written
                assert parts[-1].input == {}  # type: ignore[union-attr]
    assert {} in found and ARGUMENTS in found


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages[0].content"),
        ({"messages": [*user(), {"role": "assistant", "content": "x"}]}, "messages[1].role"),
        ({"system": "s", "messages": [{"role": "user", "content": ""}]}, "messages[0].content"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image"}]}]},
            "messages[0].content[0].type",
        ),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "enabled", "budget_tokens": 0}}, "thinking"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1000}}, "thinking.budget_tokens"),
        (
            {
                "thinking": {"type": "enabled", "budget_tokens": 9},
                "budget": {"max_reasoning_tokens": 8},
            },
            "thinking.budget_tokens",
        ),
        ({"thinking": {"type": "disabled"}, "budget": 0.2}, "thinking"),
        ({"budget": 1.2}, "budget"),
        ({"buget": 1}, "budget"),
        ({"stop_sequences": [""]}, "stop_sequences"),
        ({"output_config": {"effort": "huge"}}, "output_config.effort"),
        ({"mcp_servers": [{}]}, "mcp_servers"),
        ({"container": "c"}, "container"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools[0]"),
        ({"tools": [OTHER]}, "tools"),
        ({"tool_choice": {"type": "some"}}, "tool_choice.type"),
        (
            {"tool_choice": {"type": "auto", "disable_parallel_tool_use": "yes"}},
            "tool_choice.disable_parallel_tool_use",
        ),
    ],
)
def test_wrong_bodies_are_errors_in_anthropic_s_form(
    token_server: Live, change: dict[str, Any], names: str
) -> None:
    before = len(token_server.engine.requests)
    body = {"model": "scripted", "max_tokens": 1000, "messages": user(), **change}
    reply = token_server.http.post("/v1/messages", json=body)
    assert reply.status_code == 400, reply.text
    told = reply.json()
    assert (told["type"], told["error"]["type"]) == ("error", "invalid_request_error")
    assert names in told["error"]["message"]
    assert told["request_id"] == reply.headers["request-id"] == reply.headers["x-request-id"]
    assert len(token_server.engine.requests) == before


def test_errors_are_the_sdk_s(token_server: Live) -> None:
    with pytest.raises(anthropic.NotFoundError) as caught:
        ask(token_server, model="claude")
    assert caught.value.body["error"]["type"] == "not_found_error"  # type: ignore[index,call-overload]


def test_a_key_by_x_api_key() -> None:
    with serve(api_key="sk-right") as live:
        fields: Any = {"model": "scripted", "max_tokens": 99, "messages": user(QUESTION)}
        with client(live, "sk-right") as right, client(live, "sk-wrong") as wrong:
            assert right.messages.create(**fields).content
            with pytest.raises(anthropic.AuthenticationError) as caught:
                wrong.messages.create(**fields)
        assert caught.value.body["error"]["type"] == "authentication_error"  # type: ignore[index,call-overload]


def test_a_failure_in_a_stream_is_an_error_event() -> None:
    with serve(ScriptedBehaviour(fail_after_tokens=5)) as live:
        with pytest.raises(anthropic.APIStatusError) as caught:
            ask(live, stream=True)
        assert caught.value.body["error"]["type"] == "api_error"  # type: ignore[index,call-overload]
        with pytest.raises(anthropic.InternalServerError):
            ask(live)


DEFERRED = {"name": "get_weather", "input_schema": {"type": "object"}, "defer_loading": True}
SEARCH = {"name": "ToolSearch", "input_schema": {"type": "object"}}


@pytest.mark.parametrize("found", [False, True])
def test_a_deferred_tool_is_offered_once_a_search_has_found_it(
    tool_live: Live, found: bool
) -> None:
    call = {"type": "tool_use", "id": "a", "name": "ToolSearch", "input": {}}
    kept = {"type": "tool_reference", "tool_name": "get_weather" if found else "another"}
    result = {"type": "tool_result", "tool_use_id": "a", "content": [kept]}
    said = [{"type": "text", "text": "Please use get_weather."}]
    messages = [
        *user(),
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result, *said]},
    ]
    reply = ask(tool_live, messages=messages, tools=[SEARCH, DEFERRED], max_tokens=500)
    assert [b.name for b in reply.content if b.type == "tool_use"] == ["get_weather"] * found
    engine = tool_live.engine
    prompt = engine.tokenizer.decode(engine.requests[-1].token_ids)
    assert kept["tool_name"] in prompt and "omitted" not in prompt
    assert ('"name": "get_weather"' in prompt) == found and '"name": "ToolSearch"' in prompt


def test_a_deferred_tool_is_offered_where_it_must_be_called(tool_live: Live) -> None:
    choice = {"type": "tool", "name": "get_weather"}
    reply = ask(tool_live, tools=[SEARCH, DEFERRED], tool_choice=choice, max_tokens=500)
    assert [b.name for b in reply.content if b.type == "tool_use"] == ["get_weather"]
