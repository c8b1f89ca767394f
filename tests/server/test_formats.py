"""Formats of answers on all three APIs: what is refused before a token, and formats with tools."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from extracot_server.engine.base import AnswerFormat, GenerationRequest
from extracot_server.engine.scripted.engine import ScriptedEngine
from tests.server.live import Live, serve, user
from tests.server.test_tools import ARGUMENTS, ASK, TOOLS, calls_of

SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}
APIS = ("chat", "responses", "messages")
FIELDS = {
    "chat": "response_format.json_schema.schema",
    "responses": "text.format.schema",
    "messages": "output_config.format.schema",
}
PATHS = {
    "chat": "/v1/chat/completions",
    "responses": "/v1/responses",
    "messages": "/v1/messages",
}


@pytest.fixture(scope="module")
def tool_server() -> Iterator[Live]:
    with serve(tool_parser="hermes") as live:
        yield live


def body_of(api: str, schema: Any, said: str, **fields: Any) -> dict[str, Any]:
    """A request for an answer in a schema, with the tools if there are any in ``fields``."""
    form = {"type": "json_schema", "name": "x", "schema": schema}
    own: dict[str, Any]
    if api == "chat":
        own = {"messages": user(said)}
        own["response_format"] = {"type": "json_schema", "json_schema": {"name": "x"} | form}
        own["response_format"]["json_schema"].pop("type")
    elif api == "responses":
        own = {"input": said, "text": {"format": form}}
    else:
        own = {"messages": user(said), "max_tokens": 2000}
        own["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
    return {"model": "scripted", "budget": 0.4, **own, **fields}


def tools_of(api: str) -> list[dict[str, Any]]:
    functions = [tool["function"] for tool in TOOLS]
    if api == "chat":
        return list(TOOLS)
    if api == "responses":
        return [{"type": "function", **function} for function in functions]
    empty = {"type": "object"}
    return [
        {**{k: v for k, v in f.items() if k != "parameters"}}
        | {"input_schema": f.get("parameters", empty)}
        for f in functions
    ]


def answer(live: Live, api: str, body: dict[str, Any]) -> tuple[str, list[tuple[str, Any]]]:
    """Text and calls of a reply."""
    response = live.http.post(PATHS[api], json=body)
    assert response.status_code == 200, response.text
    reply = response.json()
    if api == "chat":
        choice = reply["choices"][0]
        assert choice["finish_reason"] == ("tool_calls" if calls_of(choice) else "stop")
        return choice["message"]["content"] or "", calls_of(choice)
    blocks = reply["output" if api == "responses" else "content"]
    text = "".join(
        part.get("text", "")
        for block in blocks
        for part in ([block] if api == "messages" else block.get("content") or [])
        if part.get("type") in ("text", "output_text")
    )
    made = [b for b in blocks if b["type"] in ("function_call", "tool_use")]
    return text, [
        (b["name"], b["input"] if api == "messages" else json.loads(b["arguments"])) for b in made
    ]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(
    ("part", "place", "what"),
    [
        ({"$ref": "#/properties/a"}, ".properties.a.$ref", "itself"),
        ({"type": "strin"}, ".properties.a.type", "strin"),
        ({"type": "array", "uniqueItems": True}, ".properties.a", "uniqueItems"),
        ({"type": "string", "format": "colour"}, ".properties.a", "format"),
        ({"type": "string", "pattern": "a(?=b)"}, ".properties.a", "pattern"),
        ({"not": {"const": 1}}, ".properties.a", "not"),
    ],
)
def test_a_refusal_names_the_place_and_the_feature(
    tool_server: Live, api: str, part: Any, place: str, what: str, stream: bool
) -> None:
    schema = {"type": "object", "properties": {"a": part}}
    before = len(tool_server.engine.requests)
    body = body_of(api, schema, "How many?", stream=stream)
    response = tool_server.http.post(PATHS[api], json=body)
    assert response.status_code == 400, response.text
    message = response.json()["error"]["message"]
    assert f"`{FIELDS[api]}{place}`" in message and what in message
    if api != "messages":
        assert response.json()["error"]["param"] == FIELDS[api]
    assert len(tool_server.engine.requests) == before


@pytest.mark.parametrize(
    ("said", "calls"),
    [
        ("How many apples?", []),
        ("Please use get_weather for tomorrow.", [("get_weather", ARGUMENTS)]),
        ("What does the clock say?", [("clock", {})]),
        ("Use get_weather and the clock.", [("get_weather", ARGUMENTS), ("clock", {})]),
    ],
)
@pytest.mark.parametrize("budget", [None, 0.4, "none", "auto", {"max_reasoning_tokens": 5}])
@pytest.mark.parametrize("api", APIS)
def test_with_tools_the_reply_is_calls_or_keeps_to_the_schema(
    tool_server: Live, api: str, budget: Any, said: str, calls: list[Any]
) -> None:
    body = body_of(api, SCHEMA, said, tools=tools_of(api), budget=budget)
    text, made = answer(tool_server, api, body)
    assert made == calls
    assert text == ("" if calls else '{"n": 0}')


def test_the_choice_is_counted_and_streamed(tool_server: Live) -> None:
    for messages in (ASK, user()):
        fields = {"messages": messages, "tools": TOOLS, "response_format": {"type": "json_object"}}
        reply = tool_server.chat(**fields)
        report, usage = reply["budget"], reply["usage"]
        parts = report["reasoning_tokens"] + report["answer_tokens"] + report["overhead_tokens"]
        assert parts == usage["completion_tokens"] + report["injected_tokens"]
        choice = reply["choices"][0]
        chunks = [chunk["choices"][0] for chunk in tool_server.chunks(**fields)]
        text = "".join(c["delta"].get("content") or "" for c in chunks)
        parts_of_calls = [p for c in chunks for p in c["delta"].get("tool_calls") or ()]
        arguments = "".join(p["function"].get("arguments", "") for p in parts_of_calls)
        assert chunks[-1]["finish_reason"] == choice["finish_reason"]
        if messages is ASK:
            assert [json.loads(arguments)] == [a for _, a in calls_of(choice)] and not text
        else:
            assert text == choice["message"]["content"] and set(json.loads(text)) == {"answer"}


def test_after_a_result_the_answer_keeps_to_the_schema(tool_server: Live) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
    talk = [
        *user("What does the clock say?"),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "noon"},
    ]
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    reply = tool_server.chat(messages=talk, tools=TOOLS, response_format=form, n=2)
    for choice in reply["choices"]:
        assert json.loads(choice["message"]["content"]) == {"n": 0}


@pytest.mark.parametrize(
    ("choice", "calls"),
    [("required", [("get_weather", ARGUMENTS)]), ("named", [("clock", {})]), ("none", [])],
)
@pytest.mark.parametrize("api", APIS)
def test_with_a_forced_call_the_format_has_nothing_to_do(
    tool_server: Live, api: str, choice: str, calls: list[Any]
) -> None:
    named: dict[str, Any] = {
        "chat": {"type": "function", "function": {"name": "clock"}},
        "responses": {"type": "function", "name": "clock"},
        "messages": {"type": "tool", "name": "clock"},
    }
    words: dict[str, Any] = {"required": "required", "none": "none"}
    if api == "messages":
        words = {"required": {"type": "any"}, "none": {"type": "none"}}
    wanted = named[api] if choice == "named" else words[choice]
    said = "Please use get_weather for tomorrow."
    body = body_of(api, SCHEMA, said, tools=tools_of(api), tool_choice=wanted)
    text, made = answer(tool_server, api, body)
    assert made == calls and text == ("" if calls else '{"n": 0}')


def test_one_call_where_one_is_asked_for(tool_server: Live) -> None:
    reply = tool_server.chat(
        messages=user("Use get_weather and the clock."),
        tools=TOOLS,
        parallel_tool_calls=False,
        response_format={"type": "json_object"},
    )
    assert calls_of(reply["choices"][0]) == [("get_weather", ARGUMENTS)]


@pytest.mark.parametrize("api", APIS)
def test_a_tools_schema_is_named_where_a_grammar_needs_it(tool_server: Live, api: str) -> None:
    schema = {"type": "object", "properties": {"ids": {"type": "array", "uniqueItems": True}}}
    function = {"name": "f", "parameters": schema}
    tool: dict[str, Any] = {"type": "function", "function": function}
    place = "tools[0].function.parameters"
    if api == "responses":
        tool, place = {"type": "function", **function}, "tools[0].parameters"
    elif api == "messages":
        tool, place = {"name": "f", "input_schema": schema}, "tools[0].input_schema"
    response = tool_server.http.post(PATHS[api], json=body_of(api, SCHEMA, "Hi", tools=[tool]))
    assert response.status_code == 400
    message = response.json()["error"]["message"]
    assert f"`{place}.properties.ids`: `uniqueItems`" in message


def test_arguments_that_refer_to_their_definitions(tool_server: Live) -> None:
    point = {"type": "object", "properties": {"x": {"minimum": 3}}, "required": ["x"]}
    parameters = {
        "type": "object",
        "properties": {"to": {"$ref": "#/$defs/Point"}},
        "required": ["to"],
        "$defs": {"Point": point},
    }
    tool = {"type": "function", "function": {"name": "go", "parameters": parameters}}
    for choice in ("required", {"type": "function", "function": {"name": "go"}}):
        reply = tool_server.chat(messages=user(), tools=[tool], tool_choice=choice)
        assert calls_of(reply["choices"][0]) == [("go", {"to": {"x": 3}})]


def test_without_a_known_beginning_of_calls_it_is_a_400() -> None:
    with serve() as live:  # no parser at all
        error = live.refused(messages=ASK, tools=TOOLS, response_format={"type": "json_object"})
    assert error["param"] in ("tools", "response_format")
    assert "tool" in error["message"]


class _GivesUp(ScriptedEngine):
    """Ends in the midst of a grammar, as guidance does where its parser reaches a limit."""

    async def generate(self, request: GenerationRequest) -> Any:
        stream = super().generate(request)
        async for delta in stream:
            if request.answer_format is not None:
                delta = delta._replace(finish_reason="stop")
            yield delta
            if delta.finish_reason is not None:
                break
        await stream.aclose()

    async def check_format(self, wanted: AnswerFormat) -> None:
        """Notices nothing."""


@pytest.mark.parametrize("stream", [False, True])
def test_a_grammar_that_gives_up_is_no_answer_and_no_500(stream: bool) -> None:
    with serve(on=_GivesUp()) as live:
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
        body = {"model": "scripted", "messages": user(), "response_format": form, "stream": stream}
        response = live.http.post(PATHS["chat"], json=body)
        if stream:
            events = [line[6:] for line in response.text.split("\n") if line.startswith("data: {")]
            error = json.loads(events[-1])["error"]
            assert response.status_code == 200
        else:
            assert response.status_code == 400
            error = response.json()["error"]
        assert error["param"] == FIELDS["chat"] and "grammar backend" in error["message"]
        assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        (
            "/v1/chat/completions",
            {"messages": user(), "response_format": {"type": "json_object", "schema": {}}},
            "response_format.schema",
        ),
        (
            "/v1/chat/completions",
            {
                "messages": user(),
                "response_format": {"type": "text", "json_schema": {"schema": {"type": "object"}}},
            },
            "response_format.json_schema",
        ),
        (
            "/v1/responses",
            {"input": "x", "text": {"format": {"type": "json_object", "schema": {}}}},
            "text.format.schema",
        ),
    ],
    ids=["chat", "text", "responses"],
)
def test_a_schema_where_nothing_would_hold_to_it_is_refused(
    token_server: Live, path: str, fields: dict[str, Any], param: str
) -> None:
    reply = token_server.http.post(path, json=fields)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)
