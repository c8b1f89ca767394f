"""Tools of ``/v1/responses`` beyond plain functions, as Codex and the agents' SDK send them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from extracot_server.engine.scripted.engine import ScriptedBehaviour
from tests.server.live import Live, serve
from tests.server.test_responses import ENCRYPTED, OTHER, TOOL, ask
from tests.server.test_tools import ARGUMENTS, ASK

SEARCH = {"type": "web_search", "external_web_access": False}
PATCH = {
    "type": "custom",
    "name": "apply_patch",
    "description": "Edits files.",
    "format": {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"},
}
AGENTS = {
    "type": "namespace",
    "name": "agents_v1",
    "description": "Of sub-agents.",
    "tools": [TOOL, {**OTHER, "description": "The time."}],
}
JOINED = "agents_v1__get_weather"
ASK_AGENT = [{"role": "user", "content": f"Please use {JOINED} for tomorrow."}]


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    with serve(ScriptedBehaviour(max_model_len=16384), tool_parser="hermes") as found:
        yield found


def prompt(live: Live) -> str:
    """What the engine was last asked to continue."""
    text: str = live.engine.tokenizer.decode(live.engine.requests[-1].token_ids)
    return text


def allowed(mode: str, *tools: Any) -> dict[str, Any]:
    return {"type": "allowed_tools", "mode": mode, "tools": list(tools)}


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "name": name}


@pytest.mark.parametrize(
    "choice",
    [None, "auto", "none", named("get_weather"), allowed("auto", named("get_weather"), SEARCH)],
)
def test_tools_of_other_kinds_are_left_out_beside_functions(live: Live, choice: Any) -> None:
    tools = [SEARCH, TOOL, PATCH, {"type": "local_shell"}]
    extra = {} if choice is None else {"tool_choice": choice}
    reply = ask(live, input=ASK, tools=tools, **extra)
    called = [item.name for item in reply.output if item.type == "function_call"]
    assert called == ([] if choice == "none" else ["get_weather"])
    assert reply.budget["ignored_fields"] == ["tools[0]", "tools[2]", "tools[3]"]
    assert [tool.type for tool in reply.tools] == ["function"]
    assert "apply_patch" not in prompt(live)


@pytest.mark.parametrize(
    ("tools", "choice", "param"),
    [
        ([SEARCH], "auto", "tools[0]"),
        ([SEARCH, PATCH], None, "tools[0]"),
        ([TOOL, SEARCH], "required", "tools[1]"),
        ([{**AGENTS, "tools": [PATCH]}], "auto", "tools[0].tools[0]"),
        ([TOOL, SEARCH], allowed("required", named("get_weather"), SEARCH), "tool_choice.tools[1]"),
        ([TOOL, SEARCH], allowed("auto", SEARCH), "tool_choice.tools"),
        ([TOOL], allowed("auto"), "tool_choice.tools"),
        ([TOOL], allowed("auto", named("clock")), "tool_choice.tools[0]"),
        ([TOOL], allowed("auto", "get_weather"), "tool_choice.tools[0]"),
        ([TOOL], allowed("always", named("get_weather")), "tool_choice"),
        ([], allowed("auto", named("get_weather")), "tool_choice.tools[0]"),
        ([TOOL], {"type": "web_search"}, "tool_choice"),
        ([TOOL], {"type": "custom", "name": "apply_patch"}, "tool_choice"),
        ([TOOL], named("get_time"), "tool_choice"),
        ([TOOL, TOOL], "auto", "tools[1].name"),
        ([{**AGENTS, "name": ""}], "auto", "tools[0].name"),
        ([{**AGENTS, "name": "a b"}], "auto", "tools[0].tools[0].name"),
        ([{**AGENTS, "tools": None}], "auto", "tools[0].tools"),
        ([{**AGENTS, "tools": ["x"]}], "auto", "tools[0].tools[0]"),
        ([{**AGENTS, "tools": [named(None)]}], "auto", "tools[0].tools[0]"),  # type: ignore[arg-type]
        ([{"type": "function", "function": OTHER}], "auto", "tools[0]"),
        ([{"type": 7}], "auto", "tools[0]"),
    ],
)
def test_tools_that_would_be_missed_are_refused(
    live: Live, tools: list[Any], choice: Any, param: str
) -> None:
    body = {"input": ASK, "tools": tools, "tool_choice": choice}
    reply = live.http.post("/v1/responses", json=body)
    assert reply.status_code == 400, reply.text
    assert reply.json()["error"]["param"] == param
    if tools[:1] == [SEARCH]:
        assert "web_search" in reply.json()["error"]["message"]


def test_allowed_tools_are_the_only_ones(live: Live) -> None:
    reply = ask(
        live, input=ASK, tools=[TOOL, OTHER], tool_choice=allowed("required", named("clock"))
    )
    assert [item.name for item in reply.output if item.type == "function_call"] == ["clock"]
    assert "get_weather" not in prompt(live).partition("Please")[0]
    assert reply.tool_choice.type == "allowed_tools"
    free = ask(live, input=ASK, tools=[TOOL, OTHER], tool_choice=allowed("auto", named("clock")))
    assert [item.type for item in free.output] == ["reasoning", "message"]


@pytest.mark.parametrize("stream", [False, True])
def test_functions_in_a_namespace(live: Live, stream: bool) -> None:
    reply = ask(live, input=ASK_AGENT, tools=[AGENTS, OTHER], stream=stream)
    if stream:
        done = next(e for e in reply if e.type == "response.function_call_arguments.done")
        assert done.name == "get_weather"
        reply = reply[-1].response
    call = reply.output[-1]
    assert (call.namespace, call.name) == ("agents_v1", "get_weather")
    assert json.loads(call.arguments) == ARGUMENTS
    assert reply.tools[0].type == "namespace"
    assert prompt(live).count("Of sub-agents.") == 1
    back = [
        *ASK_AGENT,
        *(item.model_dump() for item in reply.output),
        {"type": "function_call_output", "call_id": call.call_id, "output": "rain"},
    ]
    again = ask(live, input=back, tools=[AGENTS, OTHER])
    assert "boxed" in again.output_text
    assert prompt(live).count(f'"name": "{JOINED}"') == 2  # as it is defined, and as it was called


def test_a_forced_function_of_a_namespace(live: Live) -> None:
    choice = {"type": "function", "namespace": "agents_v1", "name": "clock"}
    reply = ask(live, input=ASK, tools=[AGENTS], tool_choice=choice)
    call = reply.output[-1]
    assert (call.namespace, call.name) == ("agents_v1", "clock")
    assert ask(live, tools=[OTHER], tool_choice=named("clock")).output[-1].namespace is None


def codex(items: list[Any]) -> dict[str, Any]:
    """What Codex (0.171) sends for a model that it does not know, with shorter texts."""
    return {
        "model": "scripted",
        "stream": True,
        "input": items,
        "tools": [
            {**TOOL, "strict": False},
            AGENTS,
            {"type": "function", "name": "get_goal", "description": "", "strict": False}
            | {"parameters": {"type": "object", "properties": {}, "additionalProperties": False}},
            SEARCH,
        ],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "reasoning": {"summary": "auto"},
        "store": False,
        "include": [ENCRYPTED],
        "prompt_cache_key": "01a223f9-6316-7d72-93d6-ccd6c99e6774",
        "client_metadata": {"x-codex-installation-id": "c22d6687"},
    }


def message(role: str, text: str) -> dict[str, Any]:
    content = [{"type": "input_text", "text": text}]
    return {"type": "message", "id": f"msg_{role}", "role": role, "content": content}


def test_a_session_as_codex_has_it(live: Live) -> None:
    items = [message("developer", "You are a coding agent."), message("user", ASK[0]["content"])]
    first = read(live, codex(items))
    done = [event["item"] for event in first if event["type"] == "response.output_item.done"]
    assert [item["type"] for item in done] == ["reasoning", "function_call"]
    assert any(event["type"] == "response.reasoning_summary_text.delta" for event in first)
    assert not any(event["type"].startswith("response.reasoning_text") for event in first)
    items += done  # it sends items back as they came
    items.append(
        {"type": "function_call_output", "call_id": done[1]["call_id"], "output": "Exit code 0"}
    )
    second = read(live, codex(items))
    completed = second[-1]["response"]
    assert completed["output"][-1]["content"][0]["text"]
    usage = completed["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert usage["input_tokens_details"]["cached_tokens"] == 0
    assert usage["output_tokens_details"]["reasoning_tokens"] > 0
    assert completed["budget"]["ignored_fields"] == ["client_metadata", "tools[3]"]


def read(live: Live, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The events of a stream that ends well."""
    reply = live.http.post("/v1/responses", json=body)
    assert reply.status_code == 200, reply.text
    frames = reply.text.strip().split("\n\n")
    events = [json.loads(frame.partition("data: ")[2]) for frame in frames]
    assert events[-1]["type"] == "response.completed"
    return events


def test_a_free_choice_among_no_tools_is_none(live: Live) -> None:
    reply = ask(live, input=ASK, tools=[], tool_choice="auto", parallel_tool_calls=False)
    assert [item.type for item in reply.output] == ["reasoning", "message"]
