"""pydantic-ai on all three APIs, whole and streamed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.real_clients.environments import Talk, environment
from tests.real_clients.recording import Recorded
from tests.real_clients.session import BUDGET, SYSTEM, WORDS, check_prompts, check_turns

PATHS = {"chat": "/v1/chat/completions", "responses": "/v1/responses", "messages": "/v1/messages"}
# On Responses the instructions are a field of their own, which comes before the input.
SYSTEMS = {api: SYSTEM if api != "responses" else (SYSTEM[2], *SYSTEM[:2]) for api in PATHS}
SUMMARY = {"openai_reasoning_summary": "auto"}


@pytest.fixture(scope="module")
def client() -> Iterator[Talk]:
    with environment("pydantic-ai").talking("pydantic_ai.py") as talk:
        yield talk


def play(client: Talk, server: Recorded, api: str, *, stream: bool = False, **settings: Any) -> Any:
    return client(**WORDS, url=server.url, api=api, stream=stream, settings=settings)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("api", PATHS)
def test_two_turns_and_a_tool(client: Talk, server: Recorded, api: str, stream: bool) -> None:
    more = SUMMARY if api == "responses" else {}
    turns = play(client, server, api, stream=stream, extra_body={"budget": BUDGET}, **more)
    check_turns(turns)
    check_prompts(server, system=SYSTEMS[api])
    sent = server.posts(PATHS[api])
    assert len(sent) == 3 and all(e.streams == stream for e in sent)
    for turn in turns:
        assert all(text.strip() for text in turn["reasoning"]), turn
        assert (turn["pieces"] > 1) == stream
        assert turn["usage"][0] > turn["usage"][1] > 0
    assert [len(turn["reasoning"]) for turn in turns] == [2, 1]
    counted = {"messages": "thinking_tokens"}.get(api, "reasoning_tokens")
    assert all(0 < turn["details"][counted] < turn["usage"][1] for turn in turns)


def test_the_system_messages_are_several(client: Talk, server: Recorded) -> None:
    play(client, server, "chat")
    roles = [message["role"] for message in server.posts(PATHS["chat"])[0].body["messages"]]
    assert roles == ["system", "system", "system", "user"]


def test_reasoning_is_not_sent_back_as_the_users_words(client: Talk, server: Recorded) -> None:
    turns = play(client, server, "messages")
    texts = [text.strip() for turn in turns for text in turn["reasoning"]]
    last = server.posts(PATHS["messages"])[-1].body["messages"]
    users = str([message for message in last if message["role"] == "user"])
    assert texts and not any(text[:40] in users for text in texts), users


@pytest.mark.parametrize(
    ("api", "settings"),
    [
        ("chat", {"openai_reasoning_effort": "none"}),
        ("responses", {"openai_reasoning_effort": "none"}),
        ("messages", {"anthropic_thinking": {"type": "disabled"}}),
    ],
)
def test_its_own_words_for_no_reasoning(
    client: Talk, server: Recorded, api: str, settings: dict[str, Any]
) -> None:
    turns = play(client, server, api, **settings)
    check_turns(turns)
    check_prompts(server, budget=False, system=SYSTEMS[api])
    assert not any(text.strip() for turn in turns for text in turn["reasoning"])
