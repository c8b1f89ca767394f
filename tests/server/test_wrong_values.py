"""Errors about wrong values are plain sentences: over every field of every body."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from pydantic import BaseModel

from extracot_server.api import body as bodies
from extracot_server.api.chat.request import ChatCompletionRequest
from extracot_server.api.messages.request import CountRequest, MessagesRequest
from extracot_server.api.responses.request import ResponsesRequest
from extracot_server.api.tokenize import TextToTokenize
from tests.server.live import QUESTION, Live, user

VALUES: list[Any] = [
    True, 0, -1, 3, 2**70, 1.5, "", "x", [], [5], ["x"], [[]], [{}], {}, {"x": 1},
    {"type": "x"}, {"type": 5}, [{"type": "x"}], [{"role": 5}], [{"role": "user", "content": 5}],
    [{"role": "user", "content": [5]}], [{"role": "user", "content": {}}], {"type": "json_schema"},
    {"type": "function", "function": {}}, [{"type": "function", "function": {"name": 5}}],
    {"type": "json_schema", "json_schema": {"schema": 5}}, {"effort": 3}, {"budget_tokens": "x"},
    {"format": 5}, {"include_usage": 1},
]  # fmt: skip
REQUESTS: list[tuple[str, type[BaseModel], dict[str, Any]]] = [
    ("/v1/chat/completions", ChatCompletionRequest, {"messages": user(), "max_tokens": 5}),
    ("/v1/responses", ResponsesRequest, {"input": QUESTION, "max_output_tokens": 5}),
    ("/v1/messages", MessagesRequest, {"messages": user(), "max_tokens": 5}),
    ("/v1/messages/count_tokens", CountRequest, {"messages": user()}),
    ("/v1/tokenize", ChatCompletionRequest, {"messages": user()}),
    ("/v1/tokenize", TextToTokenize, {"prompt": "x"}),
]
CASES = [
    pytest.param(path, good, name, id=f"{path} {kind.__name__} {name}")
    for path, kind, good in REQUESTS
    for name in kind.model_fields
]


def class_names(kind: type[BaseModel] = bodies.Body) -> set[str]:
    """Every class that a body is made of."""
    found = {kind.__name__}
    return found.union(*(class_names(child) for child in kind.__subclasses__()))


FOREIGN = re.compile(
    r"Input should|instance of|valid (string|list|dictionary|integer|number|boolean)|\bNone"
    r"|\bTrue\b|\bFalse\b|\bdict\b|\blist\[|\bint\b|\bstr\b|\bfloat\b|\bbool\b|after validation"
    r"|pydantic|Field required|\b(" + "|".join(sorted(class_names() - {"Body"})) + r")\b"
)


@pytest.mark.parametrize(("path", "good", "name"), CASES)
def test_no_message_has_the_words_of_a_library(
    token_server: Live, path: str, good: dict[str, Any], name: str
) -> None:
    for value in VALUES:
        reply = token_server.http.post(path, json={**good, name: value})
        assert reply.status_code in (200, 400, 404), reply.text
        if reply.status_code == 200:
            continue
        message = reply.json()["error"]["message"]
        told = message.replace(json.dumps(value), "")
        assert not FOREIGN.search(told), (value, message)
        # What one field needs may be another's to give.
        wanted = name.removeprefix("max_").removesuffix("_choice")
        assert wanted.removesuffix("s") in message or "`messages" in message, (value, message)


@pytest.mark.parametrize(
    ("path", "fields", "message"),
    [
        ("chat/completions", {"messages": []}, "`messages` must not be empty."),
        ("chat/completions", {"messages": None}, "`messages` must be a list."),
        ("chat/completions", {"messages": ["x"]}, "`messages[0]` must be an object."),
        (
            "chat/completions",
            {"messages": [{"role": "user", "content": 5}]},
            "`messages[0].content` must be a text or a list of objects.",
        ),
        ("chat/completions", {"stop": 5}, "`stop` must be a text or a list of texts."),
        ("chat/completions", {"n": 0}, "`n` must be at least 1."),
        ("chat/completions", {"n": "2"}, "`n` must be an integer."),
        ("chat/completions", {"temperature": 3}, "`temperature` must be at most 2."),
        ("chat/completions", {"top_p": 0}, "`top_p` must be above 0."),
        ("chat/completions", {"stream": 1}, "`stream` must be true or false."),
        ("chat/completions", {"response_format": "x"}, "`response_format` must be an object."),
        (
            "chat/completions",
            {"response_format": {"type": "x"}},
            "`response_format.type` must be text, json_object or json_schema.",
        ),
        ("chat/completions", {"response_format": {}}, "`response_format.type` is missing."),
        (
            "chat/completions",
            {"tool_choice": 5},
            "`tool_choice` must be auto, none or required or an object.",
        ),
        (
            "chat/completions",
            {"reasoning_effort": 3},
            "`reasoning_effort` is 3. Allowed: none, minimal, low, medium, high, xhigh, max.",
        ),
        ("chat/completions", {"reasoning_field": "x"}, "must be both, reasoning or reasoning_cont"),
        ("chat/completions", {"budget": True}, "`budget` is true. Allowed: "),
        ("responses", {"input": 5}, "`input` must be a text or a list of objects."),
        ("responses", {"input": None}, "`input` must be a text or a list of objects."),
        ("responses", {"reasoning": "high"}, "`reasoning` must be an object"),
        ("responses", {"reasoning": {"effort": 3}}, "`reasoning.effort` is 3. Allowed: none, min"),
        ("responses", {"text": 5}, "`text` must be an object."),
        ("messages", {"messages": []}, "`messages` must not be empty."),
        ("messages", {"thinking": {}}, "`thinking.type` is missing."),
        ("messages", {"thinking": {"type": "between_tools"}}, '`thinking.type` is "between_tools'),
        ("messages", {"output_config": 5}, "`output_config` must be an object"),
        ("messages", {"output_config": {"effort": 3}}, "`output_config.effort` is 3. Allowed: no"),
        ("messages", {"max_tokens": 0}, "`max_tokens` must be at least 1."),
        ("messages", {"system": 5}, "`system` must be a text or a list of objects."),
    ],
)
def test_what_is_wrong_in_plain_words(
    token_server: Live, path: str, fields: dict[str, Any], message: str
) -> None:
    good: dict[str, Any] = {"input": QUESTION} if path == "responses" else {"messages": user()}
    good = {**good, "max_tokens": 99} if path == "messages" else good
    reply = token_server.http.post(f"/v1/{path}", json={**good, **fields})
    assert reply.status_code == 400, reply.text
    assert message in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("chat/completions", "`messages` is missing."),
        ("responses", "`input` is missing."),
        ("messages", "`messages` is missing."),
        ("messages/count_tokens", "`messages` is missing."),
        ("tokenize", "`messages` is missing; a `prompt` can be sent in its place."),
    ],
)
def test_what_is_missing(token_server: Live, path: str, message: str) -> None:
    reply = token_server.http.post(f"/v1/{path}", json={})
    assert (reply.status_code, reply.json()["error"]["message"]) == (400, message)


def test_an_unknown_alias_lists_those_there_are(token_server: Live) -> None:
    error = token_server.refused(model="scripted@2", status=404)
    assert "scripted@0.4" in error["message"] and "scripted@auto" in error["message"]
    long = f"scripted@0.{'0' * 5000}4"  # a reply would repeat it
    assert token_server.refused(model=long, status=404)["code"] == "model_not_found"


@pytest.mark.parametrize(("path", "good", "name"), CASES)
def test_half_a_character_is_refused_wherever_it_stands(
    token_server: Live, path: str, good: dict[str, Any], name: str
) -> None:
    for value, place in (("\ud800", ""), ({"a": ["x", "\udfff"]}, ".a[1]"), ({"\ud800": 1}, ".?")):
        reply = token_server.http.post(path, content=json.dumps({**good, name: value}))
        assert reply.status_code == 400, reply.text
        assert f"`{name}{place}` is not valid Unicode" in reply.json()["error"]["message"]


def test_a_whole_character_in_two_escapes_is_none(token_server: Live) -> None:
    body = json.dumps({"input": "\U0001f600", "metadata": {"a": "\U0001f600"}})
    assert "\\ud83d" in body
    reply = token_server.http.post("/v1/responses", content=body)
    assert reply.json()["metadata"] == {"a": "\U0001f600"}
