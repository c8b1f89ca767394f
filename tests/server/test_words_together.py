"""Words of a budget beside others: which go together, and which are a contradiction."""

from __future__ import annotations

from typing import Any

import pytest

from tests.server.live import Live
from tests.server.test_budget_words import BODIES, CHAT, MESSAGES, RESPONSES


@pytest.mark.parametrize("budget", [{"closing": "So:"}, {"enforce": "hard"}])
@pytest.mark.parametrize("word", [{"enable_thinking": False}, {"thinking_budget": 0}])
def test_how_reasoning_would_end_asks_for_none_of_it(
    token_server: Live, budget: dict[str, Any], word: dict[str, Any]
) -> None:
    report = token_server.chat(budget=budget, **word)["budget"]
    assert (report["level"], report["reasoning_tokens"]) == ("none", 0)
    assert report["requested"] == {"ratio": "none", **budget}
    report = token_server.chat(model="scripted@none", budget=budget, **word)["budget"]
    assert report["reasoning_tokens"] == 0


@pytest.mark.parametrize(
    ("path", "fields", "names"),
    [
        (
            CHAT,
            {"include_thoughts": True, "reasoning": {"exclude": True}},
            ("include_thoughts", "reasoning.exclude"),
        ),
        (
            CHAT,
            {"include_thoughts": True, "include_reasoning": False},
            ("include_thoughts", "include_reasoning"),
        ),
        (
            CHAT,
            {"include_reasoning": True, "reasoning": {"exclude": True}},
            ("include_reasoning", "reasoning.exclude"),
        ),
        (
            MESSAGES,
            {"include_reasoning": True, "thinking": {"type": "adaptive", "display": "omitted"}},
            ("include_reasoning", "thinking.display"),
        ),
    ],
)
def test_words_that_show_and_hide_disagree(
    token_server: Live, path: str, fields: dict[str, Any], names: tuple[str, str]
) -> None:
    reply = token_server.http.post(path, json={**BODIES[path], **fields})
    assert reply.status_code == 400, reply.text
    assert all(f"`{name}`" in reply.json()["error"]["message"] for name in names)


@pytest.mark.parametrize("path", [CHAT, RESPONSES, MESSAGES])
def test_thinking_as_a_switch(token_server: Live, path: str) -> None:
    """The same on all three APIs, Anthropic's own among them."""
    for value, level in ((False, "none"), (True, "native")):
        reply = token_server.http.post(path, json={**BODIES[path], "thinking": value})
        assert reply.status_code == 200, reply.text
        assert reply.json()["budget"]["level"] == level
