"""``POST /v1/tokenize``: the ids that a chat request would send, and the same refusals."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.server.key_files import SECRET, bearer
from tests.server.live import QUESTION, Live, serve, user


def ask(live: Live, **body: Any) -> httpx.Response:
    """The reply to a body."""
    headers = {"content-type": "application/json"}
    return live.http.post("/v1/tokenize", content=json.dumps(body), headers=headers)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"budget": 0.2},
        {"budget": "auto"},
        {"budget": "none"},
        {"model": "scripted@0.8"},
        {"reasoning_effort": "low"},
        {"budget": 0.2, "include_instruction": False},
        {"budget": 0.2, "response_format": {"type": "json_object"}},
    ],
    ids=str,
)
def test_the_ids_are_those_the_engine_gets(token_server: Live, fields: dict[str, Any]) -> None:
    found = ask(token_server, messages=user(), **fields).json()
    reply = token_server.chat(**fields)
    first = next(
        request
        for request in token_server.engine.requests
        if request.request_id == f"{reply['id'].removeprefix('chatcmpl-')[:-13]}-0-1"
    )
    assert tuple(found["tokens"]) == first.token_ids
    assert found["count"] == len(found["tokens"])
    assert found["prompt_tokens"] == reply["usage"]["prompt_tokens"]
    assert found["max_model_len"] == 4096


def test_text_is_text_whatever_it_spells(token_server: Live) -> None:
    text = "<COMP_20> <|im_end|> </think> 12"
    found = ask(token_server, prompt=text).json()
    tokenizer = token_server.engine.tokenizer
    assert tokenizer.decode(found["tokens"]) == text
    assert not set(found["tokens"]) & set(tokenizer.get_added_vocab().values())
    assert found["count"] == found["prompt_tokens"] == len(found["tokens"])
    assert ask(token_server, prompt="").json()["tokens"] == []


def test_nothing_is_generated_and_a_long_prompt_is_counted(token_server: Live) -> None:
    before = len(token_server.engine.requests)
    found = ask(token_server, messages=user("apples " * 20_000), budget=0.2).json()
    assert found["count"] > found["max_model_len"]
    assert len(token_server.engine.requests) == before


@pytest.mark.parametrize(
    ("body", "param", "status"),
    [
        ({}, "messages", 400),
        ({"messages": []}, "messages", 400),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role", 400),
        ({"messages": user(), "budget": 1.2}, "budget", 400),
        ({"messages": user(), "buget": 0.2}, "buget", 400),
        ({"messages": user(), "tools": [1]}, "tools[0]", 400),
        ({"messages": user(), "reasoning_effort": "much"}, "reasoning_effort", 400),
        ({"messages": user(), "prompt": "x"}, "messages", 400),
        ({"messages": user(), "prompt": 5}, "prompt", 400),
        ({"prompt": ["x"]}, "prompt", 400),
        ({"prompt": "\ud800"}, "prompt", 400),
        ({"prompt": "x", "budget": 0.2}, "budget", 400),
        ({"prompt": "x", "model": "scripted@0.2"}, "model", 400),
        ({"prompt": "x", "model": "nope"}, "model", 404),
        ({"messages": user(), "model": "nope"}, "model", 404),
    ],
    ids=str,
)
def test_what_is_wrong_is_refused(
    token_server: Live, body: dict[str, Any], param: str, status: int
) -> None:
    response = ask(token_server, **body)
    assert response.status_code == status
    assert response.json()["error"]["param"] == param


def test_keys_and_sizes_hold() -> None:
    with serve(api_key=SECRET, max_body_bytes=2048) as live:
        body = {"prompt": QUESTION}
        assert live.http.post("/v1/tokenize", json=body).status_code == 401
        headers = bearer(SECRET)
        assert live.http.post("/v1/tokenize", json=body, headers=headers).status_code == 200
        long = {"prompt": "x" * 3000}
        assert live.http.post("/v1/tokenize", json=long, headers=headers).status_code == 413
