"""LlamaIndex: its function agent on OpenAILike (chat) and on OpenAIResponses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.real_clients.environments import Talk, environment
from tests.real_clients.recording import Recorded
from tests.real_clients.session import BUDGET, SYSTEM, WORDS, check_prompts, check_turns

BODY = {"additional_kwargs": {"extra_body": {"budget": BUDGET}}}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", BODY),
    "responses": ("/v1/responses", BODY),
}


@pytest.fixture(scope="module")
def client() -> Iterator[Talk]:
    with environment("llama-index").talking("llama_index.py") as talk:
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
    assert len(sent) == 3 and all(bool(e.body.get("stream")) == stream for e in sent)
    assert all((turn["pieces"] > 2) == stream for turn in turns)
