"""Vercel's AI SDK with its four models for servers like this one, whole and streamed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.real_clients.environments import Talk, environment
from tests.real_clients.recording import Recorded
from tests.real_clients.session import BUDGET, WORDS, check_prompts, check_turns

CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
SYSTEM = "Answer in English."
# The SDK sends an effort, and asks for summaries, only for models whose names it knows, or so.
EFFORT = {"forceReasoning": True, "reasoningEffort": "low"}
BUDGETS: dict[str, tuple[str, dict[str, Any]]] = {
    "compatible": (CHAT, {"scripted": {"budget": BUDGET}}),
    "chat": (CHAT, {"openai": EFFORT}),
    "responses": (RESPONSES, {"openai": EFFORT}),
    "messages": (MESSAGES, {"anthropic": {"effort": "low"}}),
}


@pytest.fixture(scope="module")
def client() -> Iterator[Talk]:
    with environment("ai-sdk").talking("ai_sdk.mjs") as talk:
        yield talk


def play(
    client: Talk, server: Recorded, model: str, options: Any = None, *, stream: bool = False
) -> Any:
    words = {**WORDS, "url": server.url, "model": model, "system": SYSTEM}
    return client(**words, stream=stream, options=options or {})


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("model", BUDGETS)
def test_two_turns_and_a_tool(client: Talk, server: Recorded, model: str, stream: bool) -> None:
    path, options = BUDGETS[model]
    turns = play(client, server, model, options, stream=stream)
    check_turns(turns)
    check_prompts(server, system=(SYSTEM,))
    sent = server.posts(path)
    assert len(sent) == 3 and all(e.streams == stream for e in sent)
    for turn in turns:
        assert 0 < turn["reasoning_tokens"] < turn["usage"][1] < turn["usage"][0]
        assert (turn["pieces"] > 1) == stream
        # OpenAI's own chat model has no place for reasoning, so the SDK shows none.
        assert all(bool(text.strip()) == (model != "chat") for text in turn["reasoning"])


def test_responses_refer_to_items_of_earlier_turns(client: Talk, server: Recorded) -> None:
    check_turns(play(client, server, "responses"))
    check_prompts(server, budget=False, system=(SYSTEM,))
    types = [[item.get("type") for item in e.body["input"]] for e in server.posts(RESPONSES)]
    assert "item_reference" in types[1] and types[2].count("item_reference") > 1


def test_responses_that_are_not_stored(client: Talk, server: Recorded) -> None:
    turns = play(client, server, "responses", {"openai": {"store": False, **EFFORT}})
    check_turns(turns)
    check_prompts(server, system=(SYSTEM,))
    sent = [e.body for e in server.posts(RESPONSES)]
    assert {str(body["include"]) for body in sent} == {"['reasoning.encrypted_content']"}
    assert "item_reference" not in str(sent)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("compatible", {"scripted": {"reasoningEffort": "none"}}),
        ("chat", {"openai": {**EFFORT, "reasoningEffort": "none"}}),
        ("responses", {"openai": {**EFFORT, "reasoningEffort": "none"}}),
        ("messages", {"anthropic": {"thinking": {"type": "disabled"}}}),
    ],
)
def test_its_own_words_for_no_reasoning(
    client: Talk, server: Recorded, model: str, options: Any
) -> None:
    turns = play(client, server, model, options)
    check_turns(turns)
    check_prompts(server, budget=False, system=(SYSTEM,))
    assert not any(text.strip() for turn in turns for text in turn["reasoning"])


def test_a_budget_in_tokens_is_a_cap(client: Talk, server: Recorded) -> None:
    thinking = {"type": "enabled", "budgetTokens": 1024}
    turns = play(client, server, "messages", {"anthropic": {"thinking": thinking}}, stream=True)
    check_turns(turns)
    assert all(e.body["thinking"]["budget_tokens"] == 1024 for e in server.posts(MESSAGES))
