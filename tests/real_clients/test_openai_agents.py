"""OpenAI's agents SDK on chat and on Responses, whole and streamed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.real_clients.environments import Talk, environment
from tests.real_clients.recording import Recorded
from tests.real_clients.session import BUDGET, WORDS, check_prompts, check_turns

SYSTEM = "Answer in English."
PATHS = {"chat": "/v1/chat/completions", "responses": "/v1/responses"}
BODY = {"extra_body": {"budget": BUDGET}}


@pytest.fixture(scope="module")
def client() -> Iterator[Talk]:
    with environment("openai-agents").talking("openai_agents.py") as talk:
        yield talk


def play(client: Talk, server: Recorded, api: str, *, stream: bool = False, **settings: Any) -> Any:
    words = {**WORDS, "system": SYSTEM, "api": api, "stream": stream}
    return client(url=server.url, settings=settings, **words)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("api", PATHS)
def test_two_turns_and_a_tool(client: Talk, server: Recorded, api: str, stream: bool) -> None:
    # Of a chat stream it asks for usage only where that is OpenAI's own, or where told to.
    settings = {**BODY, **({"include_usage": True} if stream and api == "chat" else {})}
    turns = play(client, server, api, stream=stream, **settings)
    check_turns(turns)
    check_prompts(server, system=(SYSTEM,))
    sent = server.posts(PATHS[api])
    assert len(sent) == 3 and all(bool(e.body.get("stream")) == stream for e in sent)
    for turn in turns:
        assert 0 < turn["reasoning_tokens"] < turn["usage"][1] < turn["usage"][0]
        assert (turn["pieces"] > 1) == stream
        assert turn["reasoning"] and all("".join(texts).strip() for texts in turn["reasoning"])


@pytest.mark.parametrize("summary", [None, "auto"])
def test_a_stream_shows_the_reasoning_once(
    client: Talk, server: Recorded, summary: str | None
) -> None:
    asked = {"reasoning": {"summary": summary}} if summary else {}
    turns = play(client, server, "responses", stream=True, **BODY, **asked)
    for turn in turns:
        shown = {kind: text for kind, text in turn["shown"].items() if "reasoning" in kind}
        (kind,) = shown
        assert ("summary" in kind) == (summary is not None), shown
        kept = "".join(text for texts in turn["reasoning"] for text in texts)
        assert shown[kind] == kept and kept.strip()


@pytest.mark.parametrize(("field", "times"), [("reasoning", 1), ("both", 2)])
def test_a_chat_stream_shows_the_reasoning_once_where_it_is_in_one_field(
    client: Talk, server: Recorded, field: str, times: int
) -> None:
    body = {"budget": BUDGET, "reasoning_field": field}
    turns = play(client, server, "chat", stream=True, extra_body=body)
    check_turns(turns)
    for turn in turns:
        shown = [text for kind, text in turn["shown"].items() if "reasoning" in kind]
        assert len(shown) == times and len(set(shown)) == 1 and shown[0].strip()


@pytest.mark.parametrize("api", PATHS)
def test_its_own_words_for_no_reasoning(client: Talk, server: Recorded, api: str) -> None:
    turns = play(client, server, api, reasoning={"effort": "none"})
    check_turns(turns)
    check_prompts(server, budget=False, system=(SYSTEM,))
    assert not any("".join(texts).strip() for turn in turns for texts in turn["reasoning"])
    assert all(turn["reasoning_tokens"] == 0 for turn in turns)
