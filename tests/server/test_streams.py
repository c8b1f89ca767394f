"""Streams: the order and form of chunks, usage, heartbeats, and that they tell what JSON tells."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from extracot_server.engine.scripted import stream
from extracot_server.engine.scripted.engine import ScriptedBehaviour
from tests.server.live import Live, collect, read_chunks, read_events, serve, user

REQUESTS: list[dict[str, Any]] = [
    {},
    {"budget": 0.2},
    {"budget": "none"},
    {"budget": "auto", "seed": 3},
    {"budget": {"max_reasoning_tokens": 5}},
    {"n": 3, "seed": 1, "budget": 0.4},
    {"max_tokens": 10},
    {"stop": "boxed", "logprobs": True, "top_logprobs": 2},
    {"response_format": {"type": "json_object"}, "budget": 0.2},
    {"include_reasoning": None, "budget": 0.6, "zebra": 1},
]


@pytest.mark.parametrize("fields", REQUESTS, ids=lambda fields: ",".join(fields) or "plain")
def test_json_and_stream_are_the_same_reply(token_server: Live, fields: dict[str, Any]) -> None:
    reply = token_server.chat(**fields)
    chunks = token_server.chunks(stream_options={"include_usage": True}, **fields)
    for choice in reply["choices"]:
        streamed = collect(chunks, choice["index"])
        if choice["logprobs"] is None:
            streamed["logprobs"] = None
        assert streamed == choice
    assert chunks[-1]["usage"] == reply["usage"]
    assert chunks[-1]["budget"] == reply["budget"]


@pytest.mark.parametrize("bundle", [2, 3, 8, 64])
@pytest.mark.parametrize("text_tags", [False, True])
def test_how_the_engine_bundles_tokens_changes_nothing(bundle: int, text_tags: bool) -> None:
    settings: dict[str, Any] = {"card": "none"} if text_tags else {}
    one = ScriptedBehaviour(tags_as_text=text_tags)
    many = ScriptedBehaviour(tags_as_text=text_tags, tokens_per_delta=bundle)
    requests = [r for r in REQUESTS if r.get("budget") != "auto"]
    with serve(one, **settings) as single, serve(many, **settings) as bundled:
        for fields in [*requests, {"max_tokens": 60}, {"max_tokens": 61, "budget": 1}]:
            expected, got = single.chat(**fields), bundled.chat(**fields)
            for name in ("choices", "usage", "budget"):
                assert got[name] == expected[name], fields


def test_chunks_have_openais_form(token_server: Live) -> None:
    chunks = token_server.chunks(budget=0.2)
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["created"] for chunk in chunks}) == 1
    assert {chunk["model"] for chunk in chunks} == {"scripted"}
    assert all("usage" not in chunk for chunk in chunks)
    first, *rest = [chunk["choices"][0] for chunk in chunks]
    assert first["delta"] == {"role": "assistant", "content": ""}
    assert all("role" not in choice["delta"] for choice in rest)
    finishes = [choice["finish_reason"] for choice in rest]
    assert finishes[-1] == "stop" and set(finishes[:-1]) == {None}
    assert rest[-1]["delta"] == {}
    assert chunks[-1]["budget"]["level"] == "0.2"
    assert all("budget" not in chunk for chunk in chunks[:-1])
    names = [next(iter(choice["delta"]), None) for choice in rest[:-1]]
    assert names == sorted(names, reverse=True)  # reasoning first, then content


def test_each_choice_has_a_role_and_an_end(token_server: Live) -> None:
    chunks = token_server.chunks(n=3, seed=1)
    for index in range(3):
        mine = [c["choices"][0] for c in chunks if c["choices"][0]["index"] == index]
        assert mine[0]["delta"] == {"role": "assistant", "content": ""}
        assert [c["finish_reason"] for c in mine].count("stop") == 1
        assert mine[-1]["finish_reason"] == "stop"


def test_usage_is_null_until_the_last_chunk(token_server: Live) -> None:
    chunks = token_server.chunks(budget=0.2, stream_options={"include_usage": True})
    *others, last = chunks
    assert all(chunk["usage"] is None and chunk["choices"] for chunk in others)
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == (
        last["usage"]["prompt_tokens"] + last["usage"]["completion_tokens"]
    )
    assert last["budget"] == others[-1]["budget"]


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}, {"include_usage": None}])
def test_without_asking_there_is_no_usage_chunk(token_server: Live, options: Any) -> None:
    chunks = token_server.chunks(stream_options=options)
    assert all(chunk["choices"] and "usage" not in chunk for chunk in chunks)


def test_headers_of_a_stream(token_server: Live) -> None:
    response = token_server.post(stream=True)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-request-id"]
    assert json.loads(response.headers["x-extracot-budget"])["level"] == "native"
    assert response.text.endswith("data: [DONE]\n\n")
    assert response.text.count("[DONE]") == 1


ENDS = "a\u2028b\u2029c\u0085d é \U0001f600"
SCHEMA = {"type": "object", "properties": {"a": {"const": ENDS}}, "required": ["a"]}
NAMED = {"name": "note", "schema": SCHEMA}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (
            "/v1/chat/completions",
            {"messages": user(), "response_format": {"type": "json_schema", "json_schema": NAMED}},
        ),
        (
            "/v1/responses",
            {"input": "x", "text": {"format": {"type": "json_schema", **NAMED}}},
        ),
        (
            "/v1/messages",
            {
                "messages": user(),
                "max_tokens": 2048,
                "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
            },
        ),
    ],
)
def test_an_event_is_one_line_for_those_too_who_know_more_line_ends(
    token_server: Live, path: str, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python's `splitlines` knows eleven; JSON leaves three of them as they are."""
    raw = json.JSONEncoder(ensure_ascii=False).encode  # as a model writes it
    monkeypatch.setattr(stream, "json", SimpleNamespace(dumps=raw))
    field = f"zeb{ENDS}ra"
    response = token_server.http.post(path, json={**body, "stream": True, field: 1})
    assert response.status_code == 200, response.text
    text = response.text
    assert text.splitlines() == text.removesuffix("\n").split("\n")
    found = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    assert json.loads("".join(map(_new_text, found))) == {"a": ENDS}
    assert any(field in raw(event) for event in found)


