"""inspect-ai on all three APIs, with each of its models for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.real_clients.environments import Talk, environment
from tests.real_clients.recording import Recorded
from tests.real_clients.session import BUDGET, SYSTEM, WORDS, check_prompts, check_turns

BODY = {"extra_body": {"budget": BUDGET}}
RESPONSES = {"responses_api": True}
# Each takes a budget in its own way: `extra_body` of the configuration does not reach Responses,
# and for Anthropic it is an argument of the model.
MODELS: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    "openai-api": ("openai-api/extracot/scripted", "/v1/chat/completions", {}, BODY),
    "responses": ("openai/scripted", "/v1/responses", RESPONSES, {"reasoning_effort": "low"}),
    "anthropic": ("anthropic/scripted", "/v1/messages", BODY, {}),
    "vllm": ("vllm/scripted", "/v1/chat/completions", {}, BODY),
}


@pytest.fixture(scope="module")
def client() -> Iterator[Talk]:
    with environment("inspect-ai").talking("inspect_ai.py") as talk:
        yield talk


def play(client: Talk, server: Recorded, model: str, settings: dict[str, Any]) -> Any:
    name, _, arguments, _ = MODELS[model]
    words = {**WORDS, "system": SYSTEM, "arguments": arguments}
    return client(url=server.url, model=name, settings=settings, **words)


def forget_the_probe(server: Recorded) -> None:
    """Before the first Responses request it asks whether the model can summarise its reasoning."""
    if "hello, world" in server.prompts()[0]:
        del server.exchanges[0], server.live.engine.requests[0]


@pytest.mark.parametrize("model", MODELS)
def test_two_turns_and_a_tool(client: Talk, server: Recorded, model: str) -> None:
    _, path, _, settings = MODELS[model]
    turns = play(client, server, model, settings)
    check_turns(turns)
    forget_the_probe(server)
    check_prompts(server, system=SYSTEM)
    assert len(server.posts(path)) == 3
    for turn in turns:
        assert all(text.strip() for text in turn["reasoning"]), turn
        assert turn["usage"][0] > turn["usage"][1] > 0


def test_responses_ask_for_what_is_encrypted(client: Talk, server: Recorded) -> None:
    play(client, server, "responses", {"reasoning_effort": "low", "reasoning_summary": "auto"})
    forget_the_probe(server)
    sent = [e.body for e in server.posts("/v1/responses")]
    assert all("reasoning.encrypted_content" in body["include"] for body in sent)
