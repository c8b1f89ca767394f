"""Bad input: the right 4xx in OpenAI's shape, nothing sent to the engine, nothing served."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from typing import Any

import pytest

from extracot_server.api.body import parse_json_object
from extracot_server.api.chat.request import UNSUPPORTED
from extracot_server.errors import InvalidRequestError
from tests.server.live import Live, serve, user
from tests.server.test_connections import connect


@pytest.mark.parametrize(
    "body",
    ["", "{", "nonsense", '{"messages": [}', b"\xff\xfe\x00", '{"a": 1} trailing', "[" * 100_000],
)
def test_malformed_json(token_server: Live, body: Any) -> None:
    error = token_server.refused(body)
    assert (error["code"], error["param"]) == ("invalid_json", None)


@pytest.mark.parametrize("body", ["[]", "null", "3", '"text"', "true"])
def test_json_that_is_no_object(token_server: Live, body: str) -> None:
    assert token_server.refused(body)["code"] == "invalid_json"


@pytest.mark.parametrize("depth", [50, 127, 128, 500, 900, 960, 985, 20_000])
@pytest.mark.parametrize("field", ["budget", "zebra", "tools", "messages", "stop"])
def test_deep_nesting_is_no_server_error(token_server: Live, depth: int, field: str) -> None:
    body = json.dumps({"messages": user()} | {field: 0})
    response = token_server.post(body.replace(": 0}", ": " + "[" * depth + "]" * depth + "}"))
    if depth > 127:  # the body itself is a level
        error = response.json()["error"]
        assert response.status_code == 400 and "nested" in error["message"].lower(), response.text
    else:
        assert response.status_code == (200 if field == "zebra" else 400), response.text


def test_brackets_in_a_text_are_no_levels(token_server: Live) -> None:
    assert token_server.chat(messages=user("[" * 2000))["choices"]


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([], "messages"),
        (None, "messages"),
        ("hello", "messages"),
        ({}, "messages"),
        (["hello"], "messages[0]"),
        ([{}], "messages[0].role"),
        ([{"role": "user"}], "messages[0].content"),
        ([{"role": "user", "content": None}], "messages[0].content"),
        ([{"role": "user", "content": ""}], "messages[0].content"),
        ([{"role": "user", "content": []}], "messages[0].content"),
        ([{"role": "user", "content": 5}], "messages[0].content"),
        ([{"role": "user", "content": "\ud800"}], "messages[0].content"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0].text"),
        ([{"role": "robot", "content": "x"}], "messages[0].role"),
        ([{"role": "tool", "content": "x", "tool_call_id": "1"}], "messages[0].role"),
        ([{"role": 5, "content": "x"}], "messages[0].role"),
        ([{"role": "assistant", "content": "x"}], "messages[0].role"),
        ([*user(), {"role": "assistant", "content": "x"}], "messages[1].role"),
        ([{"role": "system", "content": "x"}] * 2, "messages[1].role"),
        ([{"role": "system", "content": "x"}], "messages[0].role"),
    ],
)
def test_wrong_messages_name_the_place(token_server: Live, messages: Any, param: str) -> None:
    error = token_server.refused({"messages": messages, "budget": 0.2})
    assert error["param"] == param


def test_messages_are_required(token_server: Live) -> None:
    error = token_server.refused({"budget": 0.2})
    assert (error["param"], error["code"]) == ("messages", "missing_required_parameter")


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}},
        {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}},
        {"type": "file", "file": {"file_id": "f"}},
        {"text": "no type"},
    ],
)
def test_parts_that_are_not_text(token_server: Live, part: dict[str, Any]) -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "See:"}, part]}]
    error = token_server.refused(messages=messages)
    assert error["param"] == "messages[0].content[1].type"
    assert error["code"] == "unsupported_content"


def test_tools_are_refused_unless_they_ask_for_nothing(token_server: Live) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    error = token_server.refused(tools=[tool])  # nobody said how this model writes a call
    assert (error["param"], error["code"]) == ("tools", "unsupported_parameter")
    for choice in ("auto", "required"):
        assert token_server.refused(tool_choice=choice)["param"] == "tool_choice"
    token_server.chat(tools=[], tool_choice="none", parallel_tool_calls=False)
    token_server.chat(tools=[tool], tool_choice="none")
    token_server.chat(tools=None, functions=None)


@pytest.mark.parametrize("name", sorted(UNSUPPORTED.hints))
def test_the_closed_list_of_unsupported_fields(token_server: Live, name: str) -> None:
    error = token_server.refused({"messages": user(), name: "x"})
    assert (error["param"], error["code"]) == (name, "unsupported_parameter")
    assert name in error["message"]


def test_other_fields_are_tolerated_and_listed(token_server: Live) -> None:
    reply = token_server.chat(zebra=1, service_tier="auto", store=False, user="u", metadata={})
    assert reply["budget"]["ignored_fields"] == ["service_tier", "store", "zebra"]
    assert token_server.chunks(zebra=1)[-1]["budget"]["ignored_fields"] == ["zebra"]
    many = {f"field{number}": 1 for number in range(1000)}
    assert "fields" in token_server.refused({"messages": user(), **many})["message"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", "0.5"),
        ("temperature", True),
        ("temperature", -0.1),
        ("temperature", 2.1),
        ("temperature", []),
        ("top_p", 0),
        ("top_p", 1.1),
        ("top_p", "1"),
        ("top_k", -2),
        ("top_k", 1.5),
        ("min_p", 2),
        ("presence_penalty", 3),
        ("frequency_penalty", -3),
        ("repetition_penalty", 0),
        ("n", 0),
        ("n", 17),
        ("n", "2"),
        ("n", True),
        ("max_tokens", 0),
        ("max_tokens", -1),
        ("max_tokens", "10"),
        ("max_tokens", 1.5),
        ("max_completion_tokens", 0),
        ("min_tokens", -1),
        ("seed", 1.5),
        ("seed", "1"),
        ("seed", 2**64),
        ("stream", "true"),
        ("stream", 1),
        ("stream_options", []),
        ("stop", 5),
        ("stop", [5]),
        ("stop", [""]),
        ("stop", ["x"] * 17),
        ("stop", "x" * 1025),
        ("logit_bias", []),
        ("logit_bias", {"hello": 1}),
        ("logprobs", "yes"),
        ("top_logprobs", 21),
        ("response_format", "json"),
        ("model", 5),
        ("user", 5),
        ("metadata", "x"),
        ("reasoning_effort", 3),
        ("include_reasoning", "no"),
    ],
)
def test_wrong_values_name_the_field(token_server: Live, field: str, value: Any) -> None:
    error = token_server.refused(**{field: value})
    assert error["param"] == field
    assert field in error["message"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema"),
        ({"stream_options": {"include_usage": "yes"}}, "stream_options.include_usage"),
        ({"logit_bias": {"5": 101}}, "logit_bias.5"),
        ({"logit_bias": {"5": "1"}}, "logit_bias.5"),
        ({"metadata": {"a": 1}}, "metadata.a"),
    ],
)
def test_wrong_nested_values_name_the_path(
    token_server: Live, fields: dict[str, Any], param: str
) -> None:
    assert token_server.refused(**fields)["param"] == param


@pytest.mark.parametrize("literal", ["NaN", "-Infinity", "1e999", "9" * 199 + "e0200", "1E+0999"])
@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (
            "/v1/responses",
            {"input": "hi", "text": {"format": {"type": "text", "x": 0.5}}},
            "text.format.x",
        ),
        (
            "/v1/chat/completions",
            {"messages": user(), "zebra": {"a": [1, {"b": 0.5}]}},
            "zebra.a[1].b",
        ),
        ("/v1/messages", {"messages": user(), "max_tokens": 9, "x": 0.5}, "x"),
    ],
)
def test_numbers_that_json_lacks_are_named(
    token_server: Live, path: str, body: dict[str, Any], param: str, literal: str
) -> None:
    """Also where nothing reads them, for they would be said back in the reply."""
    raw = json.dumps(body).replace("0.5", literal)
    reply = token_server.http.post(path, content=raw, headers={"content-type": "application/json"})
    assert reply.status_code == 400, reply.text
    assert f"`{param}` must be a finite number" in reply.json()["error"]["message"]
    assert token_server.http.post(path, json={**body, "x": "NaN, 1e999"}).status_code == 200


@pytest.mark.parametrize("field", ["temperature", "repetition_penalty", "presence_penalty"])
@pytest.mark.parametrize("literal", ["NaN", "Infinity", "1e999"])
def test_sampling_must_be_finite(token_server: Live, field: str, literal: str) -> None:
    body = json.dumps({"messages": user(), field: 0}).replace(": 0}", f": {literal}}}")
    assert token_server.refused(body)["param"] == field


@pytest.mark.parametrize(
    "fields",
    [
        {"budget": "\ud800"},
        {"budget": {"\ud800": 1}},
        {"\ud800budget": 1},
        {"zebra\udfff": 1},
        {"reasoning_effort": "\ud800"},
        {"thinking": {"\ud800": 1}},
        {"stop": ["a", "\ud800"]},
        {"metadata": {"a": "\udfff"}},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"\ud83d": 1}}}]},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"schema": {"const": "\ud83d"}},
            }
        },
    ],
)
def test_half_characters_are_refused_in_a_reply_that_can_be_read(
    token_server: Live, fields: dict[str, Any]
) -> None:
    token_server.refused({"messages": user(), **fields})


def test_unknown_models(token_server: Live) -> None:
    for name in ("gpt-4o", "", "x" * 100_000, "scripted@@0.2"):
        error = token_server.refused(model=name, status=404)
        assert (error["code"], error["param"]) == ("model_not_found", "model")
        assert "scripted" in error["message"] and len(error["message"]) < 400


def test_bodies_that_are_too_large(token_server: Live) -> None:
    big = json.dumps({"messages": user("x" * 10_000_000)})
    error = token_server.refused(big, status=413)
    assert error["code"] == "request_too_large"

    def pieces() -> Any:
        for _ in range(100):
            yield b" " * 100_000

    response = token_server.http.post("/v1/chat/completions", content=pieces())
    assert response.status_code == 413  # no content-length to go by
    assert response.json()["error"]["code"] == "request_too_large"


PATHS = ["chat/completions", "responses", "messages", "messages/count_tokens", "tokenize"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "coding", ["gzip", "GZIP", "br", "zstd", "deflate", "identity, gzip", "x-gzip", "aws-chunked"]
)
def test_a_compressed_body_is_a_415_that_says_so(
    token_server: Live, path: str, coding: str
) -> None:
    before = len(token_server.engine.requests)
    body = gzip.compress(json.dumps({"messages": user()}).encode())
    response = token_server.http.post(
        f"/v1/{path}", content=body, headers={"content-encoding": coding}
    )
    assert response.status_code == 415
    assert response.headers["accept-encoding"] == "identity"
    error = response.json()["error"]
    assert "content-encoding" in error["message"] and coding in error["message"]
    assert error["type"] == "invalid_request_error"
    if path.startswith("messages"):
        assert response.json()["type"] == "error" and response.json()["request_id"]
    else:
        assert error["code"] == "unsupported_content_encoding"
    assert len(token_server.engine.requests) == before


def test_a_transfer_that_is_compressed_is_a_415_too(token_server: Live) -> None:
    body = gzip.compress(json.dumps({"messages": user()}).encode())
    head = b"POST /v1/responses HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"
    with connect(token_server) as raw:
        raw.sendall(head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
        assert raw.recv(2**16).startswith(b"HTTP/1.1 415 ")


@pytest.mark.parametrize("coding", ["identity", "Identity", "", "identity, identity"])
def test_a_body_that_says_it_is_not_compressed_is_read(token_server: Live, coding: str) -> None:
    body = json.dumps({"messages": user(), "max_tokens": 5})
    response = token_server.http.post(
        "/v1/chat/completions", content=body, headers={"content-encoding": coding}
    )
    assert response.status_code == 200


def test_a_body_within_the_limit_may_still_be_too_long(token_server: Live) -> None:
    error = token_server.refused(messages=user("apples " * 100_000))
    assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")


def test_limits_are_settings() -> None:
    with serve(max_choices=2, max_messages=3, max_body_bytes=2000) as live:
        assert live.refused(n=3)["param"] == "n"
        turns = [*user(), {"role": "assistant", "content": "x"}] * 2
        assert live.refused(messages=[*turns, *user()])["param"] == "messages"
        assert live.refused(messages=user("x" * 2000), status=413)["code"] == "request_too_large"
        assert live.chat(n=2)["usage"]


def test_refusals_are_counted_by_a_bounded_reason(token_server: Live) -> None:
    def count(reason: str) -> float:
        return token_server.metric_sum("extracot_rejected_total", reason=reason)

    def reasons() -> set[str]:
        return {dict(has)["reason"] for name, has in token_server.metrics() if "rejected" in name}

    known, before = reasons(), count("invalid_value")
    token_server.refused(budget="fast")
    token_server.refused(budget="faster")
    assert count("invalid_value") == before + 2
    assert reasons() == known | {"invalid_value"} and len(known) < 40


def test_places_of_half_characters_are_spelled_only_where_one_is() -> None:
    value: Any = [1] * 50_000
    for _ in range(100):
        value = {"k" * 64: value}
    whole = json.dumps({"messages": value, "emoji": "😀"}).encode()
    tracemalloc.start()
    parse_json_object(whole)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30_000_000  # each place spelled would be more than 300 MB
    with pytest.raises(InvalidRequestError) as caught:
        parse_json_object(json.dumps({"a": [{"b": ["x", "\ud83d"]}]}).encode())
    assert caught.value.param == "a[0].b[1]"


@pytest.mark.parametrize(
    ("path", "name", "value", "hint"),
    [
        ("chat/completions", "system", "Be brief.", "role system"),
        ("chat/completions", "instructions", "Be brief.", "role system"),
        ("chat/completions", "max_output_tokens", 5, "`max_completion_tokens`"),
        ("chat/completions", "stop_sequences", ["x"], "`stop`"),
        ("chat/completions", "text", {"format": {"type": "json_object"}}, "`response_format`"),
        ("responses", "stop", ["x"], "`/v1/chat/completions`"),
        ("responses", "seed", 0, "`/v1/chat/completions`"),
        ("responses", "n", 2, "`/v1/chat/completions`"),
        ("responses", "system", "Be brief.", "`instructions`"),
        ("messages", "stop", ["x"], "`stop_sequences`"),
        ("messages", "seed", 1, "`/v1/chat/completions`"),
        ("messages", "max_output_tokens", 5, "`max_tokens`"),
        ("messages", "instructions", "Be brief.", "`system`"),
    ],
)
def test_the_words_of_another_api_are_not_dropped(
    token_server: Live, path: str, name: str, value: Any, hint: str
) -> None:
    asked = {"input": "Hi"} if path == "responses" else {"messages": user(), "max_tokens": 5}
    body = {"model": "scripted", **asked, name: value}
    reply = token_server.http.post(f"/v1/{path}", json=body)
    assert reply.status_code == 400, reply.text
    message = reply.json()["error"]["message"]
    assert f"`{name}`" in message and hint in message
    for harmless in (None, 1 if name == "n" else None):
        reply = token_server.http.post(f"/v1/{path}", json={**body, name: harmless})
        assert reply.status_code == 200, reply.text
