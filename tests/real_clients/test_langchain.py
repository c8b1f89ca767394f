"""LangChain: its agent on ChatOpenAI (chat and Responses) and ChatAnthropic, whole and streamed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.real_clients.environments import Talk, environment
from tests.real_clients.recording import Recorded
from tests.real_clients.session import BUDGET, SYSTEM, WORDS, check_prompts, check_turns

BODY = {"extra_body": {"budget": BUDGET}}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    # For a base_url that is not OpenAI's, LangChain asks for no usage in streams by itself.
    "chat": ("/v1/chat/completions", {**BODY, "stream_usage": True}),
    "responses": ("/v1/responses", {"reasoning": {"effort": "low", "summary": "auto"}}),
    "messages": ("/v1/messages", {"model_kwargs": BODY}),
}


@pytest.fixture(scope="module")
def client() -> Iterator[Talk]:
    with environment("langchain").talking("langchain.py") as talk:
        yield talk


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("api", MODELS)
def test_two_turns_and_a_tool(client: Talk, server: Recorded, api: str, stream: bool) -> None:
    path, settings = MODELS[api]
    words = {**WORDS, "system": SYSTEM, "settings": settings}
    turns = client(url=server.url, api=api, stream=stream, **words)
    check_turns(turns)
    check_prompts(server, system=SYSTEM)
    sent = server.posts(path)
    assert len(sent) == 3 and all(e.streams == stream for e in sent)
    for turn in turns:
        for usage in turn["usage"]:
            reasoning = usage["output_token_details"]["reasoning"]
            assert 0 < reasoning < usage["output_tokens"] < usage["input_tokens"]
        assert (turn["pieces"] > 2) == stream
        # ChatOpenAI has no place for the reasoning of a chat completion.
        assert all(bool(text.strip()) == (api != "chat") for text in turn["reasoning"])


@pytest.mark.parametrize(
    ("api", "settings"),
    [
        ("chat", {"reasoning_effort": "none"}),
        ("responses", {"reasoning": {"effort": "none", "summary": "auto"}}),
        ("messages", {"thinking": {"type": "disabled"}}),
    ],
)
def test_its_own_words_for_no_reasoning(
    client: Talk, server: Recorded, api: str, settings: dict[str, Any]
) -> None:
    words = {**WORDS, "system": SYSTEM, "settings": settings}
    turns = client(url=server.url, api=api, stream=False, **words)
    check_turns(turns)
    check_prompts(server, budget=False, system=SYSTEM)
    assert not any(text.strip() for turn in turns for text in turn["reasoning"])
    counted = [
        usage["output_token_details"].get("reasoning") for t in turns for usage in t["usage"]
    ]
    assert not any(counted)
