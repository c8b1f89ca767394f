"""``separate_reasoning: false`` and its like: the block stands in the content, on every API."""

from __future__ import annotations

import json
from typing import Any

import pytest

from extracot_server.engine.scripted.engine import ScriptedBehaviour
from tests.server.live import QUESTION, Live, collect, read_chunks, serve, user
from tests.server.test_tools import ASK, WEATHER

CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"messages": user()},
    RESPONSES: {"input": QUESTION},
    MESSAGES: {"messages": user(), "max_tokens": 3000},
}
INSIDE: list[dict[str, Any]] = [
    {"separate_reasoning": False},
    {"separateReasoning": False},
    {"reasoning_format": "raw"},
    {"reasoning_format": "none"},
    {"extra_body": {"separate_reasoning": False}},
]


def ask(live: Live, path: str, **fields: Any) -> Any:
    reply = live.http.post(path, json={**BODIES[path], **fields})
    assert reply.status_code == 200, reply.text
    return reply.json()


def events(live: Live, path: str, **fields: Any) -> list[dict[str, Any]]:
    """The data of a stream's events, on the two APIs that have named ones."""
    text = live.http.post(path, json={**BODIES[path], **fields, "stream": True}).text
    lines = [line for line in text.splitlines() if line.startswith("data: ")]
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def parts(path: str, reply: Any) -> tuple[str | None, str]:
    """Reasoning and content of a whole reply."""
    if path == CHAT:
        message = reply["choices"][0]["message"]
        return message.get("reasoning"), message["content"]
    blocks = reply["output"] if path == RESPONSES else reply["content"]
    thoughts = [block for block in blocks if block["type"] in ("reasoning", "thinking")]
    said = [block for block in blocks if block not in thoughts]
    if path == MESSAGES:
        return (thoughts[0]["thinking"] if thoughts else None), said[0]["text"]
    thought = thoughts[0]["content"][0]["text"] if thoughts else None
    return thought, said[0]["content"][0]["text"]


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("fields", INSIDE, ids=str)
def test_the_block_stands_before_the_answer(
    any_cap_server: Live, path: str, fields: dict[str, Any]
) -> None:
    apart = ask(any_cap_server, path)
    reply = ask(any_cap_server, path, **fields)
    reasoning, answer = parts(path, apart)
    assert reasoning and answer
    assert parts(path, reply) == (None, f"<think>\n{reasoning}\n</think>\n\n{answer}")
    assert reply["usage"] == apart["usage"]
    assert reply["budget"] == apart["budget"]


@pytest.mark.parametrize("budget", [0.4, "auto", "none"])
def test_a_stream_has_the_same_content(token_server: Live, budget: Any) -> None:
    fields = {"separate_reasoning": False, "budget": budget}
    for path in (RESPONSES, MESSAGES):
        found = events(token_server, path, **fields)
        written = [event.get("delta") for event in found if "delta" in event]
        texts = [part if isinstance(part, str) else part.get("text", "") for part in written]
        assert "".join(texts) == parts(path, ask(token_server, path, **fields))[1]
    reply = token_server.http.post(CHAT, json={**BODIES[CHAT], **fields, "stream": True})
    message = collect(read_chunks(reply.text))["message"]
    assert (message["reasoning"], message["content"]) == (
        None,
        parts(CHAT, ask(token_server, CHAT, **fields))[1],
    )
    assert message["content"].startswith("<think>\n") is (budget != "none")


def test_each_choice_has_its_own_block(token_server: Live) -> None:
    fields: dict[str, Any] = {"n": 2, "seed": 5, "temperature": 1.0, "budget": 0.4}
    apart = ask(token_server, CHAT, **fields)["choices"]
    inside = ask(token_server, CHAT, separate_reasoning=False, **fields)["choices"]
    for one, other in zip(apart, inside, strict=True):
        said = one["message"]
        block = f"<think>\n{said['reasoning']}\n</think>\n\n"
        assert other["message"]["content"] == block + said["content"]


def test_a_reply_that_breaks_off_leaves_its_block_open() -> None:
    with serve(ScriptedBehaviour(never_close=True), answer_reserve_tokens=0) as live:
        reply = ask(live, CHAT, separate_reasoning=False, max_tokens=20)
    content = parts(CHAT, reply)[1]
    assert reply["budget"]["unclosed"] is True
    assert content.startswith("<think>\n") and "</think>" not in content


def test_calls_come_after_the_block() -> None:
    with serve(tool_parser="hermes") as live:
        fields = {"messages": ASK, "tools": [WEATHER], "separate_reasoning": False}
        message = ask(live, CHAT, **fields)["choices"][0]["message"]
    assert message["tool_calls"][0]["function"]["name"] == "get_weather"
    assert message["content"].startswith("<think>\n")
    assert message["content"].rstrip().endswith("</think>")


def test_such_a_reply_may_be_sent_back(token_server: Live) -> None:
    content = parts(CHAT, ask(token_server, CHAT, separate_reasoning=False))[1]
    answer = content.partition("</think>\n\n")[2]
    for said in (content, answer):
        earlier = [*user(), {"role": "assistant", "content": said}, *user("And 2 + 2?")]
        token_server.chat(messages=earlier)
    second, first = (token_server.engine.requests[-at].token_ids for at in (1, 2))
    assert first == second


@pytest.mark.parametrize("path", BODIES)
def test_what_is_hidden_is_in_no_content(token_server: Live, path: str) -> None:
    for fields in ({"include_reasoning": False}, {"reasoning_format": "hidden"}):
        content = parts(path, ask(token_server, path, **fields, separate_reasoning=False))[1]
        assert content == parts(path, ask(token_server, path))[1]


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"separate_reasoning": "no"}, ["separate_reasoning"]),
        ({"separate_reasoning": 0}, ["separate_reasoning"]),
        ({"reasoning_format": "inline"}, ["reasoning_format"]),
        (
            {"separate_reasoning": True, "reasoning_format": "raw"},
            ["separate_reasoning", "reasoning_format"],
        ),
    ],
    ids=str,
)
def test_wrong_values(
    token_server: Live, path: str, fields: dict[str, Any], names: list[str]
) -> None:
    reply = token_server.http.post(path, json={**BODIES[path], **fields})
    assert reply.status_code == 400
    assert all(f"`{name}`" in reply.json()["error"]["message"] for name in names)


def test_fields_of_chat_that_it_contradicts(token_server: Live) -> None:
    for other in ({"logprobs": True}, {"reasoning_field": "reasoning"}):
        error = token_server.refused(messages=user(), separate_reasoning=False, **other)
        (name,) = other
        assert f"`{name}`" in error["message"] and "separate_reasoning" in error["message"]
    apart = token_server.chat(separate_reasoning=True, logprobs=True)
    assert apart["choices"][0]["message"]["reasoning"]