def _new_text(event: dict[str, Any]) -> str:
    """What an event of any API adds to the answer."""
    if "choices" in event:
        return "".join(choice["delta"].get("content") or "" for choice in event["choices"])
    if event["type"] == "response.output_text.delta":
        return str(event["delta"])
    return str(event["delta"].get("text", "")) if event["type"] == "content_block_delta" else ""


def test_a_silent_stream_has_a_heartbeat() -> None:
    slow = ScriptedBehaviour(token_interval_seconds=0.12)
    with serve(slow, heartbeat_seconds=0.05) as live:
        response = live.post(stream=True, budget="none", max_tokens=4)
        assert ": keep-alive\n\n" in response.text
        chunks = read_chunks(response.text)
        assert collect(chunks)["message"]["content"].startswith("The answer is")


def test_an_error_after_a_heartbeat_is_an_event_though_no_token_came() -> None:
    slow = ScriptedBehaviour(token_interval_seconds=1.0)
    with serve(slow, heartbeat_seconds=0.05) as live:
        body = {"messages": user(), "stream": True}
        with live.http.stream("POST", "/v1/chat/completions", json=body) as response:
            assert response.status_code == 200
            live.loop.call_soon_threadsafe(live.engine.die)
            response.read()
        *_, error, done = read_events(response.text)
        assert (json.loads(error)["error"]["code"], done) == ("engine_unavailable", "[DONE]")


def test_a_busy_stream_has_no_heartbeat(token_server: Live) -> None:
    assert "keep-alive" not in token_server.post(stream=True).text


def test_an_early_refusal_of_the_engine_is_a_status(token_server: Live) -> None:
    error = token_server.post(stream=True, budget="none", response_format=_unknown_type())
    assert error.status_code == 400
    assert error.json()["error"]["param"] == "response_format.json_schema.schema"


def _unknown_type() -> dict[str, Any]:
    schema = {"type": "object", "required": ["a"], "properties": {"a": {"type": "nothing"}}}
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
