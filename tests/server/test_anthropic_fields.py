"""What Claude Code and Anthropic's SDKs send beside the conversation: taken, ignored or refused."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from anthropic import beta_tool

from tests.server.live import Live, serve, user
from tests.server.test_messages import TOOL, ask, client

MESSAGES, COUNT = "/v1/messages", "/v1/messages/count_tokens"
CLAUDE_CODE: dict[str, Any] = {  # 2.1.332, as it was seen on the wire; its texts are shorter here
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "<system-reminder>\n# Environment\n</system-reminder>\n"},
                {"type": "text", "text": "say ok", "cache_control": {"type": "ephemeral"}},
            ],
        }
    ],
    "system": [
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.332.9a2;"},
        {"type": "text", "text": "You are an agent.", "cache_control": {"type": "ephemeral"}},
    ],
    "tools": [{**TOOL, "cache_control": {"type": "ephemeral"}, "eager_input_streaming": True}],
    "metadata": {"user_id": '{"device_id":"59c1","account_uuid":"","session_id":"908266ac"}'},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "stream": True,
}
BETAS = {
    "anthropic-beta": "claude-code-20250219,interleaved-thinking-2025-05-14,effort-2025-11-24",
    "anthropic-version": "2023-06-01",
    "x-app": "cli",
}
ADVICE: dict[str, Any] = {
    "betas": ["context-management-2025-06-27"],
    "billing_policy": {"type": "billing_policy", "bill_to": "self"},
    "context_management": {"edits": []},
    "diagnostics": {"previous_message_id": None},
    "fallback_credit_token": "t",
    "fallbacks": [{"model": "other"}],
    "inference_geo": "eu",
    "speed": "fast",
}


@pytest.fixture(scope="module")
def tool_live() -> Iterator[Live]:
    with serve(tool_parser="hermes") as live:
        yield live


def post(live: Live, path: str = MESSAGES, **fields: Any) -> Any:
    body = {"messages": user(), **fields}
    return live.http.post(path, json={"max_tokens": 500, **body} if path == MESSAGES else body)


@pytest.mark.parametrize(
    "fields",
    [
        {
            "max_tokens": 32000,
            "thinking": {"budget_tokens": 31999, "type": "enabled", "display": "omitted"},
        },
        {
            "max_tokens": 32000,
            "thinking": {"type": "adaptive", "display": "omitted"},
            "output_config": {"effort": "high"},
        },
    ],
    ids=["a model it knows", "a model it does not know"],
)
def test_what_claude_code_sends_is_served(tool_live: Live, fields: dict[str, Any]) -> None:
    body = {"model": "scripted", **CLAUDE_CODE, **fields}
    reply = tool_live.http.post(f"{MESSAGES}?beta=true", json=body, headers=BETAS)
    assert reply.status_code == 200, reply.text
    assert "event: message_stop" in reply.text and '"ignored_fields":["context_m' in reply.text
    counted = {name: body[name] for name in ("model", "messages", "system", "tools", "thinking")}
    counted["context_management"] = body["context_management"]
    reply = tool_live.http.post(f"{COUNT}?beta=true", json=counted, headers=BETAS)
    assert reply.status_code == 200 and reply.json()["input_tokens"] > 0, reply.text


@pytest.mark.parametrize("name", ADVICE)
def test_what_only_advises_is_ignored_and_listed(token_server: Live, name: str) -> None:
    reply = post(token_server, **{name: ADVICE[name]})
    assert reply.status_code == 200, reply.text
    assert reply.json()["budget"]["ignored_fields"] == [name]
    assert post(token_server, COUNT, **{name: ADVICE[name]}).status_code == 200


def test_null_and_nothing_are_taken(token_server: Live) -> None:
    nothing: dict[str, Any] = dict.fromkeys(
        ["container", "context_management", "thread", "compaction", "cache_control", "system"]
    )
    nothing |= {"mcp_servers": [], "metadata": {}, "tools": [], "output_config": {}}
    reply = post(token_server, **nothing)
    assert reply.status_code == 200, reply.text


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"container": "c"}, "container"),
        ({"container": {"skills": []}}, "container"),
        ({"mcp_servers": [{"type": "url"}]}, "mcp_servers"),
        ({"output_format": {"type": "json_schema"}}, "output_config.format"),
        ({"text": {"format": {"type": "json_object"}}}, "output_config.format"),
        ({"parallel_tool_calls": False}, "tool_choice.disable_parallel_tool_use"),
        ({"compaction": {"type": "summarize"}}, "compaction"),
        ({"thread": {"type": "create"}}, "thread"),
        ({"thread": {"type": "continue", "previous_message_id": "msg_1"}}, "thread"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0]"),
        ({"thinking": {"type": "between_tools"}}, "thinking.type"),
        ({"thinking": {"type": "disabled", "budget_tokens": 9}}, "thinking"),
        ({"thinking": {"type": "enabled", "max_tokens": 9}}, "thinking.max_tokens"),
        ({"thinking": {"type": "enabled", "budget_tokens": 9}, "budget": "none"}, "thinking"),
        ({"thinking": {"type": "disabled"}, "model": "scripted@0.4"}, "thinking"),
        ({"output_config": {"task_budget": {"total": 9}}}, "output_config.task_budget"),
        ({"output_config": {"max_effort": "low"}}, "output_config.max_effort"),
    ],
)
def test_what_would_change_the_reply_is_refused(
    token_server: Live, fields: dict[str, Any], named: str
) -> None:
    reply = post(token_server, **fields)
    assert reply.status_code == 400, reply.text
    assert named in reply.json()["error"]["message"]


def test_counting_does_not_mind_a_summary(token_server: Live) -> None:
    assert post(token_server, COUNT, compaction={"type": "summarize"}).status_code == 200


def test_a_thread_is_refused_so_that_sdks_send_everything(token_server: Live) -> None:
    for kind in ("create", "continue"):
        error = post(token_server, thread={"type": kind, "previous_message_id": "m"}).json()
        assert error["error"]["details"] == {"error_code": "thread_unsupported_request"}
    with client(token_server) as asking, pytest.raises(anthropic.BadRequestError) as caught:
        asking.beta.messages.create(
            model="scripted",
            max_tokens=9,
            messages=user(),
            thread={"type": "create"},  # type: ignore[arg-type]
        )
    details = caught.value.body["error"]["details"]  # type: ignore[index,call-overload]
    assert details["error_code"] == "thread_unsupported_request"
    assert "details" not in post(token_server, container="c").json()["error"]


def test_the_tool_runner_goes_on_to_its_second_turn(tool_live: Live) -> None:
    @beta_tool
    def get_weather(city: str, unit: str = "c") -> str:
        """The weather in a city.

        Args:
            city: where
            unit: c or f
        """
        return f"Sunny in {city}."

    before = len(tool_live.engine.requests)
    with client(tool_live) as asking:
        runner = asking.beta.messages.tool_runner(
            model="scripted",
            max_tokens=900,
            tools=[get_weather],
            messages=user("Please use get_weather for Bern."),  # type: ignore[arg-type]
        )
        turns = list(runner)
    assert [turn.stop_reason for turn in turns] == ["tool_use", "end_turn"]
    engine = tool_live.engine
    prompt = engine.tokenizer.decode(engine.requests[-1].token_ids)
    assert len(engine.requests) > before
    assert "for Bern." in prompt and "Sunny in" in prompt  # the whole conversation came again


def test_a_thread_of_the_sdk_keeps_its_history(token_server: Live) -> None:
    with client(token_server) as asking:
        thread = asking.beta.messages.thread(
            model="scripted", max_tokens=900, unsupported_request_behavior="continue_unthreaded"
        )
        for text in ("My name is Zed.", "What is my name?"):
            assert thread.send(*user(text)).stop_reason == "end_turn"  # type: ignore[arg-type]
    engine = token_server.engine
    prompt = engine.tokenizer.decode(engine.requests[-1].token_ids)
    assert "My name is Zed." in prompt and "What is my name?" in prompt


def test_thinking_has_a_signature(token_server: Live) -> None:
    message = ask(token_server, extra_body={"budget": 0.2})
    signature = message.content[0].signature
    assert base64.b64decode(signature)
    events = ask(token_server, stream=True, extra_body={"budget": 0.2})
    deltas = [event.delta for event in events if event.type == "content_block_delta"]
    assert [d.signature for d in deltas if d.type == "signature_delta"] == [signature]
    omitted = ask(token_server, thinking={"type": "adaptive", "display": "omitted"})
    assert omitted.content[0].thinking == ""
    assert base64.b64decode(omitted.content[0].signature, validate=True)
    with (
        client(token_server) as asking,
        asking.messages.stream(model="scripted", max_tokens=900, messages=user()) as stream,  # type: ignore[arg-type]
    ):
        final = stream.get_final_message()
    assert final.content[0].signature == signature  # type: ignore[union-attr]
    blocks = [block.model_dump() for block in final.content]
    again = [*user(), {"role": "assistant", "content": blocks}, *user("And now?")]
    plain = [*user(), {"role": "assistant", "content": blocks[1:]}, *user("And now?")]
    with_it, without = (ask(token_server, messages=talk) for talk in (again, plain))
    assert with_it.usage.input_tokens == without.usage.input_tokens


def test_a_sampling_field_that_create_no_longer_has_goes_into_extra_body(
    token_server: Live,
) -> None:
    ask(token_server, extra_body={"temperature": 0.5})
    assert token_server.engine.requests[-1].sampling.temperature == 0.5
